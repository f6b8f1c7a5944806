"""What the kit tells: README.txt for the person on the other side, platforms.txt for install.sh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.oci.platform import Platform
from common.version import VERSION
from exporter.kit.wheels import WheelSet

_TEXT = """\
hub-airgap {version}: the importer, to be installed without a network.

1. Check that everything arrived:       sha256sum -c SHA256SUMS
2. Install:                             sh install.sh
   It needs Python 3.11, 3.12 or 3.13 with its standard library, and nothing else. It installs into
   ~/.local/share/hub-airgap (root: /opt/hub-airgap) and links hub-import into ~/.local/bin
   (root: /usr/local/bin); --prefix DIR, --bin DIR and --python PATH say otherwise.
3. Then:                                hub-import verify ARCHIVE

Run install.sh of a newer kit to upgrade: the installed one stays until the new one works.
To remove it: sh install.sh --uninstall
{images}
This kit installs on:
{runtimes}
{problems}"""
_IMAGES = """
As a container image, where there is no such Python (its name is then localhost/hub-import:{version}):
{lines}
    podman run --rm -v /media/stick:/archive:ro,Z hub-import:{version} verify /archive
"""


def readme(sets: Sequence[WheelSet], images: Mapping[Platform, str], problems: Sequence[tuple[str, str]]) -> bytes:
    """Return README.txt."""
    lines = "\n".join(f"    podman load -i {name}" for name in images.values())
    missing = "".join(f"  {subject}: {message}\n" for subject, message in problems)
    text = _TEXT.format(
        version=VERSION,
        images=_IMAGES.format(version=VERSION, lines=lines) if images else "",
        runtimes="\n".join(f"  {each.runtime}" for each in sets if each.usable),
        problems=f"\nNot in this kit, for the package index did not have it:\n{missing}" if missing else "",
    )
    return text.encode("ascii", "replace")


def runtimes_file(sets: Sequence[WheelSet]) -> bytes:
    """Return platforms.txt: machine, Python, and what to install there, a line each."""
    lines = ["# machine python requirement"]
    lines += [f"{each.runtime.machine} {each.runtime.python} {each.requirement}=={VERSION}" for each in sets if each.usable]
    lines += [f"# {each.runtime.machine} {each.runtime.python} lacks {' '.join(each.lacks)}" for each in sets if each.lacks]
    return ("\n".join(lines) + "\n").encode()
