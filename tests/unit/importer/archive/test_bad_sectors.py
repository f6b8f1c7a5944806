"""A sector that cannot be read costs what is in it: other ranges of the same step are read, and the checksum is an error."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from common.errors import ContentError, InterruptedByUserError
from importer.archive.volume_check import _Reading
from tests.fakes.archives import noise

MIB = 1024 * 1024
CONTENT = noise("disc", 7 * MIB + 5)


class Disc:
    """A file with one sector that cannot be read, `times` times."""

    size = len(CONTENT)

    def __init__(self, bad: int, times: float = float("inf")) -> None:
        self.bad, self.times = bad, times

    def read(self, size: int, offset: int) -> bytes:
        if offset <= self.bad < offset + size and self.times > 0:
            self.times -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return CONTENT[offset : offset + size]


def reading_of(disc: Disc, advance=lambda _size: None) -> _Reading:
    return _Reading(disc, disc, None, advance, hashing=True)


@pytest.mark.parametrize("bad", [0, 3 * MIB, len(CONTENT) - 1])
def test_only_what_is_in_the_sector_is_lost(bad):
    reading = reading_of(Disc(bad))
    lost = []
    for begin in range(0, len(CONTENT), 65_536):
        end = min(begin + 65_536, len(CONTENT))
        try:
            assert reading.view(begin, end) == CONTENT[begin:end]
        except OSError:
            lost.append(begin)
    assert lost == [bad // 65_536 * 65_536]
    with pytest.raises(OSError, match="Input/output error"):
        reading.checksum()
    reading.close()


@pytest.mark.parametrize("bad", [0, 3 * MIB, len(CONTENT) - 1])
def test_a_sector_that_is_read_at_the_second_try_is_in_the_checksum(bad):
    reading = reading_of(Disc(bad, times=1))
    assert b"".join(bytes(reading.view(at, min(at + 9999, len(CONTENT)))) for at in range(0, len(CONTENT), 9999)) == CONTENT
    assert reading.checksum() == hashlib.sha256(CONTENT).hexdigest()
    reading.close()


def test_the_end_of_the_file_is_named_as_for_any_reading():
    reading = reading_of(Disc(-1))
    with pytest.raises(ContentError, match=f"the file ends at byte {len(CONTENT)}, wanted {len(CONTENT) + 3}"):
        reading.view(len(CONTENT) - 3, len(CONTENT) + 3)
    assert reading.read(100, len(CONTENT) - 3) == CONTENT[-3:]
    assert reading.read(100, len(CONTENT)) == b""
    assert reading.checksum() == hashlib.sha256(CONTENT).hexdigest()
    reading.close()


@pytest.mark.parametrize("times", [0, float("inf")])
def test_a_stop_ends_a_check_at_the_next_step(times):
    """Also where ranges are read one by one."""
    stopped = False

    def advance(_size):
        if stopped:
            raise InterruptedByUserError("stopped")

    reading = reading_of(Disc(5 * MIB, times), advance)
    reading.view(0, 100)
    stopped = True
    with pytest.raises(InterruptedByUserError):
        reading.view(5 * MIB + 1000, 5 * MIB + 2000)
    reading.close()
