"""The wheels that one runtime needs: fetched by pip, and held against what the wheels themselves say they require there.

pip reads environment markers with the values of the Python that runs it, whatever `--python-version` says; what is required
only elsewhere it does not fetch. So the requirements of every wheel are read again with the values of the runtime, and pip is
asked for what is missing, until nothing is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from common.errors import ContentError, HubError, SpaceError, UsageError
from common.log import logger
from exporter.kit.wheel_file import NO_ZIP, OWN, read_member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from exporter.kit.settings import Runtime

# pip, as a person would run it: its own configuration says from which index, through which proxy, with which certificates.
#
# What it says is shown only without addresses: those of an index may carry credentials.

_LOG = logger(__name__)
_ADDRESS = re.compile(r"\b[\w.+-]+://[^\s'\"]*")
_AT_HOST = re.compile(r"[^\s'\"/]*:[^\s'\"/]*@\S*")
_ABSENT = re.compile(r"No matching distribution found for ([A-Za-z0-9][A-Za-z0-9._-]*)")
_NETWORK = re.compile(
    r"connection broken|Could not fetch URL|Max retries exceeded|ProxyError|timed out|SSLError|"
    r"Connection ?(reset|refused|error)|HTTP error|\b40[137] (Client )?Error|Network is unreachable|name resolution",
    re.IGNORECASE,
)
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_MAX_SHOWN = 300
CONFIGURATION = "pip's own configuration counts: pip config list, PIP_INDEX_URL, PIP_PROXY, PIP_CERT."
_QUIET = {
    "PIP_NO_COLOR": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PYTHONWARNINGS": "ignore",
}


class NoWheelError(HubError):
    """An index has no wheel of `package` for a runtime."""

    def __init__(self, package: str) -> None:
        super().__init__(f"no wheel of {package}")
        self.package = package


class Pip:
    """The pip of the Python that runs this, with an environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**environ, **_QUIET}

    def require(self) -> None:
        """Raise UsageError where this Python has no pip."""
        if self._run(["--version"]).returncode:
            raise UsageError(
                f"{sys.executable} has no pip, which fetches the wheels",
                hint=f"Install it: {sys.executable} -m ensurepip; on Debian first apt-get install python3-pip python3-venv.",
            )

    def download(self, requirements: Sequence[str], runtime: Runtime, directory: Path, *, dependencies: bool = True) -> None:
        """Fetch wheels for a runtime into `directory`.

        Raises NoWheelError for a package that has none there (an empty name: for some package), SpaceError, and HubError with
        pip's own last line for anything else.
        """
        platforms = [part for name in runtime.wheel_platforms for part in ("--platform", name)]
        wanted = ["--only-binary", ":all:", *platforms, "--implementation", "cp", "--python-version", runtime.python]
        more = [] if dependencies else ["--no-deps"]
        directory.mkdir(parents=True, exist_ok=True)
        done = self._run(["download", "--dest", str(directory), *wanted, *more, *requirements])
        if done.returncode:
            raise _error(done.stdout + done.stderr, runtime)

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run pip, which asks nothing; an interruption from the terminal ends it too."""
        return subprocess.run(  # noqa: S603 - this very Python, and arguments of our own making
            [sys.executable, "-m", "pip", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=self._environ,
            check=False,
        )


def shown(output: str) -> str:
    """Return the last line that pip said of an error, without addresses."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "error"))] or lines or ["it says nothing"]
    line = errors[-1].removeprefix("ERROR:").strip()
    return _AT_HOST.sub("(address)", _ADDRESS.sub("(address)", line))[:_MAX_SHOWN]


def _error(output: str, runtime: Runtime) -> HubError:
    said = shown(output)
    _LOG.debug("pip for %s: %s", runtime, said)
    if _FULL.search(output):
        return SpaceError(
            f"no space left while pip fetched wheels: {said}",
            hint="Free some where --output lies and in the directory for temporary files (TMPDIR), and run again.",
        )
    if _NETWORK.search(output):
        return HubError(
            f"pip cannot reach its package index: {said}",
            hint=CONFIGURATION,
        )
    absent = _ABSENT.search(output)
    if absent or "ResolutionImpossible" in output:
        return NoWheelError(absent[1] if absent else "")
    return HubError(f"pip cannot fetch the wheels for {runtime}: {said}", hint="pip config list shows where it looks.")


