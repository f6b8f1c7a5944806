"""Names of archives: the rule, how messages name an archive and its bases, and what a reader takes (ADR 0076)."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from common.archive import inventory_file, naming, receipt, rerequest
from common.archive.inventory import MAX_BASES, MAX_CREATED, BaseRecord, Inventory
from common.archive.naming import MAX_LENGTH, base_label, base_labels, heading_of, label, short, suggestion
from common.errors import ArchiveDamagedError, UsageError
from common.oci.image import Digest
from tests.fakes.archives import CUT
from tests.samples import more

RAW = inventory_file.encode(CUT.inventory(CUT.layout()))
ONE, TWO, THREE = (Digest(f"sha256:{digit * 64}") for digit in "123")
BAD = ["", "../x", "week 47", "-x", "x-", ".x", "week\n47", "\x1b[31m", "a\u202eb", "wöche", "week-47/x", "a:b", "Ⅳ", "x" * 64]
DATE = "2026-11-23T10:00:00Z"


def read(**fields: object) -> Inventory:
    return inventory_file.decode(json.dumps(json.loads(RAW) | fields).encode(), "inventory.json")


@pytest.mark.parametrize("text", ["week-47", "a", "2026-11", "W_47.b", "x" * MAX_LENGTH, *more(["0", "A.B"])])
def test_a_name_is_a_value_of_a_label(text):
    assert naming.is_name(text)
    assert read(name=text).name == text


@pytest.mark.parametrize("text", BAD)
def test_another_text_is_no_name_and_makes_an_inventory_unusable(text):
    assert not naming.is_name(text)
    with pytest.raises(ArchiveDamagedError, match="not a name of an archive"):
        read(name=text)
    # An empty one is absent there, where it is one of several fields.
    if text:
        with pytest.raises(ArchiveDamagedError, match="not a name of an archive"):
            read(bases={ONE: {"name": text}})


@pytest.mark.parametrize("text", BAD)
def test_the_nearest_name_is_one_or_nothing(text):
    found = suggestion(text)
    assert found == "" or naming.is_name(found)


def test_the_nearest_name():
    assert suggestion("week 47") == "week-47"
    assert suggestion("../wöche 47 ") == "woche-47"
    assert suggestion("\u202e …") == ""
    assert len(suggestion("x y" * 100_000)) <= MAX_LENGTH


def test_name_date_and_first_digits_stand_together():
    assert label(ONE, "week-47", DATE) == "week-47 of 2026-11-23 (sha256:111111111111…)"
    assert label(ONE, "", DATE) == "archive of 2026-11-23 (sha256:111111111111…)"
    # Nothing else is known: the whole digest.
    assert label(ONE, "", "") == ONE
    # A stranger's date is any text.
    assert label(ONE, "", "\x1b[2J yesterday") == ONE
    assert label(ONE, "week-47", "\u202e") == "week-47 (sha256:111111111111…)"


def test_the_heading_has_the_whole_digest():
    inventory = CUT.inventory(CUT.layout())
    assert heading_of(inventory, ONE) == f"archive of 2026-01-31, {ONE}"
    assert heading_of(replace(inventory, name="week-47"), ONE) == f"archive week-47 of 2026-01-31, {ONE}"


def test_bases_are_in_the_order_of_their_dates():
    bases = {ONE: BaseRecord("2026-11-23T10:00:00Z", "b"), TWO: BaseRecord("2026-11-16T10:00:00Z", "a")}
    assert base_labels([ONE, TWO, THREE], bases) == [
        THREE,
        f"a of 2026-11-16 ({short(TWO)})",
        f"b of 2026-11-23 ({short(ONE)})",
    ]


def test_a_receipt_is_named_by_the_archives_that_it_confirms():
    bases = {ONE: BaseRecord(confirms=(TWO, THREE)), TWO: BaseRecord(DATE, "week-47")}
    assert base_label(ONE, bases) == f"receipt {short(ONE)} of {short(THREE)}, week-47 of 2026-11-23"
    assert base_label(ONE, {ONE: BaseRecord(confirms=())}) == f"receipt {short(ONE)}"
    inventory = replace(CUT.inventory(CUT.layout()), bases=bases)
    assert naming.holder_of(inventory, ONE).startswith("the content confirmed by receipt sha256:1")
    assert naming.holder_of(inventory, TWO) == f"the earlier archive week-47 of 2026-11-23 ({short(TWO)})"
    assert naming.holder_of(inventory, THREE) == f"the earlier archive {THREE}"
    unnamed = replace(inventory, bases={TWO: BaseRecord(DATE)})
    assert naming.holder_of(unnamed, TWO) == f"the earlier archive of 2026-11-23 ({short(TWO)})"


def test_a_reader_has_limits_for_bases():
    many = {f"sha256:{number:064x}": {} for number in range(MAX_BASES)}
    assert len(read(bases=many).known_bases) == MAX_BASES
    with pytest.raises(ArchiveDamagedError, match=f"{MAX_BASES + 1} earlier archives are described; the limit is {MAX_BASES}"):
        read(bases=many | {ONE: {}})
    with pytest.raises(ArchiveDamagedError, match="earlier archives are described"):
        read(bases={ONE: {"confirms": list(many)}})
    read(bases={ONE: {"created": "x" * MAX_CREATED}})
    with pytest.raises(ArchiveDamagedError, match=f"a date of {MAX_CREATED + 1} characters"):
        read(bases={ONE: {"created": "x" * (MAX_CREATED + 1)}})
    with pytest.raises(ArchiveDamagedError):
        read(bases={"sha256:no digest": {}})
    with pytest.raises(ArchiveDamagedError):
        read(bases={ONE: {"confirms": ["sha256:../../x"]}})


def test_without_name_and_bases_an_archive_has_the_same_bytes_as_before():
    assert not {"name", "bases"} & json.loads(RAW).keys()


def test_a_receipt_describes_its_archives_alone_and_is_read_without_them(tmp_path):
    made = receipt.make((ONE,), {}, None, {ONE: BaseRecord(DATE, "week-47"), TWO: BaseRecord(DATE)})
    path = tmp_path / "receipt.json"
    path.write_bytes(receipt.encode(made))
    assert receipt.load(path)[1].archives == {ONE: BaseRecord(DATE, "week-47")}
    path.write_bytes(receipt.encode(receipt.make((ONE,), {}, None)))
    assert "archives" not in json.loads(path.read_bytes())
    assert receipt.load(path)[1].archives == {}
    path.write_bytes(receipt.encode(replace(made, archives={ONE: BaseRecord(DATE, "../x")})))
    with pytest.raises(UsageError, match="not a name of an archive"):
        receipt.load(path)


def test_a_re_request_has_name_and_date_of_the_archive(tmp_path):
    inventory = replace(CUT.inventory(CUT.layout()), name="week-47")
    made = rerequest.make(inventory, ONE, inventory.blobs)
    path = tmp_path / "again.json"
    path.write_bytes(rerequest.encode(made))
    assert rerequest.load(path).bases == {ONE: BaseRecord(inventory.created, "week-47")}
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"name": "a\u202eb"}))
    with pytest.raises(UsageError, match="not a name of an archive"):
        rerequest.load(path)
    # That of an earlier version has neither.
    path.write_text(json.dumps({key: value for key, value in document.items() if key not in ("name", "created")}))
    assert rerequest.load(path).bases == {}
