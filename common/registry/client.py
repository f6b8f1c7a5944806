"""The registry client: documents, blobs, uploads. Start reading here; each step is a module in this folder.

Registries are asked as the OCI distribution specification 1.1 says. Reads (`document`, `blob`, `blob_bytes`) go through the
mirrors of registries.conf; queries about present content, and all writes, go to the host that was named.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from common.content import REPEATS, Chunks, Written, retry_damaged, verified
from common.errors import (
    AuthenticationError,
    ContentError,
    CredentialsRefusedError,
    CredentialsWithheldError,
    DamagedError,
    HubError,
    RegistryError,
)
from common.oci.image import MAX_MANIFEST_SIZE, Descriptor, Digest, Document, digest_of, parse
from common.oci.reference import Reference
from common.registry.cnr import AppRegistry
from common.registry.download import FRESH, Damages, Download
from common.registry.fetch import fetch_call
from common.registry.http.coding import is_json
from common.registry.http.exchange import Call, Exchange
from common.registry.manifest_writer import ManifestWriter
from common.registry.manifests import Manifests, manifest_call
from common.registry.referrers import Referrers
from common.registry.registries_conf import load_hosts
from common.registry.settings import Clock, RegistrySettings
from common.registry.tag_lists import TagLists
from common.registry.upload.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from types import TracebackType


_MAX_URLS = 4
_FORBIDDEN, _NOT_FOUND = 403, 404
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


def _logged(what: str) -> None:
    """Log the reason of a pause, where no progress is shown."""
    if what:
        _LOG.warning("%s", what)


class RegistryClient:
    """Client of registries. A context manager, shared by threads.

    `notify` receives the reason of a pause ("quay.io asked to wait 30 s"), and an empty text after it; any thread may call
    it. `pushes_to`: `HOST[:PORT][/PATH]` below which repositories will be written to: they are asked for with `pull,push`,
    as skopeo does, and may not exist yet. Every method raises RegistryError, ContentError for content that is not what it
    should be, and UsageError for a configuration file that cannot be read.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        clock: Clock | None = None,
        notify: Callable[[str], None] = _logged,
        pushes_to: frozenset[str] = frozenset(),
    ) -> None:
        clock = clock or Clock()
        self._hosts = load_hosts(settings)
        self._exchange = Exchange(settings, self._hosts, clock, notify, pushes_to)
        self._clock = clock
        self._pushes = bool(pushes_to)
        self._damages = Damages()
        self._download = Download(self._exchange, clock)
        self._uploader = Uploader(self._exchange, clock, settings.timeouts.closing_put_s)
        self._manifests = Manifests(self._exchange, self._uploader.presence, self._document)
        self._writer = ManifestWriter(self._exchange, clock, self._uploader.presence, self._manifests.head)
        self._tag_lists = TagLists(self._manifests.tags)
        self._referrers = Referrers(self._exchange, self.document, self._put, self.lacks_tag)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._exchange.close()

    def ping(self, place: str, *, may_be_closed: bool = False) -> None:
        """Ask the host of `HOST[:PORT][/NAMESPACE]` whether it is a registry and takes our credentials. Writes nothing.

        Credentials of a namespace may be refused where no repository is named: then this is left to the first repository. So
        is a 403, or a 404 with an error code, before a push and with `may_be_closed`: a proxy may let the paths of
        repositories through alone. Raises CredentialsRefusedError when a token server does not know them.
        """
        host, _, namespace = place.partition("/")
        try:
            self._exchange.ask(Call("GET", Reference(host, namespace), "/v2/", "/v2/", host, scoped=False))
        except RegistryError as error:
            if not self._is_left_to_repositories(error, host, namespace, may_be_closed=may_be_closed or self._pushes):
                raise
            _LOG.info("%s: left to its repositories: %s", place, error.message)

    def _is_left_to_repositories(self, error: RegistryError, host: str, namespace: str, *, may_be_closed: bool) -> bool:
        if isinstance(error, CredentialsRefusedError | CredentialsWithheldError):
            return False  # neither is about a repository
        # A page says nothing of a registry; a registry that answers 404 in its own words is one without this path.
        if may_be_closed and (error.status == _FORBIDDEN or (error.status == _NOT_FOUND and error.code)):
            return True
        return isinstance(error, AuthenticationError) and bool(self._exchange.credentials.of_namespaces(host, namespace))

    def require_account(self, repository: Reference) -> None:
        """Raise AuthenticationError where the credentials for a repository, which need not exist, are refused.

        A token server that gives a token knows the account; Quay then answers 401 for a repository that does not exist.
        """
        url = f"/v2/{repository.repository}/tags/list"
        call = Call("GET", repository, url, "tags", repository.name, accept=frozenset({404}))
        try:
            self._exchange.ask(call)
        except CredentialsRefusedError:
            raise
        except AuthenticationError:
            if not self._exchange.takes_scopes(repository.registry):
                raise

    def document(self, reference: Reference) -> Document:
        """Return the manifest or index that a digest or tag names; a digest wins over a tag.

        Raises ContentError above 16 MiB, and RegistryError.
        """
        return self._read(reference, self._seen)

    def head(self, reference: Reference) -> Descriptor | None:
        """Return what the registry has under a digest or tag, without fetching it; None when there is nothing.

        In a repository of `pushes_to` there is nothing either where it may not be read: see `has_blob`.
        """
        self._hosts.check_allowed(reference)
        return self._manifests.head(reference)

    def has_blob(self, repository: Reference, digest: Digest, size: int | None = None) -> bool:
        """Say whether the repository holds a blob; with `size`, whether it holds that many bytes of it, where it says.

        A blob of another size is logged as a warning: it does not count as there, and pushing what has it does not replace it.
        In a repository of `pushes_to` a blob is not there either where the registry does not say: the upload decides. Quay
        creates a repository when a token to push is asked for (quay/quay, endpoints/v2/v2auth.py). Elsewhere that is a
        RegistryError.
        """
        self._hosts.check_allowed(repository)
        return self._uploader.presence.confirms(repository, Descriptor("", digest, size or 0), sized=size is not None)

    def blob(self, repository: Reference, blob: Descriptor, start: int = 0) -> Chunks:
        """Give the bytes of a blob from byte `start` on, not verified. A broken stream continues from its last good byte.

        A ContentError that is thrown in (`verified` does that) is counted and becomes a DamagedError: it says whether another
        try makes sense. The next one passes caches, and after REPEATS damaged copies it takes the next place. Where no place
        has the blob, the `urls` of its descriptor are tried, without credentials.
        """
        places = {place.name: (place, "") for place in self._hosts.places(repository.pinned(blob.digest))}
        places |= {url: (repository, url) for url in blob.urls[:_MAX_URLS]}
        left = self._damages.left(blob.digest, list(places))
        if not left:  # every place sent damaged copies, in this call or an earlier one
            raise self._damages.error(blob.digest, (), "no place is left")
        position, first = start, None
        sent: list[str] = []
        for name in left:
            place, url = places[name]
            try:
                for chunk in self._download.stream(place, blob, position, url, damaged=self._damages.count(blob.digest)):
                    position += len(chunk)
                    if name not in sent:
                        sent.append(name)
                    yield chunk
            except ContentError as error:  # raised by the stream, or thrown in by who verifies it
                # This place also where it gave nothing yet: an encoded body may be wrong from its first chunk on.
                raise self._damages.noted(blob.digest, dict.fromkeys([*sent, name]), list(places), error) from error
            except RegistryError as error:
                _LOG.info("%s: next place: %s", blob.digest, error.message)
                first = error if first is None or not url else first
            else:
                return
        assert first is not None  # a place is left
        raise first

    def blob_bytes(self, repository: Reference, blob: Descriptor, limit: int) -> bytes:
        """Return a small blob, verified. Raises ContentError when it has more than `limit` bytes."""
        if blob.size > limit:
            raise ContentError(f"{repository.name}@{blob.digest}: {blob.size} bytes; the limit is {limit}")
        whole = lambda _tries: b"".join(bytes(chunk) for chunk in verified(self.blob(repository, blob), blob))  # noqa: E731
        return retry_damaged(whole, self._clock.sleep)

    def upload(
        self, repository: Reference, blob: Descriptor, read: Callable[[int], Chunks], mount_from: Sequence[Reference] = ()
    ) -> Written:
        """Write a blob that is not there: MOUNTED from one of `mount_from` where that works, else COPIED from `read(0)`."""
        self._hosts.check_allowed(repository)
        return self._uploader.upload(repository, blob, read, mount_from)

    def require_whole(self, repository: Reference, blob: Descriptor, read: Callable[[int], Chunks]) -> None:
        """Look at a blob that was uploaded. Raises RegistryRefusedError where the registry keeps less, or more, than it got."""
        self._uploader.require_whole(repository, blob, read)

    @property
    def unreadable(self) -> Mapping[str, RegistryError]:
        """The registries whose storage, another host, did not give a blob that had just arrived, with what it said."""
        return dict(self._uploader.presence.unreadable)

    def realm(self, registry: str) -> str:
        """Return where a registry sends its clients for tokens; empty where it asked for none so far."""
        return self._exchange.realm(registry)

    def refusal(self, repository: Reference) -> RegistryError | None:
        """Return why `head` last said that nothing is there, where the registry did not answer that it has nothing."""
        return self._manifests.refusal(repository)

    def put_manifest(
        self,
        reference: Reference,
        raw: bytes,
        media_type: str,
        *,
        on_missing: Callable[[], None] | None = None,
        waits: bool = True,
    ) -> bool:
        """Write a manifest or index, byte for byte, under the tag of `reference`, else under its digest.

        False: the registry refused it, for it is there already. See `ManifestWriter.put`.
        """
        self._hosts.check_allowed(reference)
        return self._writer.put(reference, raw, media_type, on_missing=on_missing, waits=waits) is not None

    def put_referrer(self, repository: Reference, document: Document, *, on_missing: Callable[[], None] | None = None) -> None:
        """Write a manifest that has a subject, and see that the registry lists it among what refers to that subject."""
        self._referrers.register(repository, document, on_missing)

    def referrers(self, subject: Reference) -> tuple[Descriptor, ...]:
        """Return what refers to an image that is named by digest: signatures, attestations, other artifacts."""
        return self._read(subject, self._referrers.of)

    def has_referrers_api(self, subject: Reference) -> bool:
        """Say whether the registry of an image, which is there, lists what refers to it. Raises RegistryError."""
        return self._referrers.has_api(subject)

    def delete(self, reference: Reference) -> None:
        """Delete a manifest, named by its digest. Raises RegistryError where the registry does not let us."""
        self._hosts.check_allowed(reference)
        self._exchange.ask(manifest_call("DELETE", reference, writes=True))

    def delete_blob(self, reference: Reference) -> None:
        """Delete a blob, named by its digest, from a repository. Raises RegistryError where the registry does not let us."""
        self._hosts.check_allowed(reference)
        url = f"/v2/{reference.repository}/blobs/{reference.digest}"
        self._exchange.ask(Call("DELETE", reference, url, "blob", str(reference), writes=True))

    def _put(self, reference: Reference, raw: bytes, media_type: str, on_missing: Callable[[], None] | None = None) -> str:
        """Write a manifest; return the subject that the registry says it has taken note of."""
        self._hosts.check_allowed(reference)
        answer = self._writer.put(reference, raw, media_type, on_missing=on_missing)
        return "" if answer is None else str(answer.headers.get("OCI-Subject", ""))

    def app_registry(self, endpoint: str, token: str = "") -> AppRegistry:
        """Return the app registry at an endpoint, spoken to as registries are: proxies, certificates, patience."""
        return AppRegistry(self._exchange, endpoint, token)

    def fetch(
        self,
        url: str,
        *,
        what: str,
        limit: int,
        accept: str = "*/*",
        is_right: Callable[[bytes], bool] = is_json,
        within_s: float | None = None,
    ) -> bytes:
        """Return a document of any host, without credentials; `what` it is, for messages.

        A content coding that was not asked for is undone, where `is_right` does not accept the bytes as they are. Plain HTTP
        is for hosts of --insecure, and for this machine. `within_s`: how long silence and retries may last, where another
        host may have the same.
        Raises UsageError for a URL that cannot be meant, NotFoundError, RegistryError, ContentError past `limit` bytes.
        """
        call = fetch_call(url, what, accept, self._hosts)
        ask = self._exchange.ask if within_s is None else partial(self._exchange.ask_within, within_s)
        return ask(call, limit).plain(call, limit, is_right)

    def tags(self, repository: Reference) -> Iterator[str]:
        """Give the tags of a repository, page by page."""
        return self._manifests.tags(repository)

    def read_tags(self, repository: Reference, subjects: Collection[Digest], sampled: Collection[Digest]) -> None:
        """Read which tags `sha256-<hex>…` of manifests a repository has, so that `lacks_tag` knows; see `TagLists`."""
        for place in self._tagged_places(repository):
            self._tag_lists.read(place, subjects, sampled)

    def lacks_tag(self, tagged: Reference) -> bool:
        """Say whether the lists of `read_tags` show that a tag is at no place, so that it need not be asked for."""
        return all(map(self._tag_lists.lacks, self._hosts.places(tagged)))

    def is_in_doubt(self, subject: Reference) -> bool:
        """Say whether tags of a subject were left out by a list that turned out to be incomplete."""
        assert subject.digest is not None
        return any(self._tag_lists.is_in_doubt(place, subject.digest) for place in self._tagged_places(subject))

    def _tagged_places(self, repository: Reference) -> Iterator[Reference]:
        """Give the repositories in which tags are looked up."""
        any_tag = Reference(repository.registry, repository.repository, "latest")  # mirrors may serve digests alone
        return (Reference(place.registry, place.repository) for place in self._hosts.places(any_tag))

    def _read(self, reference: Reference, action: Callable[[Reference], T]) -> T:
        """Run `action` at each place of `reference` until one has an answer; the last place's error is the one that counts."""
        # The last place is the registry itself: an error of a mirror would lead the user to the wrong host.
        *mirrors, last = self._hosts.places(reference)
        for place in mirrors:
            try:
                return action(place)
            except HubError as error:
                _LOG.info("%s: next place: %s", reference, error.message)
        return action(last)

    def _seen(self, reference: Reference) -> Document:
        document = self._document(reference)
        if reference.tag is not None and reference.digest is None:
            self._tag_lists.saw(reference)
        return document

    def _document(self, reference: Reference) -> Document:
        """Fetch a document; again, past caches, where the bytes were wrong."""
        return retry_damaged(lambda tries: self._document_once(reference, tries), self._clock.sleep)

    def _document_once(self, reference: Reference, tries: int) -> Document:
        call = manifest_call("GET", reference)
        if tries > 1:
            call = replace(call, headers={**call.headers, **FRESH})
        answer = self._exchange.ask(call, MAX_MANIFEST_SIZE)
        # By digest the bytes themselves say whether they are encoded; by tag, whether they are JSON.
        is_right = (lambda raw: digest_of(raw) == reference.digest) if reference.digest else is_json
        body = answer.plain(call, MAX_MANIFEST_SIZE, is_right)
        got = digest_of(body)
        if reference.digest and got != reference.digest:
            raise DamagedError(
                f"{reference}: {reference.registry} sent a manifest with digest {got}{f', {tries} times' if tries > 1 else ''}",
                hint="The registry, or a proxy, is broken.",
                more=tries < REPEATS,
            )
        return parse(body, answer.headers.get("Content-Type", ""))