PARITY = "parity"
_INSTALLER = "pip"  # behind the gap nobody can be asked for one
_ROUNDS = 10
_MAX_METADATA = 4 * 1024 * 1024
Need = tuple[str, frozenset[str]]  # a package by its normal name, with extras


@dataclass(frozen=True, slots=True)
class WheelSet:
    """What was fetched for a runtime: its wheels by the packages' normal names; or the packages that have none, in `lacks`.

    `without_parity`: they have none for parity alone, and the rest is there.
    """

    runtime: Runtime
    wheels: Mapping[str, Path]
    lacks: tuple[str, ...] = ()
    parity: bool = False

    @property
    def usable(self) -> bool:
        """Whether the importer can be installed with it."""
        return bool(self.wheels)

    @property
    def requirement(self) -> str:
        """What is to be installed."""
        return f"{OWN}[{PARITY}]" if self.parity else OWN


def fetch(own: Path, runtime: Runtime, directory: Path, pip: Pip, *, parity: bool) -> WheelSet:
    """Fetch all that the wheel `own` needs on a runtime, with the wheel of pip, into `directory`, which is emptied first.

    Raises SpaceError, and HubError where pip does not get as far as knowing what there is.
    """
    try:
        return WheelSet(runtime, _closed(own, runtime, directory, pip, parity=parity), (), parity)
    except NoWheelError as error:
        lacks = _lacking(runtime, directory, pip, error, parity=parity)
    if parity and (rest := fetch(own, runtime, directory, pip, parity=False)).usable:
        return WheelSet(runtime, rest.wheels, lacks)
    shutil.rmtree(directory, ignore_errors=True)
    return WheelSet(runtime, {}, lacks)


def reread(own: Path, runtime: Runtime, directory: Path, *, parity: bool) -> WheelSet:
    """Return what an earlier `fetch` left in `directory`, which it had finished."""
    extras = frozenset({PARITY}) if parity else frozenset[str]()
    found, missing = _needed(directory, runtime, [(OWN, extras), (_INSTALLER, frozenset())])
    if missing or found[OWN].name != own.name:
        raise HubError(f"{directory}: not what was fetched", hint="Delete it and run again.")
    return WheelSet(runtime, found, (), parity)


def _closed(own: Path, runtime: Runtime, directory: Path, pip: Pip, *, parity: bool) -> dict[str, Path]:
    extras = frozenset({PARITY}) if parity else frozenset[str]()
    first = f"{own}[{PARITY}]" if parity else str(own)
    asked = [first, _INSTALLER]
    for _ in range(_ROUNDS):
        shutil.rmtree(directory, ignore_errors=True)
        pip.download(asked, runtime, directory)
        found, missing = _needed(directory, runtime, [(OWN, extras), (_INSTALLER, frozenset())])
        if not missing:
            for path in set(directory.iterdir()) - set(found.values()):
                path.unlink()  # required elsewhere only
            return found
        asked += missing
    raise HubError(f"the wheels for {runtime} require ever more: {', '.join(asked[2:8])}")


def _needed(directory: Path, runtime: Runtime, roots: list[Need]) -> tuple[dict[str, Path], list[str]]:
    """Return the wheels that are reached from the roots, and the requirements that no wheel meets."""
    by_name = {_name(path): path for path in sorted(directory.glob("*.whl"))}
    found: dict[str, Path] = {}
    missing: list[str] = []

    def visit(requirement: Requirement) -> Iterable[str] | None:
        name = canonicalize_name(requirement.name)
        path = by_name.get(name)
        if path is None:
            missing.append(_plain(requirement))
            return None
        found[name] = path
        return _metadata(path).requires

    _walk(roots, runtime, visit)
    return found, sorted(set(missing))


