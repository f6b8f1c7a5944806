"""Inventories with OpenShift releases, made in memory: two components, a signature each, graph data."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.archive.inventory import (
    CatalogRecord,
    ComponentRecord,
    ImageKind,
    ImageRecord,
    Inventory,
    ReleaseRecord,
    ReleaseSignatureRecord,
    UpdateGraphRecord,
    UpdatePathRecord,
)
from common.oci.image import Digest, digest_of

PAYLOADS = "quay.io/openshift-release-dev/ocp-release"
COMPONENTS = "quay.io/openshift-release-dev/ocp-v4.0-art-dev"
GRAPH = digest_of(b"graph data")
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Carried:
    """A release of an archive."""

    version: str
    architecture: str = "amd64"
    signatures: Sequence[bytes] = (b"signed",)
    components: Sequence[str] = ("cli", "machine-config-operator")
    sigstore: bool = True  # `.sig` tags of payload and components
    payloads: str = PAYLOADS
    pool: str = COMPONENTS
    unverified: bool = False
    okd: bool = False

    @property
    def digest(self) -> Digest:
        return digest_of(f"payload {self.version} {self.architecture}".encode())

    @property
    def source(self) -> str:
        return f"{self.payloads}@{self.digest}"

    def component(self, name: str) -> str:
        return f"{self.pool}@{digest_of(f'{name} {self.version} {self.architecture}'.encode())}"

    def record(self) -> ReleaseRecord:
        minor = ".".join(self.version.split(".")[:2])
        signed = [
            ReleaseSignatureRecord(base64.b64encode(each).decode(), "https://store/signature") for each in self.signatures
        ]
        return ReleaseRecord(
            self.version,
            self.architecture,
            self.source,
            self.digest,
            okd=self.okd,
            channels=(f"stable-{minor}",),
            components=tuple(ComponentRecord(name, self.component(name)) for name in self.components),
            signatures=tuple(signed),
            unverified=self.unverified,
        )

    def images(self) -> Iterator[ImageRecord]:
        yield _image(self.source, self.digest, ImageKind.RELEASE)
        for name in self.components:
            yield _image(self.component(name), Digest(self.component(name).partition("@")[2]), ImageKind.COMPONENT)
        if self.sigstore:
            for source in (self.source, *map(self.component, self.components)):
                repository, _, digest = source.partition("@")
                tag = f"{digest.replace(':', '-')}.sig"
                yield _image(f"{repository}:{tag}", digest_of(tag.encode()), ImageKind.SIGNATURE, tag)


def _image(source: str, digest: Digest, kind: ImageKind, tag: str = "") -> ImageRecord:
    named = {"tag": tag} if tag else {}
    return ImageRecord(source, digest, _DOCKER, kind, (), complete=True, needed_by=(), size=1, **named)


def inventory(
    *releases: Carried,
    graph: bool = True,
    paths: Sequence[UpdatePathRecord] = (),
    catalogs: Sequence[CatalogRecord] = (),
    images: Sequence[ImageRecord] = (),
) -> Inventory:
    """Return what an archive with these releases carries."""
    found = [each for release in releases for each in release.images()]
    if graph:
        found.append(_image("openshift/graph-image", GRAPH, ImageKind.GRAPH_DATA))
    unique: dict[tuple[str, Digest | None], ImageRecord] = {}
    for each in (*images, *found):
        unique.setdefault((each.source, each.digest), each)
    catalog_images = [_image(each.source, each.image, ImageKind.CATALOG) for each in catalogs]
    return Inventory(
        "",
        "",
        "",
        {},
        (),
        tuple(catalogs),
        (*catalog_images, *unique.values()),
        {},
        {},
        (),
        (),
        releases=tuple(each.record() for each in releases),
        update_graph=UpdateGraphRecord(tuple(paths), GRAPH if graph else None),
    )
