"""The choice of an image among the descriptors in the `index.json` of an OCI layout.

Descriptors of one name, or of none, that have a platform each are one image: builders may list the platforms there instead of
in an index of their own (openshift/oc-mirror#810). No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from common.errors import ContentError, HubError, UsageError
from common.oci import media_types
from common.oci.image import (
    ATTESTATION,
    MAX_TREE_SIZE,
    Descriptor,
    Document,
    Index,
    Manifest,
    Platform,
    Texts,
    WrittenPlatform,
    encode,
    parse,
    parse_config,
    parse_digest,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# Annotations of a descriptor in index.json: OCI image specification 1.1, *Pre-Defined Annotation Keys*, often a tag alone; and
# containerd, images/annotations.go, the whole reference. BuildKit writes both.
_REF_NAME = "org.opencontainers.image.ref.name"
_IMAGE_NAME = "io.containerd.image.name"
# BuildKit, *Image attestation storage*.
_REFERENCE_TYPE = "vnd.docker.reference.type"
MAX_LOOKED_INTO = 64  # documents read to find out which of them are one image; an image has some ten platforms at the most
_SHOWN = 10

Fetch = Callable[[Descriptor], Document]
Config = Callable[[Descriptor], bytes]


class Listed(msgspec.Struct, rename="camel", frozen=True):
    """A descriptor of index.json."""

    digest: str
    size: int = 0
    media_type: str | None = None
    place: WrittenPlatform | None = msgspec.field(name="platform", default=None)
    artifact_type: str | None = None
    annotations: Texts = None

    @property
    def platform(self) -> Platform | None:
        """The platform of the image, where all of it is given."""
        return _whole(self.place)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the image in the layout, the precise one first; empty strings without any."""
        notes = texts(self.annotations)
        return notes.get(_IMAGE_NAME, ""), notes.get(_REF_NAME, "")

    @property
    def shown(self) -> str:
        """The name by which the image can be asked for."""
        return self.names[0] or self.names[1] or self.digest

    @property
    def is_attestation(self) -> bool:
        """Whether this is an attestation of BuildKit, next to the image that it is about."""
        return self.platform == ATTESTATION or _REFERENCE_TYPE in (self.annotations or {})

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor, checked. Raises ContentError."""
        return Descriptor(self.media_type or "", parse_digest(self.digest), self.size)

    def is_called(self, name: str) -> bool:
        """Return whether this is an image of the name; without a name any is, as for skopeo."""
        return not name or name in self.names or name.removeprefix("@") == self.digest


@dataclass(frozen=True, slots=True)
class _Candidate:
    listed: Listed
    document: Document | None
    """None where it cannot be read: the layout may be incomplete, and this may not be the image that is meant."""


def image_of(where: str, listed: Sequence[Listed], name: str, fetch: Fetch, config: Config) -> Document:
    """Return the image of a name, or the only one. Raises UsageError with the names for several, and the errors of `fetch`."""
    called = list({one.digest: one for one in listed if one.is_called(name)}.values())
    found = [one for one in called if not one.is_attestation] or called
    if len(found) == 1:
        return fetch(found[0].descriptor)
    if 1 < len(found) <= MAX_LOOKED_INTO:
        tops = _tops(_candidates(where, found, fetch))
        if len(tops) == 1 and (document := tops[0].document) is not None:
            return document
        if made := _joined(tops, [one for one in called if one.is_attestation], config):
            return made
    if not listed:
        raise UsageError(f"{where}: the layout has no images", hint="skopeo copy docker://… oci:PATH puts one into it.")
    names = ", ".join(sorted({one.shown for one in listed if not one.is_attestation})[:_SHOWN]) or "none"
    raise UsageError(
        f"{where}: {len(found)} images{f' of the name {name!r}' if name else ''}",
        hint=f"Say which one, as oci:PATH:NAME. It has: {names}",
    )


def _candidates(where: str, found: Iterable[Listed], fetch: Fetch) -> list[_Candidate]:
    """Read the documents of descriptors. Raises ContentError for more bytes than those of an image may have."""
    candidates, size = [], 0
    for one in found:
        try:
            document = fetch(one.descriptor)
        except HubError:
            document = None
        size += len(document.raw) if document else 0
        if size > MAX_TREE_SIZE:
            raise ContentError(f"{where}: the manifests in it have more than {MAX_TREE_SIZE} bytes")
        candidates.append(_Candidate(one, document))
    return candidates


def _tops(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Return the candidates without those that an index among them lists, and without signatures and other artifacts."""
    # ORAS lists every manifest that it stored, the children of an index too (oras-project/oras-go, content/oci).
    below = {child.digest for one in candidates if isinstance(one.document, Index) for child in one.document.manifests}
    tops = [one for one in candidates if one.listed.digest not in below]
    return [one for one in tops if not _is_artifact(one)] or tops


def _is_artifact(one: _Candidate) -> bool:
    document = one.document
    if one.listed.artifact_type or (document is not None and document.subject is not None):
        return True
    return isinstance(document, Manifest) and not document.is_image


def _joined(candidates: Iterable[_Candidate], attestations: Iterable[Listed], config: Config) -> Index | None:
    """Return an index of images of different platforms and of one name; None for anything else."""
    children: dict[Platform, dict[str, object]] = {}
    names = set()
    for one in candidates:
        platform = _platform_of(one, config)
        if platform is None or platform in children:
            return None
        names.add(one.listed.names)
        assert one.document is not None
        children[platform] = msgspec.to_builtins(one.document.descriptor) | {"platform": msgspec.to_builtins(platform)}
    if len(names) != 1:
        return None
    attached = [_described(one) for one in attestations]
    manifests = [*children.values(), *attached]
    raw = encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": manifests})
    made = parse(raw, media_types.OCI_INDEX)
    assert isinstance(made, Index)
    return made


def _described(listed: Listed) -> dict[str, object]:
    # Without the names, which are those of the layout.
    notes = {key: value for key, value in texts(listed.annotations).items() if key not in (_REF_NAME, _IMAGE_NAME)}
    described: dict[str, object] = msgspec.to_builtins(listed.descriptor)
    described["platform"] = msgspec.to_builtins(ATTESTATION)
    return described | ({"annotations": notes} if notes else {})


def _platform_of(one: _Candidate, config: Config) -> Platform | None:
    """Return the platform of an image: that of its descriptor, else that of its config."""
    if not isinstance(one.document, Manifest):
        return None
    if one.listed.platform is not None:
        return one.listed.platform
    try:
        found = parse_config(config(one.document.config))
    except HubError:
        return None
    return _whole(found)


def _whole(written: WrittenPlatform | None) -> Platform | None:
    return written.platform if written is not None and written.os and written.architecture else None
