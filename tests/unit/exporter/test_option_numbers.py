"""Numbers that people give: of any length, in any script. What is none of the wanted ones is an error of usage."""

from __future__ import annotations

import pytest

from common.cli.options import created_now, source_epoch
from common.errors import UsageError
from exporter.cli.options import parse_size
from tests.samples import more


@pytest.mark.parametrize(
    ("text", "moment"),
    [("0", "1970-01-01T00:00:00Z"), ("00", "1970-01-01T00:00:00Z"), ("253402300799", "9999-12-31T23:59:59Z")],
)
def test_a_time_of_creation(monkeypatch, text, moment):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert created_now() == moment


@pytest.mark.parametrize("text", ["", "253402300800", "1767225600000", "9" * 5000, *more(["٤", "-1", "1.5", " 1"])])
def test_what_is_no_time_is_refused_with_advice(monkeypatch, text):
    """Milliseconds, as `date +%s%3N` gives them, were an internal error."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is not a number of seconds") as raised:
        created_now()
    assert "date +%s" in raised.value.hint
    with pytest.raises(UsageError):
        source_epoch()


@pytest.mark.parametrize(
    ("text", "size"),
    [("4.7GB", 4_700_000_000), ("4GiB", 1 << 32), ("9007199254740993", 9007199254740993), ("0.29 gb", 290_000_000)],
)
def test_a_size_is_exact(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["9" * 400 + "T", *more(["٤GiB", "1e3", "-1G", "", "0x10"])])
def test_what_is_no_size_is_refused(text):
    """400 digits were an internal error: the float is infinite."""
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)
