"""Versions, their order, and the version ranges of OLM, as blang/semver v4 reads them, the library of OLM.

Sources: Semantic Versioning 2.0.0, 9 to 11; blang/semver v4, semver.go and range.go.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import semver

MAX_LENGTH = 256  # of a version: parsing converts digits to int, in quadratic time
MAX_RANGE_LENGTH = 4096  # of a range; alternatives are tried for every bundle of a package
_MAX_NUMBER = 2**64 - 1  # of a version, identifiers of its prerelease too (blang/semver v4, semver.go)
# At most 18 digits: blang/semver has unsigned 64-bit numbers.
_LENIENT = re.compile(r"v?(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?((?:[-+].*)?)", re.ASCII)

_Identifier = tuple[int, int, str]
Key = tuple[int, int, int, bool, tuple[_Identifier, ...]]


@dataclass(frozen=True, slots=True)
class Version:
    """A version. `key` orders by precedence, so versions that differ only in build metadata have equal keys."""

    text: str
    key: Key = field(compare=False)
    prerelease: str = field(compare=False)
    build: str = field(compare=False)

    @property
    def release(self) -> tuple[int, int, int]:
        """Major, minor, patch."""
        return self.key[:3]

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Version:
    """Read a strict SemVer 2.0.0 version (no `v`, three numbers). Raises ValueError."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"version of {len(text)} characters; the limit is {MAX_LENGTH}")
    try:
        # Its expressions accept digits of other scripts, which int() reads too; SemVer allows ASCII only (9, 10).
        parsed = semver.Version.parse(text if text.isascii() else "")
    except ValueError:
        raise ValueError(f"not a version: {text!r}, wanted MAJOR.MINOR.PATCH by the rules of semver.org") from None
    prerelease = parsed.prerelease or ""
    numbers = (parsed.major, parsed.minor, parsed.patch, *(int(one) for one in prerelease.split(".") if one.isdecimal()))
    if max(numbers) > _MAX_NUMBER:
        raise ValueError(f"not a version: {text!r}, OLM reads numbers up to {_MAX_NUMBER}")
    identifiers = tuple(_identifier(part) for part in prerelease.split(".")) if prerelease else ()
    key = (parsed.major, parsed.minor, parsed.patch, not prerelease, identifiers)
    return Version(text, key, prerelease, parsed.build or "")


def try_parse(text: str) -> Version | None:
    """Read a strict version; None for any other text."""
    try:
        return parse(text)
    except ValueError:
        return None


