"""The version of this tool, as it stands in inventories and in `--version`."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires, version

VERSION = version("hub-airgap")
TOOL = f"hub-airgap {VERSION}"


# Packages that not every installation has: how to install one where this program runs.


def how_to_install(package: str, debian: str = "") -> str:
    """Return a sentence with the command that installs a package for the Python that runs this.

    `debian`: the distribution's package, which only helps outside of a virtual environment.
    """
    python, wanted = shlex.quote(sys.executable), shlex.quote(_requirement(package))
    if importlib.util.find_spec("pip") is None:
        return f"Install {wanted} into the environment of {python}, with the tool that made it (this environment has no pip)."
    system = f", or the package {debian} of your distribution" if debian and sys.prefix == sys.base_prefix else ""
    return f"Install it into the environment of this program: {python} -m pip install {wanted}{system}."


def _requirement(package: str) -> str:
    """Return the versions that fit, as `hub-airgap` asks for them; the name alone where its metadata is not installed."""
    try:
        asked = [each.partition(";")[0].strip() for each in requires("hub-airgap") or ()]
    except PackageNotFoundError:
        asked = []
    return next((each for each in asked if each.lower().startswith(package)), package)
