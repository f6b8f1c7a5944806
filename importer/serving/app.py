"""The ASGI application that serves an archive: pull, content discovery and referrers of the distribution specification 1.1.

Each response is made in a thread. Content is read there too, one chunk at a time, after
the client has taken the one before: memory is bounded by the number of connections (ADR 0018).
"""

from __future__ import annotations

import bisect
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from common.archive.inventory import lacking_images
from common.archive.naming import holder_of
from common.errors import ContentError, HubError
from common.oci import media_types
from common.oci.image import Digest, Document, artifact_type, described, parse
from importer.mapping import Closure, MappedImage, Mirror, map_images
from importer.serving.blobs import ChangedError, ServedBlobs
from importer.serving.sendfile import SEND_FILE

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from common.archive.inventory import Inventory
    from common.archive.reader import Archive
    from importer.serving.sendfile import SendFile


MAX_PAGE = 1000  # entries of a page, also for clients that ask for no number or a larger one
_REFERRERS = 100  # of a page: clients take an index of 4 MiB at most, and annotations are of any length
_PAGE_BYTES = 4 * 1024 * 1024  # of the manifests of a page of referrers, unless it has one alone
# Manifests in memory: at most 128 of at most 256 KiB, so 32 MiB. Nodes that pull one image ask for the same few at once.
_CACHED, _LARGE = 128, 256 * 1024
# The grammar of the OCI image specification, *Digests*: any algorithm, since a digest is only looked up here.
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{32,200}", re.ASCII)
# RFC 6838 without parameters. Anything else could put a line break into a header.
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
READING = ("GET", "HEAD")
# Old docker clients take a registry without this header for one of API version 1.
VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
# Key of a scope whose client has no account, or is not known to have one yet (`authentication.py`, `server.py`).
STRANGER = "hub_airgap.stranger"
_LOGGED = 300  # characters of a path in the log: a request may have 64 KiB
_LOG = logging.getLogger(__name__)


def logged(path: str) -> str:
    """Return a path for the log: quoted, since line breaks in it would forge lines, and of limited length."""
    return quote(path[:_LOGGED]) + ("..." if len(path) > _LOGGED else "")


class TruncatedError(Exception):
    """A response that cannot be completed: the connection is closed. The cause is logged already."""


