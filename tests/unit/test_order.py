"""The list of slow files names files that exist."""

from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_slow_file_exists_and_is_listed_once():
    names = (TESTS / "slow_first.txt").read_text(encoding="ascii").split()
    assert names
    assert len(set(names)) == len(names)
    assert [name for name in names if not (TESTS / name).is_file()] == []
