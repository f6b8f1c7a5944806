"""Whatever goes in comes out, in any chunks, from any byte; whatever is changed on the way is found."""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from common.archive import checksums, frames, inventory_file
from common.archive.direct_io import CachedWriter
from common.archive.frames import RawFrameWriter, raw_frame_size, read_raw
from common.archive.metadata import index_json
from common.archive.reader import Archive
from common.archive.volume import Footer
from common.errors import ArchiveError, ContentError
from common.oci.image import Digest, digest_of
from importer.archive.verify import verify
from tests.fakes.archives import CUT, Content, described, noise, write

SIZES = st.one_of(
    st.integers(0, 2000), st.integers(0, 700_000), st.sampled_from([0, 511, 512, 131_071, 131_072, 131_073, 262_144])
)
RAW_INVENTORY = inventory_file.encode(CUT.inventory(CUT.layout()))


@settings(deadline=None)
@given(st.integers(0, 600_000), st.lists(st.integers(1, 300_000), min_size=1), st.integers(0, 600_000))
def test_raw_frames_round_trip(size, steps, start):
    content, done = noise("x", size), 0
    with tempfile.TemporaryFile() as file:
        writer = RawFrameWriter(partial(CachedWriter, file.fileno()), 7, size)
        while done < size:
            for step in steps:
                writer.write(content[done : done + step])
                done = min(done + step, size)
        writer.close()
        assert os.fstat(file.fileno()).st_size == 7 + raw_frame_size(size)
        start = min(start, size)
        assert b"".join(bytes(c) for c in read_raw(file.fileno(), 7, size, start)) == content[start:]


@settings(deadline=None)
@given(st.binary(max_size=5000))
def test_compressed_frames_round_trip(content):
    frame = frames.compress(content)
    assert frames.decompress(frame, len(content)) == content
    assert len(frame) <= frames.compress_bound(len(content))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_frame_reader(raw):
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        for reading in (
            lambda: frames.decompress(raw, 1000),
            lambda: frames.frame_end(file.fileno(), 0, len(raw)),
            lambda: list(frames.read_frame(file.fileno(), 0, len(raw), 100)),
            lambda: checksums.parse(raw),
            lambda: Footer.unpack(raw[-80:], len(raw)),
        ):
            with contextlib.suppress(ContentError, ArchiveError):
                reading()


@settings(deadline=None)
@given(st.data())
def test_no_change_breaks_the_inventory_reader(data):
    raw = bytearray(RAW_INVENTORY)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=8))
    try:
        inventory = inventory_file.decode(bytes(raw), "x")
    except ArchiveError:
        return
    for blob in inventory.blobs.values():
        assert blob.pieces or blob.in_ is not None or blob.missing is not None
    assert index_json(inventory.images, inventory.manifests)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=6), st.integers(250_000, 900_000), st.data())
def test_archives_round_trip(wanted, volume_size, data):
    layers = [noise(f"layer {number}", size) for number, (size, _) in enumerate(wanted)]
    missing = frozenset(digest_of(layer) for layer, (_, lost) in zip(layers, wanted, strict=True) if lost and layer)
    images = {f"registry.test/image-{number}:v1": [layer, b""] for number, layer in enumerate(layers)}
    content = Content(images, missing, bound=20_000, volume_size=volume_size)
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), content)
        archive = Archive.open([Path(directory)])
        assert verify(archive).ok
        for digest, blob in content.blobs.items():
            if digest not in missing:
                start = data.draw(st.integers(0, len(blob)))
                assert b"".join(bytes(c) for c in archive.content(digest)) == blob
                assert b"".join(bytes(c) for c in archive.read(described(blob), start)) == blob[start:]
        assert all(path.stat().st_size <= volume_size for path in Path(directory).glob("volume-*"))
        _flip_one(Path(directory), data)


def _flip_one(directory: Path, data) -> None:
    """Change one byte anywhere in a volume; opening or verifying finds it."""
    path = data.draw(st.sampled_from(sorted(directory.glob("volume-*"))))
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    (directory / "SHA256SUMS").unlink()
    with contextlib.suppress(ArchiveError):
        assert not verify(Archive.open([directory])).ok


def test_digests_are_what_the_footer_keeps():
    digest = Digest("sha256:" + "ab" * 32)
    assert Footer.unpack(Footer(1, 1, 2000, 3000, 10, digest).pack(), 9000).inventory == digest