class RequestError(Exception):
    """A request that gets an error response, in the format of the distribution specification."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, detail: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers or {}

    def response(self) -> Response:
        """Return the error as a JSON response."""
        error = {"code": self.code, "message": str(self)} | ({"detail": self.detail} if self.detail is not None else {})
        return _json({"errors": [error]}, self.status, self.headers)


class RegistryApp:
    """The archive as an ASGI application, for every client; `authentication.py` restricts it to accounts."""

    def __init__(self, archive: Archive, repositories: Repositories) -> None:
        self._archive = archive
        self._repositories = repositories
        self._blobs = ServedBlobs(archive)
        self._cached_manifest = lru_cache(_CACHED)(archive.manifest)
        # HEAD of a manifest needs its media type, which is in the document (ADR 0024). Unbounded: a short text for each.
        self._media_type = cache(lambda digest: self._parsed(digest).media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        # In a thread: reading a slow medium would keep all other connections waiting in the event loop.
        response = await run_in_threadpool(self.answer, request)
        _LOG.info("%s %s: %s", request.method, logged(request.scope["path"]), response.status_code)
        await response(scope, receive, send)

    def answer(self, request: Request) -> Response:
        """Return the response to a request; never raises."""
        try:
            response = self._answer(request)
        except RequestError as error:
            response = error.response()
        except HubError as error:
            _LOG.error("%s: %s", logged(request.scope["path"]), error.message)
            response = RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", str(error)).response()
        response.headers.update(VERSION)
        return response

    def _answer(self, request: Request) -> Response:
        if request.method not in READING:
            # The body is not read; with `Connection: close` a client that pushes gigabytes learns it before the first byte.
            headers = {"Allow": ", ".join(READING), "Connection": "close"}
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only", headers=headers)
        resource = parse_path(request.scope["path"])
        if resource is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "no such resource")
        match resource.kind:
            case Resource.BASE:
                return _json({})
            case Resource.CATALOG:
                return self._catalog(request)
            case Resource.TAGS:
                return self._tags(request, resource, self._repository(resource))
            case Resource.REFERRERS:
                return self._referrers(request, resource, self._repository(resource))
            case Resource.MANIFESTS:
                return self._document(request, resource, self._repository(resource))
            case Resource.BLOBS:
                return self._blob(request, resource, self._repository(resource))

    def _repository(self, resource: ResourcePath) -> Repository:
        repository = self._repositories.get(resource.name)
        if repository is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "no such repository", {"name": resource.name[:300]})
        return repository

    def _catalog(self, request: Request) -> Response:
        return _list_page(request, "/v2/_catalog", list(self._repositories), lambda names: {"repositories": names})

    def _tags(self, request: Request, resource: ResourcePath, repository: Repository) -> Response:
        path = f"/v2/{quote(resource.name)}/tags/list"
        return _list_page(request, path, list(repository.tags), lambda tags: {"name": resource.name, "tags": tags})

    def _referrers(self, request: Request, resource: ResourcePath, repository: Repository) -> Response:
        digest = _digest(resource)
        kind, last = request.query_params.get("artifactType"), request.query_params.get("last")
        # An empty list, not 404, for a manifest without referrers or an unknown one (distribution specification, *Listing
        # Referrers*): a client would take 404 for a registry without this API.
        referrers = repository.referrers.get(digest, ())
        page, end = self._referrers_from(referrers, 0 if last is None else bisect.bisect_right(referrers, last), kind)
        headers = {"Content-Type": media_types.OCI_INDEX}
        # The header says that the filter was applied; without it clients have to filter on their own.
        if kind is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        if end < len(referrers):
            query = f"?last={quote(referrers[end - 1])}" + (f"&artifactType={quote(kind)}" if kind else "")
            headers["Link"] = f'</v2/{quote(resource.name)}/referrers/{digest}{query}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": page}
        return _json(index, headers=headers)

    def _referrers_from(self, referrers: Sequence[Digest], start: int, kind: str | None) -> tuple[list[dict[str, Any]], int]:
        """Return a page of descriptors, those of one kind or all, and the position of the first referrer that was not read."""
        # A page ends by what was read for it, not by what it lists: an archive may have thousands of referrers of one image,
        # and none of the kind that is asked for. Their annotations are what it holds, so it is bounded in bytes, too.
        page: list[dict[str, Any]] = []
        room = _PAGE_BYTES
        for position, digest in enumerate(referrers[start : start + MAX_PAGE], start):
            room -= self._archive.inventory.manifests[digest].size
            if len(page) == _REFERRERS or (room < 0 and position > start):
                return page, position
            document = self._parsed(digest)
            if kind is None or artifact_type(document) == kind:
                page.append(described(document))
        return page, min(start + MAX_PAGE, len(referrers))

    def _document(self, request: Request, resource: ResourcePath, repository: Repository) -> Response:
        digest = _digest(resource) if ":" in resource.reference else repository.tags.get(resource.reference)
        if digest is None or digest not in repository.manifests:
            detail = {"name": resource.name, "reference": resource.reference[:300]}
            raise RequestError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest", detail)
        headers = _headers(digest, self._media_type(digest), self._archive.inventory.manifests[digest].size)
        if ":" not in resource.reference:
            headers["Cache-Control"] = "no-cache"  # the next archive served here may have another image under the tag
        if same := _not_modified(request, headers):
            return same
        body = b"" if request.method == "HEAD" else self._manifest(digest)
        return Response(body, headers=headers)

    def _blob(self, request: Request, resource: ResourcePath, repository: Repository) -> Response:
        digest = _digest(resource)
        if digest not in repository.blobs:
            raise RequestError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", "no such blob", {"digest": digest})
        # HEAD, too: the existence of a blob is announced only if its content can be read.
        self._require_available(digest)
        size = self._archive.inventory.blobs[digest].size
        headers = _headers(digest, "application/octet-stream", size) | {"Accept-Ranges": "bytes"}
        if same := _not_modified(request, headers):
            return same
        try:
            part = parse_range(_range(request, headers["ETag"]), size)
        except UnsatisfiableError:
            headers = {"Content-Range": f"bytes */{size}"}
            message = f"the blob has {size} bytes"
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            raise RequestError(status, "SIZE_INVALID", message, headers=headers) from None
        status, (first, end) = (HTTPStatus.OK, (0, size)) if part is None else (HTTPStatus.PARTIAL_CONTENT, part)
        if part is not None:
            headers |= {"Content-Range": f"bytes {first}-{end - 1}/{size}", "Content-Length": str(end - first)}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return BlobResponse(self._blobs, digest, (first, end, size), status, headers)

    def _manifest(self, digest: Digest) -> bytes:
        """Return a manifest, from the cache unless it is large."""
        large = self._archive.inventory.manifests[digest].size > _LARGE
        return self._archive.manifest(digest) if large else self._cached_manifest(digest)

    def _parsed(self, digest: Digest) -> Document:
        return parse(self._manifest(digest), self._archive.inventory.manifests[digest].media_type)

    def _require_available(self, digest: Digest) -> None:
        """Raise RequestError for a blob that no volume holds which is here now; the message names the missing volumes."""
        # 404, not 503: with mirror rules a container runtime asks the next mirror then (ADR 0018).
        if absent := self._archive.missing_volumes(digest):
            message = f"is in {', '.join(absent)}, which is not here: bring that volume and start again"
            raise RequestError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", message, {"digest": digest, "volumes": absent})
        record = self._archive.inventory.blobs[digest]
        if record.in_ is not None or record.missing is not None:
            message = (
                f"is in {holder_of(self._archive.inventory, record.in_)}"
                if record.in_
                else "could not be fetched for this archive"
            )
            raise RequestError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", message, {"digest": digest})
        if absent := self._blobs.taken_away(digest):
            message = f"is in {', '.join(absent)}, which was taken away: bring that volume back to its place"
            raise RequestError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", message, {"digest": digest, "volumes": absent})


class BlobResponse(StreamingResponse):
    """All or a part of a blob: by the kernel from its files where it was verified before, else chunk by chunk."""

    def __init__(
        self, blobs: ServedBlobs, digest: Digest, part: tuple[int, int, int], status: HTTPStatus, headers: Mapping[str, str]
    ) -> None:
        self._blobs, self._digest = blobs, digest
        self._first, self._end, size = part
        # A range is sent unverified: a client that asks for ranges checks the whole itself. All bytes are verified, also when
        # they are asked for as a range from 0.
        whole = self._first == 0 and self._end == size
        super().__init__(_stream(blobs.content(digest) if whole else blobs.part(digest, *part[:2])), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        send_file: SendFile | None = scope.get(SEND_FILE)
        opened = await run_in_threadpool(self._blobs.opened, self._digest) if send_file is not None else None
        if send_file is None or opened is None:
            await super().__call__(scope, receive, send)
            return
        with opened:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                await send_file(opened.spans(self._first, self._end), self._end - self._first)
            except (ChangedError, ContentError) as error:
                raise _truncated(self._blobs.damaged(self._digest, str(error))) from error
            except OSError as error:
                raise _truncated(self._blobs.unreadable(self._digest, error)) from error
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _stream(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give chunks as the client takes them; an error closes the connection."""
    # The status is sent already. A connection that ends before Content-Length is the only error that HTTP has left then.
    try:
        async for chunk in iterate_in_threadpool(chunks):
            yield chunk
    except HubError as error:
        raise _truncated(error) from error
    finally:
        # A client that goes away leaves the generator suspended, with a volume open.
        await run_in_threadpool(chunks.close)  # type: ignore[attr-defined]