def _walk(roots: list[Need], runtime: Runtime, visit: Callable[[Requirement], Iterable[str] | None]) -> None:
    """Follow requirements as they hold on a runtime; `visit` gives those of one package, each extra once."""
    waiting = [Requirement(f"{name}[{','.join(sorted(extras))}]") for name, extras in roots]
    seen: set[Need] = set()
    while waiting:
        requirement = waiting.pop()
        need = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if need in seen:
            continue
        seen.add(need)
        for text in visit(requirement) or ():
            try:
                further = Requirement(text)
            except InvalidRequirement as error:
                raise ContentError(f"{requirement.name} requires what cannot be read: {text[:100]!r}") from error
            if _holds(further, runtime, requirement.extras):
                waiting.append(further)


def _holds(requirement: Requirement, runtime: Runtime, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    marker = requirement.marker
    return any(
        marker.evaluate({**environment, "extra": extra}) for environment in runtime.environments for extra in ("", *extras)
    )


def _lacking(runtime: Runtime, directory: Path, pip: Pip, error: NoWheelError, *, parity: bool) -> tuple[str, ...]:
    """Return every package without a wheel for a runtime; pip stops at the first.

    What is required is read from what is installed here. Raises HubError when each has one, but not together, and where there
    is no index.
    """
    _require_index(runtime, directory, pip)
    wanted = _installed_requirements(runtime, parity=parity)
    lacks: list[str] = []
    while wanted:
        shutil.rmtree(directory, ignore_errors=True)
        try:
            pip.download(list(wanted.values()), runtime, directory, dependencies=False)
        except NoWheelError as absent:
            name = canonicalize_name(absent.package)
            if wanted.pop(name, None) is None:
                break
            lacks.append(name)
        else:
            break
    if not lacks and not error.package:
        raise HubError(f"pip finds no set of wheels for {runtime} that fit together", hint="Try another --python.") from error
    return tuple(sorted(lacks)) or (error.package,)


def _require_index(runtime: Runtime, directory: Path, pip: Pip) -> None:
    """Raise HubError where there is no index at all: for pip that is nothing found; one that is has pip for all."""
    try:
        pip.download([_INSTALLER], runtime, directory, dependencies=False)
    except NoWheelError as error:
        raise HubError("the package index cannot be reached, or is none: it has not even pip", hint=CONFIGURATION) from error


def _installed_requirements(runtime: Runtime, *, parity: bool) -> dict[str, str]:
    """Return what is required on a runtime, directly or not, by normal name."""
    found: dict[str, str] = {}

    def visit(requirement: Requirement) -> Iterable[str] | None:
        name = canonicalize_name(requirement.name)
        if name != OWN:
            found[name] = ",".join(filter(None, (found.get(name, ""), str(requirement.specifier))))
        try:
            return distribution(requirement.name).requires
        except PackageNotFoundError:
            return None

    _walk([(OWN, frozenset({PARITY}) if parity else frozenset())], runtime, visit)
    return {name: f"{name}{specifier}" for name, specifier in sorted(found.items())}


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _name(path: Path) -> str:
    try:
        return parse_wheel_filename(path.name)[0]
    except InvalidWheelFilename as error:
        raise ContentError(f"{path.name}: not the name of a wheel") from error


def _metadata(path: Path) -> Distribution:
    """Return the metadata of a wheel, to be read where it lies. Raises ContentError."""
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
            text = read_member(archive, f"{folder}/METADATA", _MAX_METADATA).decode("utf-8")
    except (*NO_ZIP, StopIteration, UnicodeDecodeError) as error:
        raise ContentError(f"{path.name}: not a wheel: {error}") from error
    return _Held(text)


class _Held(Distribution):
    """A distribution of which there is only the metadata."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self, filename: str) -> str | None:
        """See `Distribution.read_text`."""
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        """See `Distribution.locate_file`."""
        raise NotImplementedError
