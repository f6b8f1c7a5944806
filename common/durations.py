"""Durations as `oc`, `kubectl` and podman take them: `20s`, `5m`, `1h30m`; a number alone counts a unit of the option. Pure."""

from __future__ import annotations

import re

from common.errors import UsageError

# The units of Go's time.ParseDuration that a person types; ASCII digits only, since `\d` also takes other digits of Unicode.
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_SHOWN = 40


def seconds_of(text: str, setting: str, *, unit: str, longest_s: float) -> float:
    """Return the seconds of a duration; `unit` (`m` or `s`) is that of a number alone. Raises UsageError, naming `setting`."""
    words = {"m": "minutes", "s": "seconds"}[unit]
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        found = float(stripped) * _UNITS[unit]
    else:
        parts = _PART.findall(stripped)
        # Every character belongs to a part: `5m x` and `5d` are refused whole, as Go does.
        if not parts or "".join(number + name for number, name in parts) != stripped:
            raise UsageError(f"{setting}: not a duration: {text[:_SHOWN]!r}", hint=f"Wanted: 20s, 5m, 1h30m; 45 is 45 {words}.")
        found = sum(float(number) * _UNITS[name] for number, name in parts)
    if not 0 < found <= longest_s:
        raise UsageError(
            f"{setting} {text[:_SHOWN]}: more than 0 s and at most {longest_s / 3600:g}h is possible",
            hint=f"For example 5m or 1h30m; 45 is 45 {words}.",
        )
    return found
