"""A medium that is removed while an archive is read: one error that says so, and no damage.

ntfs-3g ends when its stick is pulled, and the kernel answers ENOTCONN from then on (fuse(4)); NFS answers ESTALE, a driver without
its device ENODEV or ENXIO. Opening a UNIX socket is ENXIO as well (open(2)): volumes are replaced by one here.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from common.archive.reader import Archive
from common.archive.volume import volume_name
from common.errors import ArchiveDamagedError, ArchiveIncompleteError, ExitCode, MediumGoneError
from common.oci.image import digest_of
from common.progress import Silent
from importer.archive.repair import Repair, repair
from importer.archive.verify import verify
from tests.fakes.archives import CUT, write

SMALL = digest_of(next(iter(CUT.images.values()))[0])
V1, V2, V3 = map(volume_name, (1, 2, 3))


@pytest.fixture
def archive(tmp_path):
    write(tmp_path / "archive", CUT)
    return tmp_path / "archive"


def pull(directory: Path, *names: str) -> None:
    """Let files be on a device that is not there."""
    before = Path.cwd()
    for name in names:
        (directory / name).unlink()
        os.chdir(directory)  # the path of a socket has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
        os.chdir(before)


def test_reading_says_so_for_blobs_and_manifests(archive):
    opened = Archive.open([archive])
    document = next(iter(CUT.manifests))
    pull(archive, V1, V2, V3)
    for read in (lambda: list(opened.content(SMALL)), lambda: opened.manifest(document), lambda: opened.scan(1)):
        with pytest.raises(MediumGoneError, match=r"volume-000\d.tar.zst: the medium is gone: No such device") as caught:
            read()
        assert caught.value.exit_code is ExitCode.ARCHIVE
        assert "mount it again" in caught.value.advice
    for name in (V1, V2, V3):
        (archive / name).unlink()
    write(archive.parent / "again", CUT)
    for name in (V1, V2, V3):
        (archive.parent / "again" / name).rename(archive / name)
    assert opened.manifest(document) == CUT.manifests[document]  # the medium is back


def test_verify_has_one_line_for_each_volume(archive):
    opened = Archive.open([archive])
    pull(archive, V2, V3, "inventory.json")
    result = verify(opened)
    assert not result.ok
    assert [volume.status.value for volume in result.volumes] == ["ok", "damaged", "damaged"]
    gone = "cannot be read: the medium is gone: No such device or address"
    assert result.damage == (f"{V2}: {gone}", f"{V3}: {gone}")


def test_repair_writes_nothing(archive, tmp_path):
    (archive / f"{V1}.parity").write_bytes(b"")
    pull(archive, V1)
    with pytest.raises(MediumGoneError, match="the medium is gone"):
        Repair(archive / V1, lambda _size: None).run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Pulled(type(Path())):
    """A path whose file system answers every question with an error."""

    number = errno.ENOTCONN

    def stat(self, **_options):
        raise OSError(self.number, os.strerror(self.number), str(self))


class PulledWhileRead(type(Path())):
    """A directory that can be listed; the files in it cannot be read."""

    def iterdir(self):
        return map(Unreadable, super().iterdir())


class Unreadable(type(Path())):
    number = errno.ESTALE

    def open(self, *_arguments, **_options):
        raise OSError(self.number, os.strerror(self.number), str(self))


def test_opening_says_so(archive):
    with pytest.raises(MediumGoneError, match="the medium is gone: Transport endpoint is not connected"):
        Archive.open([Pulled(archive)])
    with pytest.raises(MediumGoneError, match=r"inventory.json: the medium is gone: Stale file handle"):
        Archive.open([PulledWhileRead(archive)])
    assert issubclass(MediumGoneError, ArchiveIncompleteError)


class Scratched(Unreadable):
    number = errno.EIO


def test_a_scratched_disc_is_damage(archive):
    with pytest.raises(ArchiveDamagedError, match=r"inventory.json cannot be read: .*Input/output error"):
        Archive.open([Scratched(archive / "inventory.json"), archive / V1])


def test_repair_of_a_directory_that_is_gone(tmp_path):
    pytest.importorskip("zfec")
    with pytest.raises(MediumGoneError, match="the medium is gone: Transport endpoint is not connected"):
        repair([Pulled(tmp_path)], None, Silent())
