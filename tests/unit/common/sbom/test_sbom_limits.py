"""Limits of SBOMs: a document at each is read, one beyond it is refused by name; and what hostile ones cost."""

from __future__ import annotations

import gzip
import sys
import time
import tracemalloc

import pytest

from common.archive.inventory import ImageKind, ImageRecord
from common.errors import ContentError, ExitCode, of_problems
from common.oci.image import Descriptor, digest_of
from common.sbom import document, envelope, software
from common.sbom.document import Package, read
from common.sbom.envelope import unwrapped
from common.sbom.find import Carriage, Carried
from common.sbom.software import ImageSoftware, Selection, Software
from exporter.report import software as page
from tests.fakes import sboms
from tests.samples import more

DIGEST = digest_of(b"image")


def spdx(packages: bytes) -> bytes:
    return b'{"spdxVersion":"SPDX-2.3","packages":[' + packages + b"]}"


def refused(raw: bytes) -> str:
    with pytest.raises(ContentError) as raised:
        read(raw)
    return raised.value.message


CYCLONEDX = b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":[%b]}'


def test_more_packages_than_any_image_has():
    assert refused(spdx(b",".join([b"{}"] * (document.MAX_PACKAGES + 1)))) == "more than 100000 packages"


@pytest.mark.more
def test_as_many_packages_as_are_read():
    assert len(read(spdx(b",".join([b"{}"] * document.MAX_PACKAGES))).packages) == document.MAX_PACKAGES
    nested = b'{"components":[' + b",".join([b"{}"] * (document.MAX_PACKAGES - 1)) + b"]}"
    assert len(read(CYCLONEDX % nested).packages) == document.MAX_PACKAGES
    assert refused(CYCLONEDX % (nested + b",{}")) == "more than 100000 packages"


@pytest.mark.more
def test_objects_and_values_within_packages():
    references = b'{"externalRefs":[%b]}' % b",".join([b"{}"] * (document.MAX_OBJECTS - 1))
    assert len(read(spdx(references)).packages) == 1
    assert "JSON objects" in refused(spdx(references + b",{}"))
    values = b'{"x":[%b]}' % b",".join([b"0"] * (document.MAX_VALUES + 1))
    assert len(read(spdx(values)).packages) == 1
    assert "values" in refused(spdx(values + b",{}"))


@pytest.mark.more
def test_bytes_of_a_document():
    raw = spdx(b"")
    assert read(raw + b" " * (document.MAX_SIZE - len(raw))).packages == []
    assert str(document.MAX_SIZE) in refused(raw + b" " * (document.MAX_SIZE - len(raw) + 1))
    text = b"SPDXVersion: SPDX-2.3\nPackageName: a\n"
    assert len(read(text + b"\n" * (document.MAX_TAG_VALUE - len(text))).packages) == 1
    assert "tag-value" in refused(text + b"\n" * (document.MAX_TAG_VALUE - len(text) + 1))


def test_what_a_document_says_about_itself():
    def made(size: int) -> bytes:
        return b'{"spdxVersion":"SPDX-2.3","creationInfo":"' + b"x" * (size - 2) + b'"}'

    assert "what it says about itself" in refused(made(document.MAX_HEAD + 1))
    assert "not JSON as an SBOM has it" in refused(made(document.MAX_HEAD))  # a text in place of an object
    hashes = b'{"bomFormat":"CycloneDX","metadata":{"component":{"hashes":[%b]}}}' % b",".join([b"{}"] * 400_000)
    assert "what it says about itself" in refused(hashes)


@pytest.mark.parametrize(
    ("depth", "good"), [(document.MAX_DEPTH, True), (document.MAX_DEPTH + 1, False), (400, False), (100_000, False)]
)
def test_components_within_components(depth, good):
    nested = '{"name":"a","components":[' * depth + '{"name":"b"}' + "]}" * depth
    raw = f'{{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{nested}]}}'.encode()
    if good:
        assert len(read(raw).packages) == depth + 1
    else:
        assert "nest deeper" in refused(raw) or "not JSON" in refused(raw)


def test_subjects_of_a_statement():
    def made(count: int) -> bytes:
        return sboms.dumped(sboms.statement(sboms.SPDX_PREDICATE, sboms.spdx([]), *[DIGEST] * count))

    assert unwrapped(made(envelope.MAX_SUBJECTS)).subjects == {DIGEST}
    with pytest.raises(ContentError, match="subjects"):
        unwrapped(made(envelope.MAX_SUBJECTS + 1))


