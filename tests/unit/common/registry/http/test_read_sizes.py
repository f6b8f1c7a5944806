"""How much of a body is read at once: more on a fast line, so that its bytes cost less; little where a break or a wait would show."""

from __future__ import annotations

import pytest

from common.content import CHUNK_SIZE
from common.registry.http.transport import LARGE_READ, ReadSize, _Chunks  # its body alone; the sizes are the point

MIB = 1024 * 1024


class Line:
    """A body that arrives at `rate` bytes a second, by a clock of its own; `asked`: the sizes of the reads."""

    def __init__(self, size: int, rate: float) -> None:
        self.left, self.rate, self.now_s, self.asked = size, rate, 0.0, []

    def clock(self) -> float:
        return self.now_s

    def read(self, size: int) -> int:
        self.asked.append(size)
        got = min(size, self.left)
        self.left -= got
        self.now_s += got / self.rate
        return got


def reads(size: int, rate: float) -> list[int]:
    line = Line(size, rate)
    sizes, wanted = ReadSize(line.clock), CHUNK_SIZE
    while got := line.read(wanted):
        wanted = sizes.after(got)
    return line.asked


def test_a_fast_line_takes_less_than_two_reads_for_each_mib():
    assert len(reads(100 * MIB, 100 * MIB)) <= 110


def test_the_beginning_is_read_in_small_steps():
    """A connection that breaks after 2 MiB has brought one at least, and the retry is not counted (`download._PROGRESS`)."""
    asked = reads(100 * MIB, 100 * MIB)
    first = asked.index(LARGE_READ)
    assert asked[:first] == [CHUNK_SIZE] * (2 * MIB // CHUNK_SIZE)


@pytest.mark.parametrize("rate", [20_000, 1.5 * MIB])
def test_a_slow_line_is_read_in_small_steps(rate):
    assert set(reads(10 * MIB, rate)) == {CHUNK_SIZE}


def test_a_line_that_becomes_slow_is_read_in_small_steps_from_then_on():
    line = Line(100 * MIB, 50 * MIB)
    sizes, wanted = ReadSize(line.clock), CHUNK_SIZE
    while got := line.read(wanted):
        wanted = sizes.after(got)
        line.rate = 50 * MIB if line.left > 50 * MIB else MIB
    assert line.asked[-40:] == [CHUNK_SIZE] * 40


def test_a_body_with_a_limit_is_read_no_further():
    asked = []

    class Raw:
        def read(self, size, *, decode_content):
            assert decode_content is False
            asked.append(size)
            return bytes(min(size, 10))

        def hasten(self):
            """Nothing to bound."""

    assert b"".join(_Chunks(Raw(), lambda error: error, 25)) == bytes(25)
    assert asked == [25, 15, 5]
