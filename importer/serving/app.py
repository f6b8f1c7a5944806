"""Answers to pull, content discovery and referrers of the distribution specification 1.1, from the volumes where they lie.

The only home of starlette. Every answer to a request is made in a thread; content is read there too, a chunk at a time, when
the client has taken the one before. A blob is hashed the first time that somebody takes all of it: its last bytes go out only
when the digest is right. Parts of it go out as they lie, for a client that asks for parts checks the whole itself.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from common.errors import HubError
from common.log import logger
from common.oci import media_types
from common.oci.image import Digest, Document, artifact_type, described, parse
from importer.mapping import Closure, MappedImage, Mirror, map_images

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from common.archive.inventory import Inventory
    from common.content import Chunks
    from importer.archive.reader import Archive
    from importer.serving.htpasswd import Htpasswd

# What a request asks for: paths, ranges and pages of the distribution specification. Pure.
#
# No path of a request ever becomes a path of the file system: names are looked up in what is offered.

# Greedy, so that names may contain words like `blobs`: what counts is at the end.
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs|referrers)/(?P<which>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class What(StrEnum):
    """The resources of a registry."""

    BASE = "base"
    CATALOG = "_catalog"
    TAGS = "tags"
    MANIFESTS = "manifests"
    BLOBS = "blobs"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Asked:
    """A resource; `which` is a tag or a digest as written."""

    what: What
    name: str = ""
    which: str = ""


def asked(path: str) -> Asked | None:
    """Return what a path (percent-decoded) asks for; None for what no registry has."""
    if path in ("/v2", "/v2/"):
        return Asked(What.BASE)
    if path in ("/v2/_catalog", "/v2/_catalog/"):
        return Asked(What.CATALOG)
    if match := _PATH.fullmatch(path):
        return Asked(What(match["what"]), match["name"], match["which"])
    if match := _TAGS.fullmatch(path):
        return Asked(What.TAGS, match["name"])
    return None


class UnsatisfiableError(Exception):
    """A range that lies outside of what there is."""


def part_of(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one behind the last; None for all of `size` bytes.

    What is no range of bytes, or several at once, is answered by everything, as RFC 9110 allows. Raises UnsatisfiableError.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if not length or not size:
            raise UnsatisfiableError
        return max(size - length, 0), size
    first, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if first >= size or end <= first:
        raise UnsatisfiableError
    return first, end


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list; `last` is what the next page comes after, None where there is no next one."""

    entries: tuple[str, ...]
    last: str | None = None


def page_of(entries: Sequence[str], number: str | None, last: str | None, most: int) -> Page:
    """Return the page after `last` (which need not exist) of at most `number` entries. Raises ValueError for a bad number.

    `entries` in ASCII order; `most` is the limit of a page for those who name none, or a larger one.
    """
    count = most if number is None else int(number)
    if count < 0:
        raise ValueError(f"a page of {count} entries")
    count = min(count, most)
    rest = [entry for entry in entries if last is None or entry > last]
    more = 0 < count < len(rest)
    return Page(tuple(rest[:count]), rest[count - 1] if more else None)


