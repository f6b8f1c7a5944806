"""The target profile: release, platforms, operators and registry of the disconnected side, for the exporter (ADR 0016).

`hub-import probe` writes it, `hub-export create --target` applies it. It leaves a closed network, so a person has to be able to
read it. Null stands for unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from common.errors import UsageError
from common.files import read_limited
from common.oci.image import Platform
from common.openshift.openshift_release import parse_release
from common.serialization import UNDECODABLE, bounded_json, decode_bounded

if TYPE_CHECKING:
    from pathlib import Path


MEDIA_TYPE = "application/vnd.hub-airgap.target.v1+json"
MAX_SIZE = 4 * 1024 * 1024  # thousands of operators
_WANTED = "hub-import probe makes one."


class InstalledOperator(msgspec.Struct, frozen=True, rename="camel"):
    """An operator that a Subscription updates. `csv`: the installed one; `version` null: it states none."""

    package: str
    channel: str
    csv: str
    version: str | None
    catalog: str
    namespace: str


class TargetRegistry(msgspec.Struct, frozen=True, rename="camel"):
    """The mirror, and whether it supports nested repositories, indexes without all of their platforms, and referrers."""

    address: str
    nested_paths: bool | None
    sparse_indexes: bool | None
    referrers: bool | None


class TargetProfile(msgspec.Struct, frozen=True, rename="camel"):
    """One cluster and its mirror. `platforms` are those of its nodes; `notes`: what could not be read, and why."""

    media_type: str
    openshift_release: str | None
    platforms: tuple[str, ...] | None
    operators: tuple[InstalledOperator, ...] | None
    registry: TargetRegistry
    notes: tuple[str, ...] = ()

    @property
    def minor_release(self) -> tuple[int, int] | None:
        """The release without what follows its second number; None where it is not known."""
        if self.openshift_release is None:
            return None
        return parse_release(self.openshift_release)[:2]


_PROFILE = msgspec.json.Decoder(TargetProfile)


class _Header(msgspec.Struct, rename="camel"):
    """The only field that every version of the format has."""

    media_type: str


_HEADER = msgspec.json.Decoder(_Header)


def encode(profile: TargetProfile) -> bytes:
    """Return the bytes of a profile. Raises ContentError for one that is too large to be read."""
    return bounded_json(profile, MAX_SIZE, "target profile", "Write it without the cluster: --no-cluster.")


def load(path: Path) -> TargetProfile:
    """Read a profile. Raises UsageError for any other file, and for a later version."""
    raw = read_limited(path, MAX_SIZE, _WANTED)
    try:
        # The version first: a later one may have other types of fields.
        _require_known(_HEADER.decode(raw).media_type, path)
        profile = decode_bounded(raw, _PROFILE)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: not a target profile: {error}", hint=_WANTED) from error
    _require_sound(profile, path)
    return profile


def _require_sound(profile: TargetProfile, path: Path) -> None:
    """Check the values. Raises UsageError."""
    # People edit this file, to remove what must not leave their network.
    try:  # for the message alone; the exporter parses them again
        if profile.openshift_release is not None:
            parse_release(profile.openshift_release)
        for platform in profile.platforms or ():
            Platform.parse(platform)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from error


def _require_known(media_type: str, path: Path) -> None:
    """Raise UsageError for another format or version."""
    if media_type == MEDIA_TYPE:
        return
    # The remedy for a later version is a newer program, not another file.
    later = media_type.startswith(MEDIA_TYPE.partition(".v1")[0])
    what = "a target profile of another version" if later else "not a target profile"
    hint = "Use a newer hub-airgap." if later else _WANTED
    raise UsageError(f"{path}: {what}: {media_type[:80]!r}", hint=hint)
