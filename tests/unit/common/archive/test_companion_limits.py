"""Files next to an archive, and files that are named: read up to their limits, huge ones not at all."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from common import files, target_profile
from common.archive import parity, receipt, rerequest
from common.archive.discover import find_untrusted
from common.archive.inventory_file import SIGNATURE_NAME
from common.archive.signature import MAX_KEY, MAX_SIGNATURE, Algorithm, SignatureState, Signer, Verifier, make_keys
from common.archive.volume import MAX_VOLUMES
from common.errors import ContentError, HubError, UsageError
from common.serialization import bounded_json
from exporter.archive import output
from exporter.archive.writer import ArchiveWriter
from exporter.distributed import joining, part, plan_file
from exporter.imageset import file as imageset
from tests.fakes.archives import CUT, chunks_of, write
from tests.samples import more

MIRROR = target_profile.TargetRegistry("mirror.test:5000", nested_paths=None, sparse_indexes=None, referrers=None)


def sparse(path: Path, size: int, begin: bytes = b"") -> Path:
    path.write_bytes(begin)
    os.truncate(path, size)
    return path


def test_a_named_file_at_its_limit_and_beyond(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read_limited(tmp_path / "file", 5) == b"12345"
    with pytest.raises(UsageError, match="file: larger than 4 bytes"):
        files.read_limited(tmp_path / "file", 4)
    sparse(tmp_path / "huge", 1 << 42)  # not read: no memory holds it
    with pytest.raises(UsageError, match="huge: larger than"):
        files.read_limited(tmp_path / "huge", (1 << 42) - 1)
    with pytest.raises(UsageError, match="larger than 1000 bytes"):
        files.read_limited(Path("/dev/zero"), 1000)  # has no size


@pytest.mark.parametrize(("size", "fits"), [(5, True), (6, False)])
def test_a_pipe_at_its_limit_and_beyond(tmp_path, size, fits):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"x" * size))
    writer.start()
    try:
        if fits:
            assert files.read_limited(tmp_path / "pipe", 5) == b"x" * size
            return
        with pytest.raises(UsageError, match="larger than 5 bytes"):
            files.read_limited(tmp_path / "pipe", 5)
    finally:
        writer.join(10)


def _plan(folder: Path, size: int) -> None:
    plan_file.load(sparse(folder / "plan.json", size))


def _part(folder: Path, size: int) -> None:
    sparse(folder / part.NAME, size)
    part.read(folder)


def _mark(folder: Path, size: int) -> None:
    joining.Mark(folder, "plan").note({})
    (path,) = folder.iterdir()
    sparse(path, size)
    joining.Mark(folder, "plan").admit(folder)


READERS = {
    "plan": (_plan, plan_file.MAX_SIZE),
    "record of a part": (_part, part.MAX_SIZE),
    "mark of a joining": (_mark, part.MAX_SIZE),
    "target profile": (lambda f, size: target_profile.load(sparse(f / "x", size)), target_profile.MAX_SIZE),
    "image set": (lambda f, size: imageset.read(sparse(f / "x", size)), imageset.MAX_SIZE),
    "receipt": (lambda f, size: receipt.load(sparse(f / "x", size), None), receipt.MAX_SIZE),
    "re-request": (lambda f, size: rerequest.load(sparse(f / "x", size)), rerequest.MAX_SIZE),
}


@pytest.mark.parametrize("kind", [*list(READERS)[:5], *more(list(READERS)[5:])])
def test_documents_beyond_their_limits_are_usage_errors(tmp_path, kind):
    read, limit = READERS[kind]
    with pytest.raises(UsageError, match=r"larger than|more than \d+ bytes"):
        read(tmp_path, limit + 1)


@pytest.mark.parametrize("kind", ["target profile", *more(["record of a part", "mark of a joining", "receipt", "re-request"])])
def test_documents_at_their_limits_are_read(tmp_path, kind):
    """They are zeros, and so something else; a plan would take 2 GiB of memory here."""
    read, limit = READERS[kind]
    with pytest.raises(HubError, match=r"not (a|the) |cannot be read") as caught:
        read(tmp_path, limit)
    assert not re.search(r"larger than|more than \d+ bytes", caught.value.message)


def test_a_target_profile_of_4_mib(tmp_path):
    path = tmp_path / "target.json"
    profile = target_profile.encode(
        target_profile.TargetProfile(target_profile.MEDIA_TYPE, "4.18.7", ("linux/amd64",), (), MIRROR)
    )
    path.write_bytes(profile.ljust(target_profile.MAX_SIZE))
    assert target_profile.load(path).openshift_release == "4.18.7"
    path.write_bytes(profile.ljust(target_profile.MAX_SIZE + 1))
    with pytest.raises(UsageError, match="larger than"):
        target_profile.load(path)


# Keys and signatures


def test_keys_at_their_limit_and_beyond(tmp_path):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    make_keys(private, public, Algorithm.ED25519)
    for path, load in ((private, Signer.load), (public, Verifier.load)):
        raw = path.read_bytes()
        path.write_bytes(raw + b"\n" * (MAX_KEY - len(raw)))
        assert load(path).fingerprint
        path.write_bytes(raw + b"\n" * (MAX_KEY - len(raw) + 1))
        with pytest.raises(UsageError, match=f"larger than {MAX_KEY} bytes"):
            load(path)
        with pytest.raises(UsageError, match="larger than"):
            load(Path("/dev/zero"))  # its size is 0: it was read without an end


def test_a_signature_at_its_limit_and_beyond(tmp_path):
    write(tmp_path, CUT)
    for size, state in ((MAX_SIGNATURE, SignatureState.UNCHECKED), (MAX_SIGNATURE + 1, SignatureState.INVALID)):
        (tmp_path / SIGNATURE_NAME).write_bytes(bytes(size))
        assert find_untrusted([tmp_path]).signature is state


# Parity


def _header(geometry: parity.Geometry) -> bytes:
    return parity.pack(geometry, "0" * 64, b"")


def test_the_parity_of_a_volume_at_its_limit_and_beyond(tmp_path):
    """A sparse file of a kilobyte had the size of the parity of 1 PiB, and 32 GiB were read for its table."""
    share = Fraction(5, 100)
    geometry = parity.Geometry.of(parity.MAX_VOLUME, share)
    assert parity._unpack(_header(geometry), geometry.file_size)[0] == geometry
    assert geometry.table_size < 600 << 20
    for beyond in (
        parity.Geometry.of(parity.MAX_VOLUME + 1, share),
        parity.Geometry(
            parity.MAX_VOLUME, parity.MIN_BLOCK * 4, 1 << 24, 1
        ),  # small blocks, which the format has for small volumes
    ):
        with pytest.raises(ContentError, match="impossible values"):
            parity._unpack(_header(beyond), beyond.file_size)
    beyond = parity.Geometry.of(parity.MAX_VOLUME + 1, share)
    path = sparse(tmp_path / "parity", beyond.file_size, _header(beyond))
    with path.open("rb") as file, pytest.raises(ContentError, match="both of its headers are of no use"):
        parity.read_header(file.fileno(), beyond.file_size)


def test_volumes_with_parity_are_not_larger():
    assert parity.room(1 << 60, Fraction(5, 100)) == parity.MAX_VOLUME
    assert parity.room(1 << 60, Fraction(0)) == 1 << 60


def test_blocks_of_every_size_are_those_of_the_format():
    for size in (1, 4096, 128 * 4096, (1 << 20) - 1, 128 << 20, 5 << 30):
        geometry = parity.Geometry.of(size, Fraction(5, 100))
        assert parity._unpack(_header(geometry), geometry.file_size)[0] == geometry
    assert hashlib.sha256(_header(geometry)[:-32]).digest() == _header(geometry)[-32:]


# What is written can be read


def test_a_profile_that_could_not_be_read_again_is_not_written():
    operators = tuple(target_profile.InstalledOperator("p" * 250, "c", "v", "1.0.0", "d", f"n{each}") for each in range(12_000))
    whole = target_profile.TargetProfile(target_profile.MEDIA_TYPE, None, None, operators, MIRROR)
    with pytest.raises(
        ContentError, match=r"the target profile would have 4.* bytes; the limit for reading it is 4194304"
    ) as caught:
        target_profile.encode(whole)
    assert "--no-cluster" in caught.value.hint
    raw = bounded_json({"a": 1}, 100, "receipt", "")
    with pytest.raises(ContentError, match=f"the receipt would have {len(raw)} bytes"):
        bounded_json({"a": 1}, len(raw) - 1, "receipt", "")


# Journals


def test_a_journal_beyond_its_limit_is_not_read(tmp_path):
    layout = CUT.layout()
    path = tmp_path / "journal"
    output.write_journal(path, layout)
    assert output.read_journal(path).volumes == layout.volumes
    sparse(path, output.MAX_SIZE + 1)
    assert output.read_journal(path) is None


def test_a_journal_of_more_blobs_than_an_archive_holds_is_not_followed(tmp_path):
    layout = CUT.layout()
    path = tmp_path / "journal"
    output.write_journal(path, layout)
    assert output.read_journal(path, len(layout.blobs)) == layout
    assert output.read_journal(path, len(layout.blobs) - 1) is None


def test_the_objects_of_a_journal_are_counted_before_they_are_decoded(tmp_path, caplog):
    """Blobs of 80 bytes, with no place, would take a multiple of them in memory."""
    caplog.set_level("INFO")
    most = 10
    (tmp_path / "journal").write_bytes(b'{"mediaType": 1}'.ljust(50) * (1 + 3 * most + 2 * MAX_VOLUMES))
    assert output.read_journal(tmp_path / "journal", most) is None
    assert "more than a journal has" not in caplog.text
    with (tmp_path / "journal").open("ab") as file:
        file.write(b"{")
    assert output.read_journal(tmp_path / "journal", most) is None
    assert f"{2 + 3 * most + 2 * MAX_VOLUMES} objects, more than a journal has" in caplog.text


def test_volumes_beside_a_huge_journal_are_refused(tmp_path):
    """They are set aside with their journal, which was read as a whole."""
    digest, blob = next(iter(CUT.blobs.items()))
    with ArchiveWriter(tmp_path, CUT.layout()) as writer:
        writer.write(CUT.layout().blobs[digest].descriptor, chunks_of(blob))
    (journal,) = (path for path in tmp_path.iterdir() if path.name == output.JOURNAL_NAME)
    sparse(journal, output.MAX_SIZE + 1)
    with pytest.raises(UsageError, match="larger than") as caught, ArchiveWriter(tmp_path, CUT.layout()):
        pass
    assert "--output" in caught.value.hint
