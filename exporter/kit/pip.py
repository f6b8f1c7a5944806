"""pip, as a person would run it: its own configuration says from which index, through which proxy, with which certificates.

What it says is shown only without addresses: those of an index may carry credentials.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import HubError, SpaceError, UsageError
from common.log import logger
from exporter.kit.settings import Runtime

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
