"""The version of the program, and instructions to install its optional packages."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from importlib.metadata import requires, version

VERSION = version("hub-airgap")
TOOL = f"hub-airgap {VERSION}"


def how_to_install(package: str, debian: str = "") -> str:
    """Return a sentence with the command that installs a package for the running Python.

    `debian`: the package of the distribution, which is not visible in a virtual environment.
    """
    # With the path of this Python: `pip` on PATH often belongs to another one.
    python, wanted = shlex.quote(sys.executable), shlex.quote(_requirement(package))
    if importlib.util.find_spec("pip") is None:  # environments of uv and pipx, and packages of distributions
        return f"Install {wanted} into the environment of {python}, with the tool that made it (this environment has no pip)."
    system = f", or the package {debian} of your distribution" if debian and sys.prefix == sys.base_prefix else ""
    return f"Install it into the environment of this program: {python} -m pip install {wanted}{system}."


def _requirement(package: str) -> str:
    """Return the requirement on a package in the metadata of hub-airgap; the name alone where it names none."""
    asked = [each.partition(";")[0].strip() for each in requires("hub-airgap") or ()]
    return next((each for each in asked if each.lower().startswith(package)), package)