def _truncated(error: HubError) -> TruncatedError:
    """Log why a response cannot be completed, what needs the blob, and what to do."""
    _LOG.error("%s", error.about(""))
    return TruncatedError()


def _digest(resource: ResourcePath) -> Digest:
    """Return the digest in a path. Raises RequestError for a text that is none."""
    if not _DIGEST.fullmatch(resource.reference):
        raise RequestError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"not a digest: {resource.reference[:100]!r}")
    return Digest(resource.reference)


def _headers(digest: Digest, media_type: str, size: int) -> dict[str, str]:
    return {
        "Content-Type": media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",
        "Content-Length": str(size),
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Cache-Control": "max-age=31536000",  # a year: the content of a digest never changes
    }


def _not_modified(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return 304 when the client has the content already, by its `If-None-Match`."""
    # Weak validators count: RFC 9110, 13.1.2, compares weakly here.
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    if headers["ETag"] not in known and known != ["*"]:
        return None
    kept = {name: value for name, value in headers.items() if name not in ("Content-Length", "Content-Type")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _range(request: Request, etag: str) -> str:
    """Return the Range header; an empty one when `If-Range` names other content (RFC 9110, 13.1.5)."""
    return request.headers.get("Range", "") if request.headers.get("If-Range", etag) == etag else ""


def _list_page(request: Request, path: str, entries: list[str], document: Any) -> Response:
    """Return a page of a list, with a Link header to the next one."""
    try:
        page = paginate(entries, request.query_params.get("n"), request.query_params.get("last"), MAX_PAGE)
    except ValueError:
        message = f"n is no number of entries: {request.query_params['n'][:40]!r}"
        raise RequestError(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message) from None
    headers = {}
    if page.last is not None:
        headers["Link"] = f'<{path}?n={len(page.entries)}&last={quote(page.last)}>; rel="next"'
    return _json(document(page.entries), headers=headers)


def _json(content: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, {"Content-Type": "application/json"} | dict(headers or {}))


# Requests: paths, ranges and pages of the distribution specification. Pure. No path of a request ever becomes a path of the
# file system: names are looked up in the repositories.

# Greedy, because names may contain slashes and words like `blobs`: only the end of a path says what it is. The routers of web
# frameworks cannot express that (ADR 0018).
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<reference>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
# At most 19 digits: `int` of a text without bound takes quadratic time, and 19 are enough for 64 bits.
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class Resource(StrEnum):
    """The kinds of resources of a registry."""

    BASE = "base"
    CATALOG = "_catalog"
    TAGS = "tags"
    MANIFESTS = "manifests"
    BLOBS = "blobs"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """The resource that a path names; `reference` is a tag or a digest as written."""

    kind: Resource
    name: str = ""
    reference: str = ""


def parse_path(path: str) -> ResourcePath | None:
    """Return the resource of a percent-decoded path; None for a path that no registry has."""
    # With and without the slash: clients ask for `/v2/`, some proxies strip it.
    if path in ("/v2", "/v2/"):
        return ResourcePath(Resource.BASE)
    if path in ("/v2/_catalog", "/v2/_catalog/"):
        return ResourcePath(Resource.CATALOG)
    if match := _PATH.fullmatch(path):
        return ResourcePath(Resource(match["kind"]), match["name"], match["reference"])
    if match := _TAGS.fullmatch(path):
        return ResourcePath(Resource.TAGS, match["name"])
    return None


class UnsatisfiableError(Exception):
    """A range outside of the content: HTTP 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the start and the end (exclusive) of a Range header; None for all of `size` bytes. Raises UnsatisfiableError."""
    # A server may ignore Range (RFC 9110, 14.2): several ranges at once, and units other than bytes, get all of the content.
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])  # a suffix: the last so many bytes
        if not length or not size:
            raise UnsatisfiableError
        return max(size - length, 0), size
    first, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if first >= size or end <= first:
        raise UnsatisfiableError
    return first, end


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `last` is the entry before the next page, None where there is no next one."""

    entries: tuple[str, ...]
    last: str | None = None


def paginate(entries: Sequence[str], number: str | None, last: str | None, most: int) -> Page:
    """Return the page after `last` (which need not exist) of at most `number` entries. Raises ValueError for a bad number.

    `entries` in ASCII order; `most` is the limit of a page where `number` is None or larger.
    """
    count = most if number is None else int(number)
    if count < 0:
        raise ValueError(f"a page of {count} entries")
    count = min(count, most)
    rest = [entry for entry in entries if last is None or entry > last]
    # `n=0` is an empty page (distribution specification, *Listing Tags*); a Link from it would lead to itself for ever.
    more = 0 < count < len(rest)
    return Page(tuple(rest[:count]), rest[count - 1] if more else None)


# Repositories: tags, manifests and blobs as a push would create them on a mirror. Pure. A blob belongs to the repositories
# whose manifests list it, and to no other.


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; `tags` are sorted, and so are `referrers`, by the manifest that is their subject."""

    tags: Mapping[str, Digest]
    manifests: frozenset[Digest]
    blobs: frozenset[Digest]
    referrers: Mapping[Digest, tuple[Digest, ...]]


Repositories = Mapping[str, Repository]  # by name, sorted


def served_repositories(inventory: Inventory, mirror: Mirror) -> Repositories:
    """Return the repositories of an archive. Raises as `map_images` does."""
    by_name: defaultdict[str, list[MappedImage]] = defaultdict(list)
    for image in _served(inventory, map_images(inventory, mirror)):
        by_name[image.repository.repository].append(image)
    closure = Closure(inventory)
    return {name: _repository(inventory, closure, by_name[name]) for name in sorted(by_name)}


def count_pullable(inventory: Inventory, mirror: Mirror, is_available: Callable[[Digest], bool]) -> tuple[int, int]:
    """Return how many images can be pulled with all of their blobs, and how many there are. Raises as `map_images` does."""
    closure = Closure(inventory)

    def is_here(blob: Digest) -> bool:
        return inventory.blobs[blob].missing is None and is_available(blob)

    images = map_images(inventory, mirror)
    # One that is not served may lack even its manifest; it would have no blobs, and so none that is missing.
    served = _served(inventory, images)
    return sum(all(is_here(blob) for blob in closure.blobs_of(image)) for image in served), len(images)


def _served(inventory: Inventory, images: Iterable[MappedImage]) -> list[MappedImage]:
    """Return the images that are served, some of them in part: those with a manifest, without payloads of incomplete releases.

    An update service would offer such a release (`importer.mapping.pushed_images`).
    """
    lacking = lacking_images(inventory)
    return [image for image in images if image.digest in inventory.manifests and image.name not in lacking]


def _repository(inventory: Inventory, closure: Closure, images: Iterable[MappedImage]) -> Repository:
    tags: dict[str, Digest] = {}
    manifests: set[Digest] = set()
    blobs: set[Digest] = set()
    for image in images:
        tags |= dict.fromkeys(image.tags, image.digest)
        manifests.update(closure.manifests_of(image.digest))
        blobs.update(closure.blobs_of(image))
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
