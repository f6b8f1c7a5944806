"""The list of slow files names files that exist."""

from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_slow_file_exists_once():
    names = (TESTS / "slow_first.txt").read_text(encoding="ascii").split()
    found = [path.name for path in TESTS.rglob("test_*.py")]
    assert names
    assert [name for name in names if found.count(name) != 1] == []
