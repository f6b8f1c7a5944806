"""The wheels of a kit: chosen by the lock file, fetched by pip, which checks each against its sha256.

pip is run as a person would run it: its own configuration names the index, the proxy and the certificates.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import TYPE_CHECKING

from common.errors import HubError, UsageError
from common.files import require_space
from common.progress import step
from common.text import counted
from exporter.kit.lock_file import LockFile
from exporter.kit.settings import PARITY
from exporter.kit.wheel_file import OWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from common.progress import Progress
    from exporter.kit.lock_file import LockedWheel, Selection
    from exporter.kit.settings import KitSettings, Runtime


_LOG = logging.getLogger(__name__)
# Addresses of an index may carry credentials: with a scheme, or as the bare `user:password@host` of a proxy.
_ADDRESS = re.compile(r"\b[\w.+-]+://[^\s'\"]*")
_AT_HOST = re.compile(r"[^\s'\"/]*:[^\s'\"/]*@\S*")
_MAX_MESSAGE = 600
_QUIET = {
    "PIP_NO_COLOR": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True, slots=True)
class WheelSet:
    """The wheels of a runtime by package, empty where some are lacking; `lacks` names the packages without one.

    `parity`: they include what parity needs. When parity alone lacks something, the rest is there.
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
        """What pip installs on the other side."""
        return f"{OWN}[{PARITY}]" if self.parity else OWN


class WheelFetcher:
    """Fetches the wheels of a kit.

    Raises UsageError at once for a lock file that cannot be read, and where this Python has no pip.
    """

    def __init__(self, settings: KitSettings) -> None:
        # The installed distribution, not pyproject.toml: its wheel is the one that the kit installs.
        self._lock = LockFile(settings.lock, distribution(OWN).requires or ())
        self._settings = settings
        self._environ = {**settings.environ, **_QUIET}
        if self._run(["--version"]).returncode:
            raise UsageError(
                f"{sys.executable} has no pip, which fetches the wheels",
                hint=f"Install it: {sys.executable} -m ensurepip; on Debian first apt-get install python3-pip python3-venv.",
            )

    def select(self) -> dict[Runtime, Selection]:
        """Return the wheels of each runtime, as the lock file has them; fetches nothing. Raises UsageError."""
        return {each: self._lock.select(each, parity=self._settings.parity) for each in self._settings.runtimes}

    def fetch(self, own: Path, selections: Mapping[Runtime, Selection], directory: Path, progress: Progress) -> list[WheelSet]:
        """Fetch the wheels that are not yet in `directory`, and return the wheels of each runtime, with the importer's own.

        Raises SpaceError, and HubError with pip's message.
        """
        directory.mkdir(exist_ok=True)
        # Most wheels fit several runtimes: one directory for all, so that each is fetched once.
        _require_space(directory, [wheel for each in selections.values() for wheel in each.wheels.values()])
        found, count = [], len(selections)
        with step(progress, f"fetching wheels for {counted(count, 'combination')}", count, "combinations", kept=True):
            for number, (runtime, selected) in enumerate(selections.items(), 1):
                progress.item(f"{number} of {count}: {runtime}", 0)
                self._download(list(selected.wheels.values()), runtime, directory)
                paths = {name: directory / wheel.filename for name, wheel in selected.wheels.items()}
                found.append(WheelSet(runtime, {OWN: own, **paths} if paths else {}, selected.lacks, selected.parity))
                progress.item_end(f"{number} of {count}: {runtime}")
                progress.advance(1)
        return found

    def _download(self, wheels: Sequence[LockedWheel], runtime: Runtime, directory: Path) -> None:
        missing = _missing(wheels, directory)
        if not missing:
            return
        requirements = directory / "requirements.txt"
        requirements.write_text("".join(f"{wheel.requirement}\n" for wheel in missing))
        # No resolution: the lock file is complete. pip would read markers with the values of the Python that runs it, whichever
        # --python-version says (pypa/pip#6117).
        options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--implementation", "cp"]
        platforms = [part for name in runtime.wheel_platforms for part in ("--platform", name)]
        for_runtime = [*platforms, "--python-version", runtime.python]
        done = self._run(["download", "--dest", str(directory), *options, *for_runtime, "--requirement", str(requirements)])
        requirements.unlink()  # everything else in the directory is a wheel
        left = _missing(missing, directory)
        if done.returncode:
            message = shown(done.stderr or done.stdout)
            _LOG.debug("pip for %s: %s", runtime, message)
            _require_space(directory, left)  # a full disk is exit status 7, without a look at pip's words
            raise HubError(
                f"pip could not fetch the wheels for {runtime} (exit status {done.returncode}): {message}",
                hint="pip's own configuration counts: pip config list, PIP_INDEX_URL, PIP_PROXY, PIP_CERT.",
            )
        if left:  # an index that serves the right bytes under another name
            raise HubError(f"pip did not fetch {left[0].filename}", hint="Take another package index.")

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run pip without a terminal to ask on; an interruption reaches it too, in the same process group."""
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
    """Return pip's message: from its first line that is an error, without addresses."""
    # Warnings come first, one for each attempt to reach an index, and say no more than the error.
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("ERROR")), 0)
    message = " ".join(" ".join(lines[first:]).split()).removeprefix("ERROR: ")
    return _AT_HOST.sub("(address)", _ADDRESS.sub("(address)", message))[:_MAX_MESSAGE] or "no message"


def _missing(wheels: Sequence[LockedWheel], directory: Path) -> list[LockedWheel]:
    """Return the wheels that are not in a directory, or are there with other contents (an interrupted run)."""
    return [wheel for wheel in wheels if not _is_there(directory / wheel.filename, wheel.sha256)]


def _is_there(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _require_space(directory: Path, wheels: Sequence[LockedWheel]) -> None:
    sizes = {wheel.filename: wheel.size for wheel in _missing(wheels, directory)}
    require_space(directory, sum(sizes.values()), "the wheels of the kit")