# What is served: repositories, tags, manifests and blobs just as push would make them on a mirror. Pure.
#
# A blob belongs to the repositories whose manifests list it, and to no other.


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; `tags` and `referrers` are sorted, these by the manifest that they refer to."""

    tags: Mapping[str, Digest]
    manifests: frozenset[Digest]
    blobs: frozenset[Digest]
    referrers: Mapping[Digest, tuple[Digest, ...]]


Offer = Mapping[str, Repository]  # by name, sorted


def offer_of(inventory: Inventory, mirror: Mirror) -> Offer:
    """Return what an archive offers. Raises what mapping its images raises."""
    by_name: defaultdict[str, list[MappedImage]] = defaultdict(list)
    for image in map_images(inventory, mirror):
        if image.digest not in inventory.manifests:
            continue  # one that was never found whole, and of which nothing is here
        by_name[image.repository.repository].append(image)
    closure = Closure(inventory)
    return {name: _repository(inventory, closure, by_name[name]) for name in sorted(by_name)}


def count_whole(inventory: Inventory, mirror: Mirror, is_available: Callable[[Digest], bool]) -> tuple[int, int]:
    """Return how many images can be pulled with all of their blobs, and how many there are. Raises as `offer_of` does."""
    closure = Closure(inventory)

    def is_here(blob: Digest) -> bool:
        return inventory.blobs[blob].missing is None and is_available(blob)

    images = map_images(inventory, mirror)
    # An incomplete image may lack even its manifest; it would have no blobs, and so none that is missing.
    listed = [image for image in images if image.digest in inventory.manifests]
    return sum(all(is_here(blob) for blob in closure.blobs_of(image)) for image in listed), len(images)


def _repository(inventory: Inventory, closure: Closure, images: Iterable[MappedImage]) -> Repository:
    tags: dict[str, Digest] = {}
    manifests: set[Digest] = set()
    blobs: set[Digest] = set()
    for image in images:
        tags |= dict.fromkeys(image.tags, image.digest)
        manifests.update(closure.manifests_of(image.digest))
        blobs |= closure.blobs_of(image)
    referrers: defaultdict[Digest, list[Digest]] = defaultdict(list)
    for digest in sorted(manifests):
        subject = inventory.manifests[digest].subject
        if subject is not None:
            referrers[subject].append(digest)
    return Repository(
        {tag: tags[tag] for tag in sorted(tags)},
        frozenset(manifests),
        frozenset(blobs),
        {subject: tuple(found) for subject, found in referrers.items()},
    )


MOST_LISTED = 1000  # entries of a page, for those who name no number or a larger one
_REFERRERS = 100  # of a page: far below 4 MiB of index
_KEPT, _LARGE = 128, 256 * 1024  # manifests that are kept in memory, and bytes from which on one is not
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{32,200}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
_READING = ("GET", "HEAD")
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
_LOG = logger(__name__)


class CutError(Exception):
    """An answer that cannot be finished: the connection ends, and why is logged already."""


class RefusedError(Exception):
    """An answer that is an error, in the form of the specification."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, detail: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers or {}

    def response(self) -> Response:
        """Return it as JSON."""
        error = {"code": self.code, "message": str(self)} | ({"detail": self.detail} if self.detail is not None else {})
        return _json({"errors": [error]}, self.status, self.headers)


