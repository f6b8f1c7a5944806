"""A source registry filled from a real catalog: synthetic images under the published names, and a catalog that pins them.

The references of real catalogs name images that are not here. Each gets a small image made from its name alone, and the catalog
files are rewritten to the new digests. registries.conf then leads the published registries to the loopback one, so that
everything downstream sees the names that people know.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.oci.reference import Reference
from tests.fakes import factories
from tests.fakes.factories import IndexParts, Parts

CATALOG = "registry.redhat.io/redhat/redhat-operator-index:v4.18"
OPM = ["/bin/opm"]
SERVE = ["serve", "/configs", "--cache-dir=/tmp/cache"]
LABEL = "operators.operatorframework.io.index.configs.v1"
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9.-]*\.[a-z]{2,}(?:/[a-z0-9._-]+)+(?::[\w.-]+)?@sha256:[0-9a-f]{64}")
_PLATFORMS = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True)
class Sources:
    """What the registry holds: images by reference, catalogs by reference; `files` are the rewritten catalog files."""

    images: Mapping[Reference, Parts]
    catalog: IndexParts
    catalog_reference: Reference
    files: Mapping[str, bytes] = field(default_factory=dict)

    def seed(
        self, url: str, *, without: Iterable[str] = (), login: tuple[str, str] | None = None, ca: Path | None = None
    ) -> None:
        """Put all into a registry, but for the repositories in `without`."""
        left_out = set(without)
        for reference, parts in self.images.items():
            if reference.repository not in left_out:
                factories.seed(url, reference.repository, parts, tag=reference.tag, login=login, ca=ca)
        repository, tag = self.catalog_reference.repository, self.catalog_reference.tag
        factories.seed(url, repository, self.catalog, tag=tag, login=login, ca=ca)

    def registries_conf(self, host: str, *, insecure: bool = False) -> str:
        """Return a registries.conf that leads every registry that is named to `host`."""
        names = sorted({reference.registry for reference in (*self.images, self.catalog_reference)})
        rows = (f'[[registry]]\nprefix = "{n}"\nlocation = "{host}"\ninsecure = {str(insecure).lower()}\n' for n in names)
        return "\n".join(rows)


def from_directory(
    directory: Path, *, packages: Iterable[str] = (), size: int = 20_000, catalog: str = CATALOG, level: int = 9
) -> Sources:
    """Make sources of a directory of catalog files; `packages` (folders, none: all) are those that get images.

    `size`: bytes of the layer that each image has for itself, packed by gzip at `level`; a base layer is shared by all.
    """
    chosen = set(packages)
    files = {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
    images: dict[Reference, Parts] = {}

    def replaced(match: re.Match[str]) -> str:
        old = Reference.parse(match[0])
        parts = _image(match[0], size, level)
        new = Reference(old.registry, old.repository, old.tag, parts.digest)
        images[new] = parts
        return str(new)

    for name, content in files.items():
        if not chosen or name.partition("/")[0] in chosen:
            files[name] = _REFERENCE.sub(replaced, content.decode()).encode()
    return Sources(images, catalog_image(files), Reference.parse(catalog), files)


def catalog_image(
    files: Mapping[str, bytes], *, directory: str = "configs", platforms: Iterable[str] = _PLATFORMS
) -> IndexParts:
    """Return a catalog image as published ones are: opm, the files, and a cache that any change makes stale."""
    content = factories.layer({f"{directory}/{name}": raw for name, raw in files.items()})
    cache = factories.layer({"tmp/cache/digest": b"stale", "tmp/cache/cache/packages.json": b"{}"})
    children = [
        factories.image(
            (factories.layer({"bin/opm": b"opm for " + platform.encode() + _noise(platform, 50_000)}), content, cache),
            platform=platform,
            labels={LABEL: f"/{directory}"},
            config={"Entrypoint": OPM, "Cmd": SERVE, "User": "1001"},
        )
        for platform in platforms
    ]
    return factories.index(children)


def _image(name: str, size: int, level: int) -> Parts:
    """Return the image of a reference: every third is an index of two platforms, every second has Docker's media types.

    Any of them may be a bundle, so each has a ClusterServiceVersion, which names nothing.
    """
    kind = int.from_bytes(name.encode()[-2:], "big")
    base = factories.layer({"usr/lib/base": _noise("base", 100_000)})
    docker = kind % 2 == 0
    csv = {"manifests/operator.clusterserviceversion.yaml": b"kind: ClusterServiceVersion\nspec: {}\n"}
    own = [factories.layer({f"bin/{platform}": _noise(name + platform, size), **csv}, level) for platform in _PLATFORMS]
    images = [
        factories.image((base, layer), platform=platform, docker=docker)
        for layer, platform in zip(own, _PLATFORMS, strict=True)
    ]
    return factories.index(images, docker=docker) if kind % 3 == 0 else images[0]


def _noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)
