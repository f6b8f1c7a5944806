"""The importer as a container image: a base with Python, and one added layer with the unpacked wheels.

Nothing is run to make it, so any machine makes images for all platforms.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.content import in_memory
from common.distribution import VERSION
from common.errors import ContentError, UsageError
from common.files import require_space
from common.oci.image import Descriptor, Digest, ImageConfig, Manifest, Platform, parse_config
from common.progress import step
from common.registry.source_sink import RegistrySource
from common.transfer import copy
from exporter.images import layered_image
from exporter.images.layered_image import (
    PROGRAM,
    Change,
    Fields,
    LayeredImage,
    add_file,
    add_folder,
    add_layer,
    as_raw,
    labels_of,
    parents,
)
from exporter.images.resolve import fetch_tree
from exporter.kit.settings import PYTHONS, ImageSettings
from exporter.kit.wheel_file import NO_ZIP, read_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from common.content import BlobSource, Chunks, DirectoryStore
    from common.oci.reference import Reference
    from common.registry.client import RegistryClient
    from exporter.context import ExportContext


# A place of its own: the site-packages of a base belong to its distribution, which may replace them.
ROOT = "opt/hub-airgap"
PROGRAM_PATH = f"/{ROOT}/bin/hub-import"
USER = "1001"  # not root, by number: Kubernetes checks runAsNonRoot without the image's /etc/passwd
_MAX_CONFIG = 8 * 1024 * 1024
_MAX_WHEEL = 1024 * 1024 * 1024  # bytes of its files; the largest in a kit has 20 MiB
# The parts of a wheel's .data directory that are importable (packaging.python.org, *Binary distribution format*); scripts and
# manual pages are of no use in an image.
_INSTALLED = ("purelib/", "platlib/")
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "HOME": "/tmp"}  # noqa: S108 - as in the Containerfile
# The PATH of a process without one, as podman and Docker set it.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Base:
    """One platform of the base image. `python`: the version of its Python, `3.11`."""

    reference: Reference
    platform: Platform
    manifest: Manifest
    config: bytes
    python: str


def bases(settings: ImageSettings, client: RegistryClient, platforms: Sequence[Platform]) -> dict[Platform, Base]:
    """Return the base for each of the platforms that it has. Fetches no layers.

    Raises UsageError for an unknown Python and for one without kits, RegistryError, ContentError.
    """
    found: dict[Platform, Base] = {}
    tree = fetch_tree(settings.base, client, platforms)
    for document in tree.images:
        raw = client.blob_bytes(settings.base, document.config, _MAX_CONFIG)
        config = parse_config(raw)
        # The config decides: an image without an index has its platform nowhere else.
        own = config.platform
        platform = next((one for one in platforms if own is not None and one.accepts(own)), None)
        if platform is not None and platform not in found:
            found[platform] = Base(settings.base, platform, document, raw, _python_of(settings, config))
    if not tree.images and not tree.left_out:
        raise UsageError(f"--image-base {settings.base}: no image that runs: {tree.kinds}", hint="Take another base.")
    if not found:
        raise UsageError(
            f"--image-base {settings.base}: has none of the platforms {', '.join(map(str, platforms))}",
            hint="Name a base for them, or other platforms with --platform.",
        )
    return found


def _python_of(settings: ImageSettings, config: ImageConfig) -> str:
    """Return the Python of a base, `3.11`: that of `--image-python`, or of PYTHON_VERSION in the base's environment."""
    if settings.python:
        return settings.python
    # `3.12.7` in docker.io/library/python, `3.12` in registry.redhat.io/ubi9/python-312.
    match = re.match(r"(\d+\.\d+)(?!\d)", config.environment.get("PYTHON_VERSION", ""))
    if match is None:
        raise UsageError(
            f"--image-base {settings.base}: its environment has no PYTHON_VERSION, so which Python it has is not known",
            hint="Name it with --image-python 3.11, or take an image of Python's, such as docker.io/library/python:3.12-slim.",
        )
    if match[1] not in PYTHONS:
        raise UsageError(
            f"--image-base {settings.base}: has Python {match[1]}, and there are kits for {', '.join(PYTHONS)}",
            hint="Take another base.",
        )
    return match[1]


def layer_of(wheels: Iterable[Path], python: str) -> bytes:
    """Return the uncompressed layer: the files of the wheels below /opt/hub-airgap, and the program; deterministic."""
    files = {f"{ROOT}/lib/{name}": content for path in wheels for name, content in _unpacked(path).items()}
    program = f"{ROOT}/bin/hub-import"
    folders = {folder for name in (*files, program) for folder in parents(name)}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted({*folders, *files, program}):
            if name == program:
                add_file(tar, name, _program(python), PROGRAM)
            elif name in files:
                add_file(tar, name, files[name])
            else:
                add_folder(tar, name)
    return output.getvalue()


