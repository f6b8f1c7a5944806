"""A row of the table of habits, and how rows are written (habits.py, habit_options.py)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """What comes back for a habit."""

    WORKS = "works as typed"
    ALWAYS = "works: always so here"
    INSTEAD = "other words here"
    NEEDLESS = "not needed"
    ABSENT = "not here"


@dataclass(frozen=True, slots=True)
class Habit:
    """A row: words of other tools, and those of this program."""

    names: tuple[str, ...]
    tools: str
    way: Way
    counterpart: str = ""
    why: str = ""
    takes: str = ""  # the name of its value in `counterpart`; empty for a flag
    where: frozenset[str] = frozenset()  # a program, a command, or `program command`; empty is everywhere
    unless: frozenset[str] = frozenset()  # values that mean something else: a later row has them
    is_secret: bool = False  # its value is never printed
    unit: str = ""  # of a value that is a number alone

    @property
    def typed(self) -> str:
        """The words, with the name of their value."""
        return ", ".join(self.names) + (f" {self.takes}" if self.takes else "")

    def is_for(self, program: str, command: str) -> bool:
        """Return whether the row is about this command of this program."""
        return not self.where or not self.where.isdisjoint({program, command, f"{program} {command}"})

    def advice(self, program: str, value: str = "") -> str:
        """Return what to do instead, with the typed value where it is no secret."""
        counterpart = self.counterpart
        if self.takes and value and not self.is_secret:
            counterpart = counterpart.replace(self.takes, self.with_unit(value))
        counterpart = counterpart.replace(_PROGRAM, program)
        match self.way:
            case Way.NEEDLESS | Way.ALWAYS:
                return f"Leave it out: {self.why}."
            case Way.ABSENT:
                return f"{self.why[:1].upper()}{self.why[1:]}."
            case _:
                return f"Wanted: {counterpart}" + (f"; {self.why}." if self.why else ".")

    def with_unit(self, value: str) -> str:
        """Return a value with the unit that a number alone has in the other tool."""
        return f"{value}{self.unit}" if value.isdecimal() else value


# Levels of logs of other tools: oc-mirror (`trace`), zarf (`warn`), logrus (`fatal`, `panic`), oc (`--loglevel 0` to `10`).
_LEVELS = {"warn": "warning", "trace": "debug", "fatal": "error", "panic": "error", "critical": "error"}
_LEAST_LEVEL_OF_DEBUG = 4  # of klog: from here on requests are shown


def level_of(text: str) -> str:
    """Return the level of a log that a word or a number of another tool means; other words as they are."""
    plain = text.lower()
    if plain.isdecimal():
        return "debug" if int(plain) >= _LEAST_LEVEL_OF_DEBUG else "info" if int(plain) else "warning"
    return _LEVELS.get(plain, plain)


MIRROR1, MIRROR2, MIRRORS = "oc-mirror v1", "oc-mirror v2", "oc-mirror"
OC, SKOPEO, PODMAN, HAULER, ZARF, IMGPKG = "oc", "skopeo", "podman", "hauler", "zarf", "imgpkg"
CRANE, REGCTL = "crane", "regctl"
EXPORT, IMPORT = "hub-export", "hub-import"
_PROGRAM = "PROGRAM"  # in a row: the program that was typed
SELECTING = "list plan create"
MOVING = "plan create push deploy"
CLUSTER = "apply deploy render"
CLUSTER_ALONE = "undo status doctor operators install"  # these ask no registry for an account


def works(
    names: str, counterpart: str, tools: str, *, takes: str = "", where: str = "", unless: str = "", why: str = ""
) -> Habit:
    """Return a row that works as typed."""
    return Habit(tuple(names.split()), tools, Way.WORKS, counterpart, why, takes, _words(where), frozenset(unless.split()))


def instead(
    names: str,
    counterpart: str,
    tools: str,
    *,
    takes: str = "",
    where: str = "",
    why: str = "",
    secret: bool = False,
    unit: str = "",
) -> Habit:
    """Return a row whose words are others here."""
    return Habit(
        tuple(map(_spaced, names.split())),
        tools,
        Way.INSTEAD,
        counterpart,
        why,
        takes,
        _words(where),
        is_secret=secret,
        unit=unit,
    )


def always(names: str, why: str, tools: str, *, where: str = "") -> Habit:
    """Return a row for what the program does without being asked."""
    return Habit(tuple(names.split()), tools, Way.ALWAYS, "", why, "", _words(where))


def needless(names: str, why: str, tools: str, *, takes: str = "", where: str = "") -> Habit:
    """Return a row for words that are not needed here."""
    return Habit(tuple(names.split()), tools, Way.NEEDLESS, "", why, takes, _words(where))


def absent(names: str, why: str, tools: str, *, takes: str = "", where: str = "") -> Habit:
    """Return a row without a counterpart."""
    return Habit(tuple(map(_spaced, names.split())), tools, Way.ABSENT, "", why, takes, _words(where))


def _words(where: str) -> frozenset[str]:
    return frozenset(map(_spaced, where.split()))


def _spaced(name: str) -> str:
    return name.replace("/", " ")  # `store/load` is the command `store load`
