"""The versions that a ClusterExtension allows, as OLM v1 reads them: constraints of Masterminds/semver v3. Pure.

They are not the ranges of OLM (`common.version.OlmRange`): `~` and `^` exist, a version without operator may have fewer
than three numbers, and a prerelease is left out unless the constraint has one (constraints.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.version import Version, parse

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LENGTH = 256  # the CustomResourceDefinition allows 64 characters
_VERSION = r"v?(\d{1,18}|[xX*])(?:\.(\d{1,18}|[xX*]))?(?:\.(\d{1,18}|[xX*]))?(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_COMPARISON = re.compile(rf"(!=|>=|=>|<=|=<|~>|=|>|<|~|\^)? *{_VERSION}(?= |,|$)", re.ASCII)
_SEPARATOR = re.compile(r" *,? *")
_HYPHEN = re.compile(r"([^ |,]+) +- +([^ |,]+)")
_MINOR, _EVERY = 2, 3  # numbers that are given: of 1.2, and of 1.2.3


@dataclass(frozen=True, slots=True)
class _Comparison:
    """An operator and a version; `given`: the numbers before the first wildcard, so that 1.2 and 1.2.x have two."""

    sign: str
    version: Version
    given: int

    def holds(self, other: Version, *, prereleases: bool) -> bool:
        """Return whether a version is allowed. `prereleases`: those count although this comparison has none."""
        # `!=` with a whole version has no such rule (constraintNotEqual).
        exempt = self.sign == "!=" and self.given == _EVERY
        if other.prerelease and not (self.version.prerelease or prereleases or exempt):
            return False
        return _HOLDS[self.sign](self, other)


# A version without all three numbers stands for a range; `*` has none of them (constraints.go, the functions of constraintOps).


def _same(one: _Comparison, other: Version) -> bool:
    return other.key == one.version.key if one.given == _EVERY else _tilde(one, other)


def _not_same(one: _Comparison, other: Version) -> bool:
    if one.given in (0, _EVERY):
        return other.key != one.version.key
    if one.given < _MINOR or not _alike(one, other, _MINOR):
        return not _alike(one, other, one.given)
    return other.prerelease != one.version.prerelease


def _above(one: _Comparison, other: Version) -> bool:
    if one.given in (0, _EVERY):
        return other.key > one.version.key
    return other.release[: one.given] > one.version.release[: one.given]  # 11.1.0 is not above 11


def _at_most(one: _Comparison, other: Version) -> bool:
    if one.given == _EVERY:
        return other.key <= one.version.key
    numbers = one.given or _MINOR
    return other.release[:numbers] <= one.version.release[:numbers]


def _tilde(one: _Comparison, other: Version) -> bool:
    everything = one.version.release == (0, 0, 0) and one.given in (0, _EVERY)
    return other.key >= one.version.key and (everything or _alike(one, other, min(one.given, _MINOR)))


def _caret(one: _Comparison, other: Version) -> bool:
    major, minor, _ = one.version.release
    fixed = 1 if major or one.given == 1 else _MINOR if minor or one.given == _MINOR else _EVERY
    return other.key >= one.version.key and _alike(one, other, fixed)


def _alike(one: _Comparison, other: Version, numbers: int) -> bool:
    """Return whether the first numbers of two versions are the same."""
    return one.version.release[:numbers] == other.release[:numbers]


_HOLDS: dict[str, Callable[[_Comparison, Version], bool]] = {
    "": _same, "=": _same, "!=": _not_same, ">": _above, "<=": _at_most, "=<": _at_most, "~": _tilde, "~>": _tilde, "^": _caret,
    ">=": lambda one, other: other.key >= one.version.key,
    "=>": lambda one, other: other.key >= one.version.key,
    "<": lambda one, other: other.key < one.version.key,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constraint:
    """Alternatives of comparisons that must all hold.

    `together`: a prerelease in one comparison lets the others of its alternative allow prereleases too, as since
    Masterminds/semver 3.4 (#266); which version a release of OLM v1 has is not known here.
    """

    alternatives: tuple[tuple[_Comparison, ...], ...]
    together: bool = True

    @classmethod
    def parse(cls, text: str, *, together: bool = True) -> Constraint:
        """Read a constraint such as `>=1.2 <2` or `~1.4`. Raises ValueError."""
        if len(text) > MAX_LENGTH:
            raise ValueError(f"{len(text)} characters; the limit is {MAX_LENGTH}")
        plain = _HYPHEN.sub(r">=\1 <=\2", re.sub(r"[\t\n\v\f\r]", " ", text))
        return cls(tuple(_comparisons(one.strip(" "), text) for one in plain.split("||")), together)

    def allows(self, version: Version) -> bool:
        """Return whether a version is allowed; build metadata is ignored."""
        return any(self._all(one, version) for one in self.alternatives)

    def _all(self, comparisons: tuple[_Comparison, ...], version: Version) -> bool:
        prereleases = self.together and any(one.version.prerelease for one in comparisons)
        return all(one.holds(version, prereleases=prereleases) for one in comparisons)


def _comparisons(text: str, whole: str) -> tuple[_Comparison, ...]:
    found, at = [], 0
    while at < len(text):
        match = _COMPARISON.match(text, at)
        if match is None:
            raise ValueError(f"not a version constraint: {whole!r}, at {text[at:]!r}")
        found.append(_comparison(match))
        at = match.end()
        separator = _SEPARATOR.match(text, at)
        at = separator.end() if separator else at
    if not found or text.endswith(","):
        raise ValueError(f"not a version constraint: {whole!r}, a side is empty")
    return tuple(found)


def _comparison(match: re.Match[str]) -> _Comparison:
    sign, *numbers, prerelease = match.groups()
    given = next((place for place, one in enumerate(numbers) if one is None or one in "xX*"), _EVERY)
    whole = [int(one) for one in numbers[:given]] + [0] * (_EVERY - given)
    return _Comparison(sign or "", parse(f"{whole[0]}.{whole[1]}.{whole[2]}{prerelease or ''}"), given)