def _program(python: str) -> bytes:
    # The base's own Python by its version: `python3` can be another one, such as that of UBI's package manager.
    lines = (
        f"#!/usr/bin/env python{python}",
        "import sys",
        f'sys.path.insert(0, "/{ROOT}/lib")',
        "from hub_airgap import import_main",
        "sys.exit(import_main())",
    )
    return ("\n".join(lines) + "\n").encode()


def _unpacked(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel by their installed paths. Raises ContentError."""
    found: dict[str, bytes] = {}
    left = _MAX_WHEEL  # a small zip can unpack to terabytes
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                path_installed = _installed_path(name)
                if ".." in name.split("/") or name.startswith("/"):
                    raise ContentError(f"{path.name}: has a file {name[:100]!r}")
                if path_installed:
                    found[path_installed] = read_member(archive, name, left)
                    left -= len(found[path_installed])
    except NO_ZIP as error:
        raise ContentError(f"{path.name}: not a wheel: {error}") from error
    return found


def _installed_path(name: str) -> str:
    """Return the installed path of a file of a wheel, empty for a file that is not importable."""
    first, _, rest = name.partition("/")
    if name.endswith("/"):
        return ""
    if not first.endswith(".data"):
        return name
    return next((rest.removeprefix(scheme) for scheme in _INSTALLED if rest.startswith(scheme)), "")


def image_of(base: Base, layer: bytes) -> LayeredImage:
    """Return the image of the importer. Raises ContentError."""
    return add_layer(base.manifest, base.config, layer, Change(lambda settings: _settle(settings, base), "hub-export kit"))


def _settle(settings: Fields, base: Base) -> None:
    """Set the image's settings to run the importer as an ordinary user."""
    lines = msgspec.json.decode(settings.get("Env", b"null"), type=list[str] | None) or []
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    variables |= _ENVIRONMENT | {"PATH": f"/{ROOT}/bin:{variables.get('PATH', _DEFAULT_PATH)}"}
    labels = labels_of(settings) | {
        "org.opencontainers.image.title": as_raw("hub-import"),
        "org.opencontainers.image.version": as_raw(VERSION),
        "org.opencontainers.image.base.name": as_raw(base.reference.name),
        "org.opencontainers.image.base.digest": as_raw(base.manifest.digest),
    }
    # The base's default arguments (`python3`) would become arguments of hub-import.
    settings.pop("Cmd", None)
    settings |= {
        "Env": as_raw([f"{name}={value}" for name, value in variables.items()]),
        "Entrypoint": as_raw([PROGRAM_PATH]),
        "User": as_raw(USER),
        "Labels": as_raw(labels),
    }


class _Blobs:
    """The blobs of an image: those of its base from the store, the new ones from memory."""

    def __init__(self, own: Mapping[Digest, bytes], store: DirectoryStore) -> None:
        self._own = own
        self._store = store

    def read(self, blob: Descriptor, start: int = 0) -> Chunks:
        """Return the chunks of a blob from the byte `start` on."""
        held = self._own.get(blob.digest)
        return self._store.read(blob, start) if held is None else in_memory(held, start)


def write(base: Base, wheels: Iterable[Path], path: Path, media: ExportContext, jobs: int) -> None:
    """Write the image of one platform to `path`. Raises SpaceError, and the error of a layer that cannot be fetched."""
    # Twice the layers of the base: in the store, and in the file.
    require_space(path.parent, 2 * sum(layer.size for layer in base.manifest.layers), f"the image for {base.platform}")
    image = image_of(base, layer_of(wheels, base.python))
    _fetch(base, media, jobs)
    manifest = layered_image.as_oci(image.manifest)
    blobs: BlobSource = _Blobs(image.blobs, media.store)
    layered_image.write(path, manifest, base.platform, f"hub-import:{VERSION}", blobs)


def _fetch(base: Base, media: ExportContext, jobs: int) -> None:
    layers = {layer.digest: layer for layer in base.manifest.layers}
    source = RegistrySource(media.client, dict.fromkeys(layers, (base.reference,)))
    size = sum(layer.size for layer in layers.values())
    with step(media.progress, f"fetching the base for {base.platform}", size, kept=True):
        for outcome in copy(layers.values(), source, media.store, jobs=jobs, progress=media.progress):
            if outcome.error is not None:
                raise outcome.error
