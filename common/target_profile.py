"""The target profile: what the disconnected side is, as far as it matters for what is carried there (ADR 0016).

`hub-import probe` writes it, a security officer reads it, `hub-export create --target` goes by it. Null: it could not be told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from common.errors import UsageError
from common.files import read_limited
from common.oci.image import Platform
from common.serialization import UNDECODABLE, decode_bounded, pretty_json

if TYPE_CHECKING:
    from pathlib import Path

MEDIA_TYPE = "application/vnd.hub-airgap.target.v1+json"
MAX_SIZE = 4 * 1024 * 1024
_WANTED = "hub-import probe makes one."
_RELEASE = re.compile(r"\d{1,3}\.\d{1,3}(?:\.\S{1,80})?")


class InstalledOperator(msgspec.Struct, frozen=True, rename="camel"):
    """An operator that a Subscription keeps up to date. `csv`: what is installed; `version` null: it says none."""

    package: str
    channel: str
    csv: str
    version: str | None
    catalog: str
    namespace: str


class TargetRegistry(msgspec.Struct, frozen=True, rename="camel"):
    """The mirror, and what it takes: repositories within repositories, indexes without all their platforms, referrers."""

    address: str
    nested_paths: bool | None
    sparse_indexes: bool | None
    referrers: bool | None


class TargetProfile(msgspec.Struct, frozen=True, rename="camel"):
    """One cluster and its mirror. `platforms` are those of its nodes; `operators` null: they could not be listed.

    `notes`: what could not be seen, and why.
    """

    media_type: str
    openshift_release: str | None
    platforms: tuple[str, ...] | None
    operators: tuple[InstalledOperator, ...] | None
    registry: TargetRegistry
    notes: tuple[str, ...] = ()


_PROFILE = msgspec.json.Decoder(TargetProfile)


class _Header(msgspec.Struct, rename="camel"):
    """What every version of the format has."""

    media_type: str


_HEADER = msgspec.json.Decoder(_Header)


def encode(profile: TargetProfile) -> bytes:
    """Return the bytes of a profile."""
    return pretty_json(profile)


def load(path: Path) -> TargetProfile:
    """Read a profile. Raises UsageError for a file that is none, or one of a later version."""
    raw = read_limited(path, MAX_SIZE, _WANTED)
    try:
        _require_known(_HEADER.decode(raw).media_type, path)
        profile = decode_bounded(raw, _PROFILE)
    except UNDECODABLE as error:
        raise UsageError(f"{path}: not a target profile: {error}", hint=_WANTED) from error
    _require_sound(profile, path)
    return profile


def _require_sound(profile: TargetProfile, path: Path) -> None:
    """Look at the words of a file that may have been edited by hand."""
    release = profile.openshift_release
    if release is not None and not _RELEASE.fullmatch(release):
        raise UsageError(f"{path}: not a release: {release[:40]!r}", hint="Wanted: a version such as 4.18.7, or null.")
    for platform in profile.platforms or ():
        try:
            Platform.parse(platform)
        except UsageError as error:
            raise UsageError(f"{path}: {error.message}", hint=error.hint) from error


def _require_known(media_type: str, path: Path) -> None:
    """Look at the version before anything else: a later one may have another shape."""
    if media_type == MEDIA_TYPE:
        return
    later = media_type.startswith(MEDIA_TYPE.partition(".v1")[0])
    what = "a target profile of another version" if later else "not a target profile"
    hint = "Use a newer hub-airgap." if later else _WANTED
    raise UsageError(f"{path}: {what}: {media_type[:80]!r}", hint=hint)
