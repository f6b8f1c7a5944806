"""Images and indexes made in memory, and `seed`, which puts them into any registry over plain HTTP, without our client."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import urllib3

from common.oci import media_types
from common.oci.image import Descriptor, Digest, digest_of


@dataclass(frozen=True)
class ImageParts:
    """An image: the manifest as bytes, and its blobs."""

    raw: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    platform: str

    @property
    def digest(self) -> Digest:
        return digest_of(self.raw)

    @property
    def blobs(self) -> dict[Digest, bytes]:
        return {digest_of(content): content for content in (self.config, *self.layers)}

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def manifests(self) -> tuple[ImageParts, ...]:
        return ()


@dataclass(frozen=True)
class IndexParts:
    """An index and what it lists, in order."""

    raw: bytes
    media_type: str
    manifests: tuple[ImageParts | IndexParts, ...] = field(default=())
    platform: str = ""

    @property
    def digest(self) -> Digest:
        return digest_of(self.raw)

    @property
    def blobs(self) -> dict[Digest, bytes]:
        return {}

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))


Parts = ImageParts | IndexParts


def layer(files: Mapping[str, bytes], level: int = 9) -> bytes:
    """Return files as a gzip-compressed tar layer; same files, same bytes. Noise takes much time at any `level` but 0."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), level, mtime=0)


def image(
    layers: Sequence[bytes | Mapping[str, bytes]] = ({"etc/motd": b"hello\n"},),
    *,
    labels: Mapping[str, str] | None = None,
    platform: str = "linux/amd64",
    docker: bool = False,
    config: Mapping[str, Any] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
    annotations: Mapping[str, str] | None = None,
) -> ImageParts:
    """Return an image. A layer is bytes as they are, or files; `config` is merged into the config's `config`."""
    contents = tuple(layer(each) if isinstance(each, Mapping) else each for each in layers)
    system, _, architecture = platform.partition("/")
    settings = {**({"Labels": dict(labels)} if labels else {}), **(config or {})}
    raw_config = _json(
        {
            "architecture": architecture.partition("/")[0],
            "os": system,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(_plain(content)) for content in contents]},
        }
    )
    config_type = media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG
    layer_type = media_types.DOCKER_LAYER_GZIP if docker else media_types.OCI_LAYER_GZIP
    media_type = media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type:
        document["artifactType"] = artifact_type
    document |= {
        "config": _described(config_type, raw_config),
        "layers": [_described(layer_type, content) for content in contents],
    }
    if subject:
        document["subject"] = msgspec.to_builtins(subject)
    if annotations:
        document["annotations"] = dict(annotations)
    return ImageParts(_json(document), media_type, raw_config, contents, platform)


def index(manifests: Sequence[Parts], *, docker: bool = False, extra: Mapping[str, Any] | None = None) -> IndexParts:
    """Return an index of images or indexes; `extra` goes into the document as it is."""
    media_type = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
    children = []
    for child in manifests:
        entry: dict[str, Any] = _described(child.media_type, child.raw)
        if child.platform:
            system, architecture, *variant = child.platform.split("/")
            entry["platform"] = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        children.append(entry)
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": children, **(extra or {})}
    return IndexParts(_json(document), media_type, tuple(manifests))


def artifact(parts: ImageParts, *, layer_type: str, config_type: str = media_types.OCI_CONFIG) -> ImageParts:
    """Return an image as another artifact: the same content under other media types."""
    raw = parts.raw.replace(media_types.OCI_LAYER_GZIP.encode(), layer_type.encode())
    return replace(parts, raw=raw.replace(media_types.OCI_CONFIG.encode(), config_type.encode()))


def helm_chart() -> ImageParts:
    """Return a Helm chart as `helm push` stores it (helm, pkg/registry/constants.go)."""
    return artifact(
        image(({"chart/Chart.yaml": b"name: chart\n"},)),
        layer_type="application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        config_type="application/vnd.cncf.helm.config.v1+json",
    )


def attestation() -> ImageParts:
    """Return what BuildKit lists beside an image (buildkit, docs/attestations/attestation-storage.md)."""
    return replace(artifact(image([b"{}"]), layer_type="application/vnd.in-toto+json"), platform="unknown/unknown")


def seed(
    url: str,
    repository: str,
    parts: Parts,
    *,
    tag: str | None = None,
    login: tuple[str, str] | None = None,
    ca: Path | None = None,
    known: set[tuple[str, str]] | None = None,
) -> None:
    """Put an image or index, with all below it, into the registry at `url` (scheme and host).

    `known`: repository and digest of what is there already, which is not sent again; what is sent is added.
    """
    headers = urllib3.make_headers(basic_auth=":".join(login)) if login else {}
    with urllib3.PoolManager(ca_certs=str(ca) if ca else None, retries=False, headers=headers) as pool:
        _seed(pool, url, repository, parts, tag, known=set() if known is None else known)


def _seed(
    pool: urllib3.PoolManager, url: str, repository: str, parts: Parts, tag: str | None, *, known: set[tuple[str, str]]
) -> None:
    for child in parts.manifests:
        _seed(pool, url, repository, child, None, known=known)
    base = f"{url}/v2/{repository}"
    for digest, content in parts.blobs.items():
        if (repository, digest) in known:
            continue
        known.add((repository, digest))
        begun = pool.request("POST", f"{base}/blobs/uploads/")
        assert begun.status == 202, begun.data
        location = begun.headers["Location"]
        location = url + location if location.startswith("/") else location
        done = pool.request("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", body=content)
        assert done.status == 201, done.data
    headers = {**pool.headers, "Content-Type": parts.media_type}
    done = pool.request("PUT", f"{base}/manifests/{tag or parts.digest}", body=parts.raw, headers=headers)
    assert done.status == 201, done.data


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _described(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _json(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(document)