def _identifier(text: str) -> _Identifier:
    """Return the sort key of an identifier: numbers by value, and below words (SemVer 2.0.0, 11.4)."""
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range of `minVersion` and `maxVersion`, both inclusive; a missing bound is open.

    A maximum of `1.2` includes every `1.2.x`; a leading `v` is accepted.
    """

    minimum: Version | None = None
    maximum: Version | None = None
    maximum_excluded: bool = False
    text: str = ""

    @classmethod
    def of(cls, minimum: str, maximum: str) -> Bounds:
        """Read both bounds; an empty text is an open bound. Raises ValueError, also for a minimum above the maximum."""
        low = _lenient(minimum, upper=False)[0] if minimum else None
        high, excluded = _lenient(maximum, upper=True) if maximum else (None, False)
        if low and high and (low.key > high.key or (excluded and low.key >= high.key)):
            raise ValueError(f"the minimum {minimum} is above the maximum {maximum}")
        return cls(low, high, excluded, f"{minimum}..{maximum}")

    @property
    def open(self) -> bool:
        """Return whether both bounds are missing."""
        return self.minimum is None and self.maximum is None

    @property
    def exact(self) -> Version | None:
        """The one version that both bounds name; None when they name a range."""
        low, high = self.minimum, self.maximum
        if low is None or high is None or self.maximum_excluded or low.key != high.key:
            return None
        return high if high.build else low  # the one with build metadata: it selects among equal versions

    def contains(self, version: Version) -> bool:
        """Return whether a version is within the bounds, by precedence."""
        # Prereleases are never hidden: most versions of Red Hat look like one (4.12.0-202301010000, 1.34.1-5). oc-mirror's
        # library (Masterminds/semver) excludes them unless a bound has a prerelease too.
        return not self.below(version) and not self.above(version)

    def below(self, version: Version) -> bool:
        """Return whether a version is below the minimum."""
        return self.minimum is not None and version.key < self.minimum.key

    def above(self, version: Version) -> bool:
        """Return whether a version is above the maximum."""
        if self.maximum is None:
            return False
        return version.key >= self.maximum.key if self.maximum_excluded else version.key > self.maximum.key


def _lenient(text: str, *, upper: bool) -> tuple[Version, bool]:
    """Read a bound; True when it is the first version past a partial maximum."""
    match = _LENIENT.fullmatch(text.strip()) if len(text) <= MAX_LENGTH else None
    if not match:
        raise ValueError(f"not a version: {text[:80]!r}, wanted for example 1.2.3")
    major, minor, patch, rest = match.groups()
    if patch is None and rest:
        raise ValueError(f"not a version: {text[:80]!r}, wanted three numbers before {rest[:1]!r}")
    if patch is not None or not upper:
        return parse(f"{major}.{minor or 0}.{patch or 0}{rest}"), False
    following = f"{major}.{int(minor) + 1}.0" if minor is not None else f"{int(major) + 1}.0.0"
    return parse(f"{following}-0"), True  # -0 is the lowest prerelease: 1.2 includes no prerelease of 1.3.0


_Comparison = tuple[Callable[[Any, Any], bool], Key]
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq, "=": operator.eq, "==": operator.eq, "!": operator.ne, "!=": operator.ne,
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_WILDCARD = re.compile(r"(\d{1,18})(?:\.(\d{1,18}|x))?\.x", re.ASCII)
# A wildcard turns one comparison into bounds: operator → (operator, whether it compares with the version after the wildcard), …
# (blang/semver, range.go, expandWildcardVersion). Both bounds must hold, so `!1.2.x` matches no version.
_WILDCARDS: dict[str, tuple[tuple[str, bool], ...]] = {
    "": ((">=", False), ("<", True)), "=": ((">=", False), ("<", True)), "==": ((">=", False), ("<", True)),
    ">": ((">=", True),), ">=": ((">=", False),), "<": (("<", False),), "<=": (("<", True),),
    "!": (("<", False), (">=", True)), "!=": (("<", False), (">=", True)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OlmRange:
    """A range of `skipRange` or `versionRange`: alternatives (`||`) of comparisons that must all hold."""

    alternatives: tuple[tuple[_Comparison, ...], ...]

    @classmethod
    def parse(cls, text: str) -> OlmRange:
        """Read a range such as `>=1.2.0 <2.0.0 || 3.x`. Raises ValueError; there is no `^`, `~`, or `-`."""
        if len(text) > MAX_RANGE_LENGTH:
            raise ValueError(f"range of {len(text)} characters; the limit is {MAX_RANGE_LENGTH}")
        words = _words(text)
        alternatives: list[list[str]] = [[]]
        for word in words:
            if word == "||":
                alternatives.append([])
            else:
                alternatives[-1].append(word)
        if not all(alternatives):
            raise ValueError(f"not a version range: {text!r}, a side of '||' is empty")
        return cls(tuple(tuple(c for word in words for c in _comparisons(word, text)) for words in alternatives))

    def contains(self, version: Version) -> bool:
        """Return whether a version is in the range; build metadata is ignored."""
        return any(all(holds(version.key, key) for holds, key in one) for one in self.alternatives)


def _words(text: str) -> list[str]:
    """Split at spaces, but not after `<`, `>` and `=`; words of one character are dropped (range.go, splitAndTrim)."""
    return [word for word in re.sub(r"([<>=]) +", r"\1", text).split(" ") if len(word) > 1]


def _comparisons(word: str, whole: str) -> list[_Comparison]:
    match = re.fullmatch(r"(\D*?)(\d.*)", word)
    if not match or match[1] not in _OPERATORS:
        raise ValueError(f"not a version range: {whole!r}, at {word!r}")
    sign, version = match.groups()
    wildcard = _WILDCARD.fullmatch(version)
    if wildcard:
        return _expanded(sign, wildcard)
    if "x" in version and sign not in (">=", "<"):  # blang takes the letter, of `-next.1` for example, for a wildcard
        raise ValueError(f"not a version range: {whole!r}, OLM takes the x of {word!r} for a wildcard")
    try:
        return [(_OPERATORS[sign], parse(version).key)]
    except ValueError as error:
        raise ValueError(f"not a version range: {whole!r}: {error}") from None


def _expanded(sign: str, wildcard: re.Match[str]) -> list[_Comparison]:
    """Spell out `1.2.x`, `1.x`, and `1.x.x`, which blang reads as `1.0.x`."""
    major, minor = int(wildcard[1]), wildcard[2]
    second = int(minor) if minor and minor != "x" else 0
    low = f"{major}.{second}.0"
    high = f"{major}.{second + 1}.0" if minor else f"{major + 1}.0.0"
    return [(_OPERATORS[to], parse(high if after else low).key) for to, after in _WILDCARDS[sign]]
