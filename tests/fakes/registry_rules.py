"""What a `FakeRegistry` with a profile refuses, and where it answers in another form. Functions of the registry's state."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from common.oci.image import digest_of

if TYPE_CHECKING:
    from tests.fakes.registry import FakeRegistry
    from tests.fakes.registry_profile import Refusal

Reply = tuple[Any, ...]


def prepared(registry: FakeRegistry, name: str) -> bool:
    """Say whether what must exist before a push does: the project of a repository, or the repository."""
    components = {"project": 1, "product": 2}.get(registry.profile.must_exist)
    return not registry.profile.must_exist or "/".join(name.split("/")[:components]) in registry.prepared


def missing(registry: FakeRegistry, name: str, method: str) -> Reply | None:
    """Refuse what is asked of a repository for which nothing was prepared."""
    if prepared(registry, name):
        return None
    profile = registry.profile
    refusal = profile.missing_read if method in ("GET", "HEAD") else profile.missing_write
    return refusal and refusal.reply(name=name, project=name.partition("/")[0])


def forbidden(registry: FakeRegistry, user: str | None, name: str, method: str) -> Reply | None:
    """Refuse a write of an account that may only pull, in the form of the product; None: the challenge says it."""
    if method in ("GET", "HEAD") or user not in registry.readers or registry.profile.no_write is None:
        return None
    return registry.profile.no_write.reply(name=name, project=name.partition("/")[0])


def limited(registry: FakeRegistry) -> Reply | None:
    """Refuse each nth request."""
    every = registry.profile.limit_every
    return registry.profile.limited.reply() if every and registry.asked % every == 0 else None


def bad_manifest(registry: FakeRegistry, name: str, wanted: str, kind: str, raw: bytes) -> Reply | None:
    """Refuse a manifest for its size, type, tag or layers; what it names is looked at elsewhere."""
    profile = registry.profile
    names = {"name": name, "project": name.partition("/")[0], "tag": wanted, "type": kind, "digest": digest_of(raw)}
    document = json.loads(raw)
    config = document.get("config", {}).get("mediaType")
    refusal: Refusal | None = None
    if profile.max_manifest is not None and len(raw) > profile.max_manifest:
        refusal = profile.too_large
    elif profile.media_types is not None and kind not in profile.media_types:
        refusal = profile.wrong_type
    elif config and profile.config_types is not None and config not in profile.config_types:
        refusal = profile.wrong_config
    elif profile.artifact_types is not None and document.get("artifactType", "") not in {"", *profile.artifact_types}:
        refusal, names["type"] = profile.wrong_artifact, document["artifactType"]
    elif not profile.foreign_urls and any(layer.get("urls") for layer in document.get("layers", ())):
        refusal = profile.no_foreign_urls
    elif profile.immutable and not wanted.startswith("sha256:"):
        has = registry.repositories[name].tags.get(wanted) if name in registry.repositories else None
        same = has == digest_of(raw) and profile.immutable_same
        refusal = profile.is_immutable if has and not same else None
    return refusal and refusal.reply(**names)


def unknown_children(registry: FakeRegistry, name: str, document: Mapping[str, Any]) -> Reply | None:
    """Refuse a manifest that names blobs, or an index that names manifests, which are not there."""
    has, profile = registry.repositories.get(name), registry.profile
    blobs = [document["config"], *document["layers"]] if "config" in document else []
    for blob in blobs:
        if has is None or blob["digest"] not in has.blobs or not _visible(registry, blob["digest"]):
            return profile.blob_unknown.reply(digest=blob["digest"], name=name)
    for child in () if registry.sparse else document.get("manifests", ()):
        if has is None or child["digest"] not in has.manifests:
            return (profile.no_sparse or profile.blob_unknown).reply(digest=child["digest"], name=name)
    return None


def deleted(registry: FakeRegistry, name: str, wanted: str) -> Reply | None:
    """Delete a manifest with all of its tags, or a tag; return the refusal where it is refused.

    All tags go with the manifest: distribution/distribution, registry/handlers/manifests.go, DeleteManifest; project-zot/zot#2626;
    goharbor/harbor, src/controller/artifact/controller.go, deleteDeeply.
    """
    profile, repository = registry.profile, registry.repositories[name]
    if not registry.deletes:
        return profile.no_delete.reply(name=name, digest=wanted)
    if not wanted.startswith("sha256:"):
        if not profile.deletes_tags:
            return profile.no_delete.reply(name=name, tag=wanted)
        return None if repository.tags.pop(wanted, None) else ("refuse", 404, "MANIFEST_UNKNOWN", "manifest unknown")
    if wanted not in repository.manifests:
        return ("refuse", 404, "MANIFEST_UNKNOWN", "manifest unknown")
    tags = [tag for tag, digest in repository.tags.items() if digest == wanted]
    if tags and profile.immutable:
        return profile.is_immutable.reply(name=name, tag=tags[0], digest=wanted)
    if profile.referenced is not None and _parents(repository.manifests, wanted):
        return profile.referenced.reply(name=name, digest=wanted)
    _remove(registry, name, wanted)
    return None


def _remove(registry: FakeRegistry, name: str, wanted: str) -> None:
    repository = registry.repositories[name]
    document = json.loads(repository.manifests.pop(wanted)[1])
    repository.tags = {tag: digest for tag, digest in repository.tags.items() if digest != wanted}
    if registry.profile.cascades:
        below = [child["digest"] for child in document.get("manifests", ())]
        below += [digest for digest, (_, raw) in repository.manifests.items() if _subject(raw) == wanted]
        for digest in below:
            used = digest in repository.tags.values() or _parents(repository.manifests, digest)
            if digest in repository.manifests and not used:
                _remove(registry, name, digest)


def _subject(raw: bytes) -> str:
    return str((json.loads(raw).get("subject") or {}).get("digest", ""))


def _parents(manifests: Mapping[str, tuple[str, bytes]], digest: str) -> list[str]:
    """Return the indexes that name a manifest."""
    found = []
    for each, (_, raw) in manifests.items():
        if any(child["digest"] == digest for child in json.loads(raw).get("manifests") or ()):
            found.append(each)
    return found


def _visible(registry: FakeRegistry, digest: str) -> bool:
    """Say whether a blob may be named by now. Storage that is consistent later shows it after some more requests."""
    arrived = registry.arrivals.get(digest)
    return arrived is None or registry.asked - arrived >= registry.profile.visible_after


def head_of_blob(registry: FakeRegistry, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Return the answer to HEAD of a blob."""
    if registry.profile.head_zero:
        headers["Content-Length"] = "0"
    if not registry.profile.blob_head_length:
        del headers["Content-Length"]
        headers["Transfer-Encoding"] = "chunked"
        return b"", headers
    return shaped(registry, "HEAD", b"", headers)


