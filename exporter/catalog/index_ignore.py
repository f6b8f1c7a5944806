"""`.indexignore`: which files of a catalog directory are no catalog files. Gitignore syntax (facts/openshift.md §2.1)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from common.errors import CatalogError

NAME = ".indexignore"
MAX_RULES = 10_000
MAX_PATTERN = 1024


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line. `segments` None stands for `**`."""

    segments: tuple[re.Pattern[str] | None, ...]
    directories_only: bool
    again: bool
    """A line with `!`: not ignored after all."""

    def matches(self, parts: tuple[str, ...], is_directory: bool) -> bool:
        return (is_directory or not self.directories_only) and _match(self.segments, parts)


class IgnoreRules:
    """The rules of every `.indexignore` of a tree."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Read `files`, path of each `.indexignore` relative to the root. Raises CatalogError beyond the limits."""
        self._rules = {_parts(path)[:-1]: tuple(_rules(path, content)) for path, content in files.items()}
        if sum(map(len, self._rules.values())) > MAX_RULES:
            raise CatalogError(f"more than {MAX_RULES} lines in {NAME} files")

    def ignores(self, path: str) -> bool:
        """Say whether a file is ignored, itself or by a directory above it: inside an ignored one nothing comes back."""
        parts = _parts(path)
        return any(self._hit(parts[:end], end < len(parts)) for end in range(1, len(parts) + 1)) if self._rules else False

    def _hit(self, parts: tuple[str, ...], is_directory: bool) -> bool:
        ignored = False
        for depth in range(len(parts)):  # the rules nearest to the file have the last word
            for rule in self._rules.get(parts[:depth], ()):
                if rule.matches(parts[depth:], is_directory):
                    ignored = not rule.again
        return ignored


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _rules(path: str, content: bytes) -> Iterator[_Rule]:
    for number, raw in enumerate(content.decode(errors="replace").splitlines(), 1):
        line = re.sub(r"(?<!\\) +$", "", raw)
        if len(line) > MAX_PATTERN:
            raise CatalogError(f"{path}:{number}: a pattern of {len(line)} characters; the limit is {MAX_PATTERN}")
        if line and not line.startswith("#"):
            yield _rule(line)


def _rule(line: str) -> _Rule:
    again = line.startswith("!")
    pattern = line[again:]
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    anchored = "/" in pattern
    segments = tuple(None if part == "**" else _segment(part) for part in pattern.removeprefix("/").split("/"))
    if not anchored:
        segments = (None, *segments)
    if segments[-1] is None:
        segments = (*segments, _segment("*"))  # `a/**` is what lies in `a`, not `a`
    # `**/**` matches what `**` matches; a run of 300 costs 300 times as much for each component of a path.
    single = (segments[0], *(after for before, after in pairwise(segments) if before is not None or after is not None))
    return _Rule(single, directories_only, again)


def _segment(pattern: str) -> re.Pattern[str]:
    """Translate one path component; fnmatch's expressions do not backtrack, whatever the pattern."""
    escaped = re.sub(r"\\(.)", lambda match: f"[{match[1]}]" if match[1] in "*?[" else match[1], pattern)
    return re.compile(fnmatch.translate(escaped.replace("[^", "[!")))


def _match(segments: tuple[re.Pattern[str] | None, ...], parts: Iterable[str]) -> bool:
    """Walk all readings of `**` at once: the set of places in `segments` that the parts so far may have come to."""
    places = _opened({0}, segments)
    for part in parts:
        onward: set[int] = set()
        for place in places:
            segment = segments[place] if place < len(segments) else _NOTHING
            if segment is None:
                onward.add(place)
            elif segment.match(part):
                onward.add(place + 1)
        places = _opened(onward, segments)
    return len(segments) in places


def _opened(places: set[int], segments: tuple[re.Pattern[str] | None, ...]) -> set[int]:
    """Add the places behind each `**`, which may stand for no directory at all."""
    opened = set(places)
    for place in sorted(places):
        following = place
        while following < len(segments) and segments[following] is None:
            following += 1
            opened.add(following)
    return opened


_NOTHING = re.compile(r"(?!)")
