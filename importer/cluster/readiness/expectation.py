"""What a cluster is expected to serve after an apply, kept in its record, so that `status` and `doctor` need no archive."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING

import msgspec

from importer.cluster.kinds import SECRET
from importer.cluster.record import EXPECTED, NAME, Recorder
from importer.cluster.resources.mirror_rules import Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import PackageRecord
    from importer.cluster.client import ClusterClient

_LARGEST = 32 * 1024 * 1024  # bytes, unpacked


class Offer(msgspec.Struct, frozen=True, rename="camel"):
    """What matters of a package: its default channel, and the head of each channel."""

    default_channel: str
    heads: dict[str, str]


class ExpectedCatalog(msgspec.Struct, frozen=True, rename="camel"):
    """A catalog that shall be served: its CatalogSource, the image, pinned, on the mirror, and what OLM shall list from it.

    `rules`: the mirror rules that nodes need for its operators. `mirror`: `HOST[/PREFIX]`; empty in older records.
    """

    name: str
    namespace: str
    image: str
    packages: dict[str, Offer]
    rules: tuple[Pair, ...] = ()
    mirror: str = ""


_EXPECTED = msgspec.json.Decoder(ExpectedCatalog)


def offers(packages: Iterable[PackageRecord]) -> dict[str, Offer]:
    """Return what OLM shall list of the packages of an inventory."""
    return {one.name: Offer(one.default_channel, {channel.name: channel.head for channel in one.channels}) for one in packages}


def keep(recorder: Recorder, expectations: Sequence[ExpectedCatalog]) -> None:
    """Write expectations into the record; one that stands there already is not written again. Raises ClusterError."""
    recorder.keep({_key(each): _packed(each) for each in expectations})


def load(client: ClusterClient, namespace: str) -> list[ExpectedCatalog]:
    """Return what was expected by the last apply of each catalog, by name. What cannot be read is left out."""
    secret = client.get(SECRET, NAME, namespace) or {}
    data: Mapping[str, str] = secret.get("data") or {}
    found = [_unpacked(value) for key, value in sorted(data.items()) if key.startswith(EXPECTED)]
    return [each for each in found if each is not None]


def _key(expected: ExpectedCatalog) -> str:
    return EXPECTED + re.sub(r"[^A-Za-z0-9._-]", "-", expected.name)[:200]


def _packed(expected: ExpectedCatalog) -> str:
    return base64.b64encode(zlib.compress(msgspec.json.encode(expected, order="sorted"), 9)).decode()


def _unpacked(value: str) -> ExpectedCatalog | None:
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(value, validate=True), _LARGEST)
        return _EXPECTED.decode(raw)
    except (ValueError, TypeError, zlib.error, binascii.Error, msgspec.MsgspecError, RecursionError):
        return None