@dataclass(slots=True)
class _Proven:
    """Blobs whose digest was found right once."""

    digests: set[Digest] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class RegistryApp:
    """The archive as an ASGI application. `accounts` None: everybody may read."""

    def __init__(self, archive: Archive, offer: Offer, accounts: Htpasswd | None = None) -> None:
        self._archive = archive
        self._offer = offer
        self._accounts = accounts
        self._proven = _Proven()
        self._kept = lru_cache(_KEPT)(archive.manifest)
        self._media_type = cache(lambda digest: self._parsed(digest).media_type)  # a short text for each manifest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        response = await run_in_threadpool(self.answer, request)
        _LOG.info("%s %s: %s", request.method, quote(request.scope["path"]), response.status_code)
        await response(scope, receive, send)

    def answer(self, request: Request) -> Response:
        """Return the answer to a request; never raises."""
        try:
            response = self._answer(request)
        except RefusedError as error:
            response = error.response()
        except HubError as error:
            _LOG.error("%s: %s", quote(request.scope["path"]), error)
            response = RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", str(error)).response()
        response.headers.update(_VERSION)
        return response

    def _answer(self, request: Request) -> Response:
        if request.method not in _READING:
            # What comes with it is not read: whoever sends it is told so before the first byte.
            headers = {"Allow": ", ".join(_READING), "Connection": "close"}
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only", headers=headers)
        if self._accounts is not None and not self._accounts.accepts(request.headers.get("Authorization", "")):
            headers = {"WWW-Authenticate": 'Basic realm="hub-airgap", charset="UTF-8"'}
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication is required", headers=headers)
        wanted = asked(request.scope["path"])
        if wanted is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "no such resource")
        match wanted.what:
            case What.BASE:
                return _json({})
            case What.CATALOG:
                return self._catalog(request)
            case What.TAGS:
                return self._tags(request, wanted, self._repository(wanted))
            case What.REFERRERS:
                return self._referrers(request, wanted, self._repository(wanted))
            case What.MANIFESTS:
                return self._document(request, wanted, self._repository(wanted))
            case What.BLOBS:
                return self._blob(request, wanted, self._repository(wanted))

    def _repository(self, wanted: Asked) -> Repository:
        repository = self._offer.get(wanted.name)
        if repository is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "no such repository", {"name": wanted.name[:300]})
        return repository

    def _catalog(self, request: Request) -> Response:
        return _listed(request, "/v2/_catalog", list(self._offer), lambda names: {"repositories": names})

    def _tags(self, request: Request, wanted: Asked, repository: Repository) -> Response:
        path = f"/v2/{quote(wanted.name)}/tags/list"
        return _listed(request, path, list(repository.tags), lambda tags: {"name": wanted.name, "tags": tags})

    def _referrers(self, request: Request, wanted: Asked, repository: Repository) -> Response:
        digest = _digest(wanted)
        kind, last = request.query_params.get("artifactType"), request.query_params.get("last")
        found = [one for one in repository.referrers.get(digest, ()) if last is None or one > last]
        documents = [self._parsed(one) for one in found]
        fitting = [one for one in documents if kind is None or artifact_type(one) == kind]
        headers = {"Content-Type": media_types.OCI_INDEX}
        if kind is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        if len(fitting) > _REFERRERS:
            query = f"?last={quote(fitting[_REFERRERS - 1].digest)}" + (f"&artifactType={quote(kind)}" if kind else "")
            headers["Link"] = f'</v2/{quote(wanted.name)}/referrers/{digest}{query}>; rel="next"'
        index = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [described(one) for one in fitting[:_REFERRERS]],
        }
        return _json(index, headers=headers)

    def _document(self, request: Request, wanted: Asked, repository: Repository) -> Response:
        digest = _digest(wanted) if ":" in wanted.which else repository.tags.get(wanted.which)
        if digest is None or digest not in repository.manifests:
            detail = {"name": wanted.name, "reference": wanted.which[:300]}
            raise RefusedError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest", detail)
        headers = _about(digest, self._media_type(digest), self._archive.inventory.manifests[digest].size)
        if ":" not in wanted.which:
            headers["Cache-Control"] = "no-cache"  # the next archive served here may have another image under the tag
        if same := _unchanged(request, headers):
            return same
        body = b"" if request.method == "HEAD" else self._manifest(digest)
        return Response(body, headers=headers)

    def _blob(self, request: Request, wanted: Asked, repository: Repository) -> Response:
        digest = _digest(wanted)
        if digest not in repository.blobs:
            raise RefusedError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", "no such blob", {"digest": digest})
        self._require_here(digest)
        size = self._archive.inventory.blobs[digest].size
        headers = _about(digest, "application/octet-stream", size) | {"Accept-Ranges": "bytes"}
        if same := _unchanged(request, headers):
            return same
        try:
            part = part_of(_range(request, headers["ETag"]), size)
        except UnsatisfiableError:
            headers = {"Content-Range": f"bytes */{size}"}
            message = f"the blob has {size} bytes"
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            raise RefusedError(status, "SIZE_INVALID", message, headers=headers) from None
        status, (first, end) = (HTTPStatus.OK, (0, size)) if part is None else (HTTPStatus.PARTIAL_CONTENT, part)
        if part is not None:
            headers |= {"Content-Range": f"bytes {first}-{end - 1}/{size}", "Content-Length": str(end - first)}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        whole = first == 0 and end == size
        return StreamingResponse(_sent(self._content(digest) if whole else self._part(digest, first, end)), status, headers)

    def _manifest(self, digest: Digest) -> bytes:
        """Return a manifest; those of usual size are kept for the next who asks."""
        large = self._archive.inventory.manifests[digest].size > _LARGE
        return self._archive.manifest(digest) if large else self._kept(digest)

    def _parsed(self, digest: Digest) -> Document:
        return parse(self._manifest(digest), self._archive.inventory.manifests[digest].media_type)

    def _require_here(self, digest: Digest) -> None:
        """Refuse a blob that is not at hand, with what would bring it: another mirror may have it, so it is not found here."""
        if absent := self._archive.missing_volumes(digest):
            message = f"lies in {', '.join(absent)}, which is not here: bring that volume and start again"
            raise RefusedError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", message, {"digest": digest, "volumes": absent})
        record = self._archive.inventory.blobs[digest]
        if record.in_ is not None or record.missing is not None:
            message = f"lies in the earlier archive {record.in_}" if record.in_ else "could not be fetched for this archive"
            raise RefusedError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", message, {"digest": digest})

    def _content(self, digest: Digest) -> Iterator[bytes]:
        """Give all of a blob; the first time only as far as its digest is right."""
        with self._proven.lock:
            known = digest in self._proven.digests
        descriptor = self._archive.descriptor(digest)
        chunks: Chunks = self._archive.read(descriptor) if known else self._archive.content(digest)
        for chunk in chunks:
            yield bytes(chunk)  # what the reader gave is valid until it is asked again
        with self._proven.lock:
            self._proven.digests.add(digest)

    def _part(self, digest: Digest, first: int, end: int) -> Iterator[bytes]:
        """Give bytes of a blob as they lie."""
        left = end - first
        for chunk in self._archive.read(self._archive.descriptor(digest), first):
            yield bytes(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                return


async def _sent(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give chunks as they are taken. What cannot be read ends the connection: the client sees that something is missing."""
    try:
        async for chunk in iterate_in_threadpool(chunks):
            yield chunk
    except HubError as error:
        _LOG.error("%s", error)
        raise CutError from error
    finally:
        await run_in_threadpool(chunks.close)  # type: ignore[attr-defined]


def _digest(wanted: Asked) -> Digest:
    """Return the digest of a path, of any algorithm: it is looked up. Refuses what is none."""
    if not _DIGEST.fullmatch(wanted.which):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"not a digest: {wanted.which[:100]!r}")
    return Digest(wanted.which)


def _about(digest: Digest, media_type: str, size: int) -> dict[str, str]:
    return {
        "Content-Type": media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",  # the publisher's word
        "Content-Length": str(size),
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Cache-Control": "max-age=31536000",
    }


def _unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return that nothing changed to a client that has it."""
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    if headers["ETag"] not in known and known != ["*"]:
        return None
    kept = {name: value for name, value in headers.items() if name not in ("Content-Length", "Content-Type")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _range(request: Request, etag: str) -> str:
    """Return the range that is asked for; none when it was meant for other content."""
    return request.headers.get("Range", "") if request.headers.get("If-Range", etag) == etag else ""


def _listed(request: Request, path: str, entries: list[str], document: Any) -> Response:
    """Return a page of a list, with the way to the next one."""
    try:
        page = page_of(entries, request.query_params.get("n"), request.query_params.get("last"), MOST_LISTED)
    except ValueError:
        message = f"n is no number of entries: {request.query_params['n'][:40]!r}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message) from None
    headers = {}
    if page.last is not None:
        headers["Link"] = f'<{path}?n={len(page.entries)}&last={quote(page.last)}>; rel="next"'
    return _json(document(page.entries), headers=headers)


def _json(content: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, {"Content-Type": "application/json"} | dict(headers or {}))
