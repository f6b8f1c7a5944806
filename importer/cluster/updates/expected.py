"""The releases that an import has brought, as the record in the cluster keeps them for `status` and `doctor`. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from common.archive.inventory import ImageKind, UpdateStepRecord, lacking_images
from common.oci.image import Digest, hex_of
from common.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import Inventory, ReleaseRecord
    from importer.cluster.resources.mirror_rules import Pair
    from importer.mapping import MappedImage


class ExpectedRelease(msgspec.Struct, frozen=True, rename="camel"):
    """A release on the mirror. `source`: the repository that its payload is published in, `place`: on the mirror, by tag.

    `signed`: the archive has signatures for its ConfigMap; `sigstore`: the payload has a `.sig` tag, and `unsigned` so many of
    its components have none. `missing`: so many of its images are not in the archive. `rules`: source and mirror of each
    repository. `steps`: the updates that the update service knows.
    """

    version: str
    architecture: str
    digest: Digest
    source: str
    place: str
    signed: bool = False
    sigstore: bool = False
    unsigned: int = 0
    missing: int = 0
    okd: bool = False
    channels: tuple[str, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    steps: tuple[UpdateStepRecord, ...] = ()

    @property
    def pinned(self) -> str:
        """The payload at its source, by digest; mirror rules lead pulls of it to the mirror."""
        return f"{self.source}@{self.digest}"

    @property
    def name(self) -> str:
        """The release for people."""
        return f"{'OKD' if self.okd else 'OpenShift'} {self.version} ({self.architecture})"


def releases_of(inventory: Inventory, images: Sequence[MappedImage]) -> tuple[ExpectedRelease, ...]:
    """Return the releases of an archive whose payloads are among its images."""
    placed: dict[str, list[MappedImage]] = defaultdict(list)
    for image in images:
        placed[image.name].append(image)
    signed = _signed(images)
    lacking = lacking_images(inventory)
    graph = inventory.update_graph
    steps: dict[tuple[str, str], dict[str, UpdateStepRecord]] = defaultdict(dict)
    for path in (graph.paths if graph else ()) or ():
        for step in path.steps:
            steps[path.architecture, step.to][step.from_] = step
    return tuple(
        msgspec.structs.replace(
            _expected(each, placed, signed, tuple(steps[each.architecture, each.version].values())),
            missing=lacking.get(each.source, 0),
        )
        for each in inventory.carried_releases
        if placed.get(each.source)
    )


def _signed(images: Sequence[MappedImage]) -> frozenset[str]:
    """Return the repository and the hex digits of every image with a `.sig` tag (cosign, *Signature Specification*)."""
    found = set()
    for image in images:
        if image.record.kind is ImageKind.SIGNATURE and image.source is not None:
            for tag in {*image.tags, image.source.tag or ""}:
                if tag.startswith("sha256-") and tag.endswith(".sig"):
                    found.add(f"{image.source.name}@{tag.removeprefix('sha256-').removesuffix('.sig')}")
    return frozenset(found)


def _expected(
    release: ReleaseRecord,
    placed: dict[str, list[MappedImage]],
    signed: frozenset[str],
    steps: tuple[UpdateStepRecord, ...],
) -> ExpectedRelease:
    payload = placed[release.source][0]
    components = [each for one in release.components for each in placed.get(one.source, ())]
    source = Reference.parse(release.source).name
    sources = {(each.source.name, each.digest) for each in components if each.source is not None}
    rules: set[Pair] = {(each.source.name, each.repository.name) for each in (payload, *components) if each.source is not None}
    return ExpectedRelease(
        version=release.version,
        architecture=release.architecture,
        digest=release.digest,
        source=source,
        place=str(payload.tagged(payload.tags[0])),
        signed=bool(release.signatures),
        sigstore=f"{source}@{hex_of(release.digest)}" in signed,
        unsigned=sum(f"{name}@{hex_of(digest)}" not in signed for name, digest in sources),
        okd=release.okd,
        channels=release.channels,
        rules=tuple(sorted(each for each in rules if each[0] != each[1])),
        steps=steps,
    )