def test_digests_of_a_subject():
    """One subject with millions of digests takes a gigabyte when it is decoded."""

    def made(size: int) -> bytes:
        digests = b",".join(b'"k%d":""' % number for number in range(size // 12))
        subject = b'[{"digest":{%b}}%b]' % (digests, b" " * (size - len(digests) - 15))
        return b'{"predicateType":"https://spdx.dev/Document","predicate":{},"subject":%b}' % subject

    assert unwrapped(made(envelope.MAX_SUBJECTS_SIZE)).subjects == frozenset()
    with pytest.raises(ContentError, match=f"the limit is {envelope.MAX_SUBJECTS_SIZE}"):
        unwrapped(made(envelope.MAX_SUBJECTS_SIZE + 1))


def test_long_texts_are_cut():
    lengths = (document.MAX_NAME, document.MAX_VERSION, document.MAX_LICENCE, document.MAX_PURL)
    purl = "pkg:rpm/" + "p" * (document.MAX_PURL - 8)
    exact = sboms.package("n" * document.MAX_NAME, "v" * document.MAX_VERSION, "l" * document.MAX_LICENCE, purl)
    longer = {key: value + "x" * 10_000 if isinstance(value, str) else value for key, value in exact.items()}
    longer["externalRefs"] = [{"referenceType": "purl", "referenceLocator": purl + "x" * 10_000}]
    for each, cut in ((exact, False), (longer, True)):
        (found,) = read(sboms.dumped(sboms.spdx([each]))).packages
        texts = (found.name, found.version, found.licence, found.purl)
        assert tuple(map(len, texts)) == lengths
        assert all(text.endswith("…") is cut for text in texts if text is not found.licence or cut)


@pytest.mark.parametrize("size", [50_000, *more([4_000_000])])
def test_hostile_documents_take_a_small_multiple_of_their_bytes(size):
    """What two bytes stand for takes hundreds in memory: refused before it is decoded, or decoded piece by piece."""
    hostile = [
        spdx(b",".join([b"0"] * (size // 2))),
        spdx(b",".join([b"[]"] * (size // 3))),
        spdx(b'{"externalRefs":[' + b",".join([b"{}"] * (size // 3)) + b"]}"),
        b'{"spdxVersion":"SPDX-2.3","creationInfo":{"creators":[' + b",".join([b'""'] * (size // 3)) + b"]}}",
        b'{"payloadType":"application/vnd.in-toto+json","payload":"' + b"A" * size + b'"}',
        b'{"dsseEnvelope":' * (size // 16),
        b"[" * size,
        b"SPDXVersion: SPDX-2.3\n" + b"<text>" * (size // 6),
        b"SPDXVersion: SPDX-2.3\n" + b"PackageName: a\n" * (size // 15),
    ]
    for raw in hostile:
        tracemalloc.start()
        try:
            inner = unwrapped(raw)
            assert inner is not None
            read(inner.document)
        except ContentError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 40 * size, raw[:40]


def carried(*images: str) -> Software:
    records = [
        ImageRecord(f"registry.test/{name}:v1", DIGEST, "", ImageKind.RELATED, (), complete=True, needed_by=(), size=0)
        for name in images
    ]
    return Software([ImageSoftware(DIGEST, [record]) for record in records])


def test_a_result_has_room_for_so_many():
    full = carried("one")
    full.pairs = software.MAX_PAIRS - 1
    assert (full.has_room(1), full.has_room(2)) == (True, False)
    full.packages = dict.fromkeys(range(software.MAX_DISTINCT))
    assert not full.has_room(0)


def some(count: int, size: int = 1) -> list[Package]:
    return [Package(f"p{number}", "1", "rpm", "MIT", "x" * size) for number in range(count)]


def test_the_packages_of_a_result_are_counted_with_those_of_the_next_document():
    """A document has up to 100,000 packages: a result that was nearly full held a fifth more than its limit."""
    found = carried("one")
    found.packages = dict.fromkeys(range(software.MAX_DISTINCT - 2))
    assert (found.takes(some(2), 1), found.takes(some(3), 1)) == (True, False)
    software._add(found, some(2), 0)
    assert len(found.packages) == software.MAX_DISTINCT
    assert found.takes(some(2), 1), "known ones take no more room"
    assert not found.has_room(1), "no further document is read"


def test_the_memory_of_a_result():
    """Packages with the longest names, of characters of four bytes, take 36 KiB each: 17 GiB for as many as are counted."""
    found, wide = carried("one"), [Package("n", "1", "rpm", "MIT", f"\U0001f600{number}" + "x" * 490) for number in range(10)]
    held = sum(sys.getsizeof(text) for package in wide for text in package)
    assert held > 20_000
    found.held = software.MAX_HELD - held
    assert found.takes(wide, 1)
    software._add(found, wide, 0)
    assert found.held == software.MAX_HELD
    assert (found.takes(wide, 1), found.takes(some(1), 1)) == (True, False)


def test_the_sboms_of_a_result():
    """A thousand indexes may share a thousand manifests, each with an attachment: a million entries of the JSON."""
    found = carried("one", "two")
    one = Carried(Descriptor(sboms.SPDX, DIGEST, 1), Carriage.REFERRER, DIGEST, (DIGEST,), frozenset())
    good, bad = software.ReadSbom(one), software.ReadSbom(one, error="broken")
    found.listed = software.MAX_LISTED - 1
    assert (found.attach(bad, 0), found.attach(bad, 0)) == (True, False)
    # What an image is called, without an SBOM or with one that was read, stays right beyond the limit.
    assert (found.attach(good, 0), found.attach(good, 0), found.attach(bad, 1)) == (True, False, True)
    assert ([image.state for image in found.images], found.unlisted) == (["read", "unread"], 2)
    software._refuse(found, one, [0, 1], ContentError("broken"))
    assert (found.problems, found.unlisted) == ([], 4)
    problem = software._too_many(DIGEST, found)
    assert "4 SBOMs of images not listed" in problem.message
    assert of_problems([problem]) is ExitCode.PROBLEMS


def test_a_result_has_so_many_licences():
    """A document of some megabytes may name 160 licences for each of its packages, each once."""

    def named(count: int) -> list[Package]:
        return [
            Package(f"p{at}", "1", "rpm", " OR ".join(f"L{number}" for number in range(at, min(at + 25, count))), "")
            for at in range(0, count, 25)
        ]

    found = carried("one")
    assert found.takes(named(software.MAX_LICENCES), 1)
    assert not found.takes(named(software.MAX_LICENCES + 1), 1)
    # As often as it has licences: the lists of images and operators of each licence are as long.
    found.pairs = software.MAX_PAIRS - 24
    assert not found.takes(named(25), 1)
    found.pairs -= 1
    assert found.takes(named(25), 1)


class Archive:
    """An archive that has one blob."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def content(self, _digest):
        yield self.raw


def test_what_is_read_is_counted_as_it_is_decompressed():
    """A megabyte of an archive may have a gigabyte of SBOMs: the limit of the page would be hours of CPU."""
    raw = sboms.dumped(sboms.spdx([sboms.rpm("bash", "1", "MIT")])) + b" " * 1_000_000
    archive, found = Archive(gzip.compress(raw)), carried("one")
    one = Carried(Descriptor(sboms.SPDX, DIGEST, len(archive.raw)), Carriage.ATTACHMENT, DIGEST, (DIGEST,), frozenset())
    software._take(found, [(one, [0])], archive, Selection())
    assert (found.size, len(found.packages)) == (len(raw), 1)
    assert not Selection(size=1_000_000).takes(len(archive.raw), found.size)
    small = carried("one")
    software._take(small, [(one, [0])], archive, Selection(largest=len(raw) - 1))
    assert (small.packages, small.unread, small.images[0].state) == ({}, 1, "unread")


def test_an_sbom_of_each_manifest_of_an_index_is_added_once():
    """A thousand manifests with the same SBOM of 100,000 packages took minutes."""
    raw = sboms.dumped(sboms.spdx([sboms.rpm(f"p{number}", "1", "MIT") for number in range(2_000)]))
    found = carried("one")
    one = Carried(Descriptor(sboms.SPDX, DIGEST, len(raw)), Carriage.REFERRER, DIGEST, (DIGEST,), frozenset())
    began = time.process_time()
    software._take(found, [(one, [0])] * 10_000, Archive(raw), Selection())
    assert (found.pairs, len(found.packages), len(found.images[0].sboms)) == (2_000, 2_000, 10_000)
    assert time.process_time() - began < 1


def test_the_page_reads_so_much():
    selection = Selection(size=page.MAX_READ, largest=page.MAX_LARGEST)
    assert selection.takes(page.MAX_LARGEST, page.MAX_READ - page.MAX_LARGEST)
    assert not selection.takes(page.MAX_LARGEST + 1, 0)
    assert not selection.takes(1, page.MAX_READ)
    assert Selection().takes(software.MAX_WRAPPED, software.MAX_WRAPPED)


@pytest.mark.parametrize("more_than", [0, 1])
def test_the_page_has_so_many_rows(more_than):
    found = carried("one")
    for number in range(page.MAX_ROWS + more_than):
        licence = f"LicenseRef-{number % (page.MAX_LICENCES + more_than)}"
        found.packages[Package(f"p{number}", "1", "rpm", licence, "")] = []
    shown = page._shown(found)
    assert (len(shown.rows), shown.packages) == (page.MAX_ROWS, page.MAX_ROWS + more_than)
    assert (len(shown.licences), shown.all_licences) == (page.MAX_LICENCES, page.MAX_LICENCES + more_than)