def shaped(registry: FakeRegistry, method: str, raw: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Return the answer to GET or HEAD of a manifest or blob with the headers that the product sends."""
    profile = registry.profile
    if not profile.digest_header:
        headers.pop("Docker-Content-Digest", None)
    if method == "HEAD" and not profile.head_length:
        del headers["Content-Length"]  # as a proxy that does not know it yet
        headers["Transfer-Encoding"] = "chunked"
    if profile.encoded and raw:
        raw = gzip.compress(raw, mtime=0)
        headers |= {"Content-Encoding": "gzip", "Content-Length": str(len(raw))}
    return raw, headers


def bad_upload(registry: FakeRegistry, method: str, body: bytes, chunks: list[int]) -> Reply | None:
    """Refuse a PATCH or PUT of an upload session. `chunks`: the sizes that it had so far."""
    profile = registry.profile
    have = sum(chunks)
    if profile.max_layer is not None and have + len(body) > profile.max_layer:
        return profile.layer_too_large.reply()
    if method == "PUT":
        return profile.no_whole_put.reply() if body and profile.whole_put == "refused" else None
    if profile.patch == "none" or (profile.patch == "one" and chunks):
        return profile.no_patch.reply()
    if profile.chunk_min and chunks and min(chunks) < profile.chunk_min:  # only the last one may be shorter
        return profile.short_chunk.reply()
    return None


def bad_range(registry: FakeRegistry, body: bytes) -> Reply | None:
    """Refuse a PATCH with Content-Range."""
    profile = registry.profile
    if not profile.content_range:
        return ("refuse", 400, "UNSUPPORTED")
    if profile.max_ranged is not None and len(body) > profile.max_ranged:
        return ("refuse", 416, "REQUESTED_RANGE_NOT_SATISFIABLE", "the request body is too large")
    return None


def kept(registry: FakeRegistry, content: bytearray, chunk: bytes) -> None:
    """Add a chunk to what a session has."""
    if registry.profile.keeps == "last":
        content.clear()
    if registry.profile.keeps != "first" or not content:
        content += chunk


def mount(registry: FakeRegistry, name: str, source: str, digest: str) -> Reply | bool:
    """Say whether a blob that is there is mounted; False: a session is opened instead."""
    profile = registry.profile
    if profile.mounts == "referenced":
        named = any(digest.encode() in raw for _, raw in registry.repositories[source].manifests.values())
        return named or (profile.not_referenced.reply(digest=digest) if profile.not_referenced else False)
    across = name.partition("/")[0] != source.partition("/")[0]
    if profile.mounts == "refused" or (across and not profile.mounts_across):
        return profile.no_mount.reply(name=name)
    return profile.mounts == "created"
