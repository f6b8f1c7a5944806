"""The switches by which registries differ. The defaults are those of a `FakeRegistry` without a profile.

A profile is data: `tests/fakes/registry_rules.py` decides by it, `tests/fakes/registry_profiles.py` has the products.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from common.oci import media_types

MANIFESTS = frozenset({media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST})
INDEXES = frozenset({media_types.OCI_INDEX, media_types.DOCKER_LIST})
OCI_ONLY = frozenset({media_types.OCI_MANIFEST, media_types.OCI_INDEX})


@dataclass(frozen=True)
class Refusal:
    """An error answer as the product writes it. `message`, `page` and headers may name {name}, {project}, {tag}, {digest}, {type}."""

    status: int
    code: str = ""
    message: str = ""
    detail: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    page: str = ""  # a body that is no JSON

    def reply(self, **names: str) -> tuple[Any, ...]:
        """Return what `RegistryHandler` sends."""
        error: dict[str, Any] = {"code": self.code, "message": self.message.format(**names)}
        if self.detail is not None:
            error["detail"] = _filled(self.detail, names)
        body = json.dumps({"errors": [error]}) if self.code else self.page.format(**names)
        kind = "application/json" if self.code else "text/html"
        headers: Mapping[str, str] = {"Content-Type": kind} | {key: value.format(**names) for key, value in self.headers}
        return ("answer", self.status, body.encode(), headers)


def _filled(detail: Any, names: Mapping[str, str]) -> Any:
    if isinstance(detail, dict):
        return {key: _filled(value, names) for key, value in detail.items()}
    return detail.format(**names) if isinstance(detail, str) else detail


@dataclass(frozen=True)
class Profile:
    """One product as its administrator sets it up for a mirror. See the module."""

    name: str = ""

    # Accounts.
    auth: Literal["basic", "token"] | None = None
    token_path: str = "/token"
    token_life_s: float | None = 300  # None: the answer does not say
    realm_redirect: int = 0  # the status with which the realm leads to where tokens are
    also_basic: bool = False  # the credentials themselves are taken as well as a token
    challenge_scope: str = ""  # the scope of every challenge, whatever was asked for
    challenge_again: str = ""  # the challenge to a request that had an Authorization header
    creates_by_token: bool = False  # as `Quay`: a token with `push` makes the repository
    base_needs_repository: bool = False  # `/v2/` alone is refused
    no_write: Refusal | None = None  # to accounts that may only pull; None: 401 with a challenge

    # Repositories.
    must_exist: Literal["", "project", "product", "repository"] = (
        ""  # a project is the first component, a product the first two
    )
    missing_read: Refusal | None = None  # where what must exist does not; None: NAME_UNKNOWN
    missing_write: Refusal | None = None
    depth: int | None = None  # components of a name
    too_deep: Refusal = Refusal(400, "NAME_INVALID", "invalid repository name")

    # Manifests.
    media_types: frozenset[str] | None = None  # None: any
    wrong_type: Refusal = Refusal(400, "MANIFEST_INVALID", "manifest invalid")
    config_types: frozenset[str] | None = None  # None: any
    wrong_config: Refusal = Refusal(400, "MANIFEST_INVALID", "manifest invalid")
    artifact_types: frozenset[str] | None = None  # None: any
    wrong_artifact: Refusal = Refusal(400, "MANIFEST_INVALID", "manifest invalid")
    max_manifest: int | None = None
    too_large: Refusal = Refusal(413, "MANIFEST_INVALID", "manifest invalid")
    blob_unknown: Refusal = Refusal(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry: {digest}")
    sparse: bool = False
    no_sparse: Refusal | None = None  # None: as `blob_unknown`
    foreign_urls: bool = True
    no_foreign_urls: Refusal = Refusal(500, "UNKNOWN", "unknown error")
    put_status: int = 201
    digest_header: bool = True
    head_length: bool = True  # of manifests and blobs
    head_blobs: Refusal | None = None  # what every HEAD of a blob gets; None: as it is
    blob_head_length: bool = True  # of blobs alone
    head_zero: bool = False  # a proxy that counts the body of the answer to HEAD
    encoded: bool = False  # manifests go out gzip-encoded, whatever is asked for

    # Tags.
    immutable: bool = False
    immutable_same: bool = True  # the digest that the tag has already may be written again
    is_immutable: Refusal = Refusal(409, "TAG_INVALID", "the tag {tag} is immutable")
    page: int = 100

    # Uploads.
    location: Literal["relative", "absolute", "elsewhere", "second"] = "relative"  # second: the origin of redirects
    whole_put: Literal["taken", "ignored", "refused"] = "taken"
    no_whole_put: Refusal = Refusal(400, "UNSUPPORTED", "the operation is unsupported")
    patch: Literal["many", "one", "none"] = "many"
    no_patch: Refusal = Refusal(405, "UNSUPPORTED", "the operation is unsupported")
    patch_status: int = 202
    content_range: bool = True  # PATCH with it is taken; not by Google Artifact Registry
    max_ranged: int | None = None  # bytes of a PATCH with Content-Range, else 416: GHCR
    keeps: Literal["all", "first", "last"] = "all"  # of several chunks; the first: ECR
    checks_digest: bool = True
    upload_headers: tuple[tuple[str, str], ...] = ()  # beside those of an upload session
    upload_status: bool = True  # GET of a session says how far it got
    mounts: Literal["created", "session", "refused", "referenced"] = "created"  # referenced: of what a manifest names
    not_referenced: Refusal | None = None  # None: a session is opened
    no_mount: Refusal = Refusal(401, "UNAUTHORIZED", "authentication required")
    mounts_across: bool = True  # from another project
    chunk_min: int | None = None
    short_chunk: Refusal = Refusal(400, "BLOB_UPLOAD_INVALID", "chunk too small")
    max_body: int | None = None
    max_layer: int | None = None
    layer_too_large: Refusal = Refusal(413, "SIZE_INVALID", "the blob is too large")

    # What refers to an image.
    referrers: bool = True
    subject_header: bool = True
    no_referrers: Refusal = Refusal(404, "UNSUPPORTED", "unsupported")

    # The rest.
    deletes: bool = True
    deletes_blobs: bool = True
    no_delete: Refusal = Refusal(405, "UNSUPPORTED", "the operation is unsupported")
    referenced: Refusal | None = None  # to DELETE of a manifest that an index names; None: it is deleted
    cascades: bool = False  # manifests that an index alone names go with it
    deletes_tags: bool = False  # DELETE by tag removes the tag alone
    redirect: bool = False  # blobs come from another origin
    limit_every: int = 0  # each nth request is refused
    limited: Refusal = Refusal(429, "TOOMANYREQUESTS", "too many requests")
    visible_after: int = 0  # requests, until a manifest may name a new blob
