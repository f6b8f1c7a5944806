"""Make wheels of installed distributions: the same files give the same bytes.

A wheel is a zip of the packages and their `.dist-info` (packaging.python.org, *Binary distribution format*). Files that an
installer adds are left out; the checksums in RECORD show whether the others are unchanged.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

from common.errors import ContentError, HubError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import Distribution


OWN = "hub-airgap"
_OWN_PACKAGES = ("common", "exporter", "hub_airgap", "importer")
# Added by the installer (packaging.python.org, *Recording installed projects*), different on each host.
_OF_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_EARLIEST = 315_532_800  # 1980: the range of times in a zip (APPNOTE.TXT 4.4.6, MS-DOS date)
_LATEST = 4_354_819_198  # 2107
_COMPILED = ".pyc"
_PAGES = "share/man/"
# The errors of zipfile for files that it cannot read; RuntimeError: encrypted, or (NotImplementedError) of an unknown method.
NO_ZIP = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Return a file of a wheel. Raises ContentError for one of more than `limit` bytes, and one of NO_ZIP."""
    # The size in the directory, before anything is unpacked; `read` fails for a member that does not have it.
    size = archive.getinfo(name).file_size
    if size > limit:
        raise ContentError(f"{name[:100]} takes {size} bytes; the limit is {limit}")
    return archive.read(name)


def rebuilt(distribution: Distribution, epoch: int | None = None) -> tuple[str, bytes]:
    """Return the name and content of the wheel of an installed distribution.

    The importer's can be an editable installation, with its files in the source tree. Raises HubError for a distribution that
    does not list its files, and for files that were changed or deleted since the installation.
    """
    files = dict(_installed(distribution))
    pages = [name for name in files if name.startswith(_PAGES)]
    if canonicalize_name(distribution.name) == OWN and not any(name.partition("/")[0] in _OWN_PACKAGES for name in files):
        files |= dict(_of_source())
    folder = next((name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info")), "")
    if f"{folder}/WHEEL" not in files or len(files) == 1:
        raise HubError(
            f"{distribution.name} {distribution.version} is not installed from a wheel; its files are not known",
            hint="Install it with pip, and run the command again.",
        )
    # A wheel holds data files under `.data/data`; the installer puts them below the prefix of the environment.
    data = f"{folder.removesuffix('.dist-info')}.data/data"
    files |= {f"{data}/{page}": files.pop(page) for page in pages}
    name = f"{folder.removesuffix('.dist-info')}-{_tag(files[f'{folder}/WHEEL'])}.whl"
    return name, _zipped(files, folder, epoch)


def _installed(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    """Give the files of a distribution, checked, except scripts; manual pages, which are below the prefix, as `share/man/…`."""
    for name, algorithm, checksum in _recorded(distribution):
        path = PurePosixPath(name)
        if f"/{_PAGES}" in name and set(path.parts[: path.parts.index("share")]) == {".."}:
            path = PurePosixPath(*path.parts[path.parts.index("share") :])
        by_installer = path.parent.name.endswith(".dist-info") and path.name in _OF_INSTALLER
        if ".." in path.parts or path.is_absolute() or path.suffix in (_COMPILED, ".pth") or by_installer:
            continue
        try:
            content = Path(str(distribution.locate_file(name))).read_bytes()
        except OSError as error:
            # Images for containers are often made without manual pages, and `pip install --target` has no prefix for them.
            if str(path).startswith(_PAGES):
                continue
            raise HubError(f"{distribution.name}: {name}: {error.strerror}", hint="Install it again.") from error
        # RECORD has no checksums of files that the installer writes, such as compiled ones.
        if checksum and _checksum(content, algorithm) != checksum:
            raise HubError(f"{distribution.name}: {name} was changed after it was installed", hint="Install it again.")
        yield str(path), content


def _recorded(distribution: Distribution) -> Iterator[tuple[str, str, str]]:
    """Give name, algorithm and checksum of every file that the RECORD of an installed wheel lists.

    `Distribution.files` leaves out files that are missing on the disk, from Python 3.12 on (python/importlib_metadata#437).
    """
    for line in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if line:
            algorithm, _, checksum = (line[1] if len(line) > 1 else "").partition("=")
            yield line[0], algorithm, checksum


def _of_source() -> Iterator[tuple[str, bytes]]:
    """Give the files of the importer's packages in the source tree."""
    # An editable installation records a .pth file instead of the packages.
    root = Path(__file__).resolve().parents[2]
    for package in _OWN_PACKAGES:
        for path in sorted((root / package).rglob("*")):
            relative = path.relative_to(root)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
            if path.is_file() and not hidden and path.suffix != _COMPILED:
                yield relative.as_posix(), path.read_bytes()


def _tag(wheel: bytes) -> str:
    """Return the tags in a file WHEEL in the compressed form of file names (PEP 425)."""
    lines = wheel.decode("utf-8").splitlines()
    tags = [tag for line in lines if line.startswith("Tag:") for tag in parse_tag(line.removeprefix("Tag:").strip())]
    parts = ({tag.interpreter for tag in tags}, {tag.abi for tag in tags}, {tag.platform for tag in tags})
    return "-".join(".".join(sorted(part)) for part in parts)


def _checksum(content: bytes, algorithm: str = "sha256") -> str:
    return base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()


def _zipped(files: Mapping[str, bytes], folder: str, epoch: int | None) -> bytes:
    """Return the wheel, its files sorted, with the metadata last as the specification recommends."""
    names = sorted(files, key=lambda name: (name.startswith(f"{folder}/"), name))
    record = "".join(f"{_quoted(name)},sha256={_checksum(files[name])},{len(files[name])}\n" for name in names)
    record_name = f"{folder}/RECORD"
    moment = time.gmtime(min(max(epoch or 0, _EARLIEST), _LATEST))[:6]
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*((name, files[name]) for name in names), (record_name, f"{record}{record_name},,\n".encode())]:
            entry = zipfile.ZipInfo(name, moment)
            # Fixed: zipfile would take the system from the platform that runs this, and no mode at all.
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o100644 << 16, 3
            archive.writestr(entry, content)
    return output.getvalue()


def _quoted(name: str) -> str:
    """Return a name in the form of CSV (RFC 4180)."""
    return '"' + name.replace('"', '""') + '"' if {",", '"'} & set(name) else name
