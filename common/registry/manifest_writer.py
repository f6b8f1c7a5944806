"""Manifests and indexes into a registry: refusals that pass are tried again, the others are explained.

A registry may refuse a manifest for a moment (its blobs are not visible yet, another client writes the same), because of a rule
of its own (immutable tags, media types, layers with `urls`), or although it has the manifest already.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from common.errors import ContentError, RegistryError, RegistryRefusedError
from common.oci import media_types
from common.oci.image import Index, Manifest, artifact_type, digest_of, parse
from common.oci.reference import Reference
from common.registry.http.errors import CONFLICTS
from common.registry.manifests import manifest_call
from common.registry.upload.failing import FailingRepositories
from common.retry import RetryableError, RetryPolicy, retry
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.oci.image import Descriptor, Digest, Document
    from common.registry.http.exchange import Answer, Call, Exchange
    from common.registry.settings import Clock
    from common.registry.upload.presence import Presence


Family = Literal["Docker", "OCI"]

# Storage that is consistent only after seconds hides blobs and manifests that were just written (openshift/image-registry#220,
# estesp/manifest-tool#191).
_SETTLING = RetryPolicy(within_s=15.0, longest_s=5.0)
_UNSEEN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
_UNSEEN_STATUS = frozenset({400, 404})
_VAIN = 6  # waits at one host that ended in an error; then it is not the storage, and hundreds of images do not wait
_CONFLICT_TRIES = 5
# A registry on plain files may read a manifest that another process is just writing, and find it cut short.
_HALF_WRITTEN = frozenset({"DIGEST_INVALID"})
_OK = 200
_BAD_REQUEST = 400
_SAY_NOTHING = frozenset({"", "MANIFEST_INVALID", "UNKNOWN", "UNSUPPORTED"})  # codes that name no reason of their own
_SERVER_ERROR = 500
_UNSUPPORTED_TYPE = 415
# ECR: 400 TAG_INVALID "cannot be overwritten because the repository is immutable" (moby/buildkit#3776). Harbor: 412
# PRECONDITION "configured as immutable" (goharbor/harbor, src/server/middleware/immutable). Quay: 409 TAG_ALREADY_EXISTS
# (quay/quay, endpoints/v2/errors.py). Docker Hub: 403 (docker/hub-feedback#2466). Nexus: 400 "does not allow updating assets"
# (GoogleContainerTools/jib#3057).
_IMMUTABLE = re.compile(
    r"immutab|overwrit|already exists|TAG_ALREADY_EXISTS|TagAlreadyExists|updating assets|redeploy|protected tag", re.IGNORECASE
)
_RULE = re.compile(r"quota|policy|denied|vulnerab|sign", re.IGNORECASE)  # Harbor's other reasons for 412, which do not pass
_MAY_BE_THERE = frozenset({400, 403, 405, *CONFLICTS})
_OWN_TAG = "hub-sha256-"
_REFERRERS_TAG = "sha256-"
_LOG = logging.getLogger(__name__)


class ImmutableTagError(RegistryRefusedError):
    """A tag that points to another digest, and that the registry does not move."""


class UnsupportedTypeError(RegistryRefusedError):
    """A registry takes no manifests of a family of media types."""

    def __init__(self, message: str, *, hint: str, status: int, code: str, family: Family) -> None:
        super().__init__(message, hint=hint, status=status, code=code)
        self.family = family


_FAMILY_HINTS: dict[Family, str] = {
    "Docker": 'It accepts OCI types only. zot: set "compat": ["docker2s2"] under "http" in its configuration. Others: allow '
    "Docker manifests version 2, schema 2, or use another mirror: most images of operators are of this type.",
    "OCI": "It accepts Docker types only. Quay: set FEATURE_GENERAL_OCI_SUPPORT: true in its config.yaml. Artifactory and "
    "Nexus: update to a release that takes OCI images.",
}


def family_of(media_type: str) -> Family:
    """Return the family of a media type of manifests or indexes."""
    return "Docker" if media_type in (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST) else "OCI"


@dataclass(frozen=True, slots=True)
class _Written:
    """A manifest on its way to a reference."""

    reference: Reference
    raw: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        """The digest of its bytes."""
        return digest_of(self.raw)

    @property
    def document(self) -> Document | None:
        """The manifest, parsed; None for other bytes."""
        try:
            return parse(self.raw, self.media_type)
        except ContentError:
            return None

    @property
    def has_urls(self) -> bool:
        """Whether a layer names external `urls`."""
        document = self.document
        return isinstance(document, Manifest) and any(layer.urls for layer in document.layers)

    @property
    def is_image(self) -> bool:
        """Whether it is an image, or an index of images, and no artifact such as a signature."""
        document = self.document
        if document is None or document.subject is not None:
            return False
        return artifact_type(document) in media_types.IMAGE_CONFIGS if isinstance(document, Manifest) else True


class ManifestWriter:
    """Writes manifests; remembers hosts where waiting for content is in vain. Shared by threads.

    `head` returns the manifest under a reference, None where there is none.
    """

    def __init__(
        self, exchange: Exchange, clock: Clock, presence: Presence, head: Callable[[Reference], Descriptor | None]
    ) -> None:
        self._exchange = exchange
        self._failing = FailingRepositories(exchange)
        self._clock = clock
        self._presence = presence
        self._head = head
        self._lock = threading.Lock()
        self._vain: Counter[str] = Counter()

    def put(
        self,
        reference: Reference,
        raw: bytes,
        media_type: str,
        *,
        on_missing: Callable[[], None] | None = None,
        waits: bool = True,
    ) -> Answer | None:
        """Write a manifest under the tag of `reference`, else under its digest; None: it is there, though the PUT failed.

        `on_missing` checks the content of the manifest, once, when the registry does not see it; `waits` False: then there is
        no pause, because content is missing on purpose. Raises ImmutableTagError, UnsupportedTypeError, RegistryError,
        ContentError.
        """
        # The tag counts in a PUT, where there is one; in a HEAD a digest would win.
        tagged = Reference(reference.registry, reference.repository, reference.tag)
        reference = tagged if reference.tag else reference.pinned(digest_of(raw))
        written = _Written(reference, raw, media_type)
        try:
            answer = self._settled(written, on_missing, waits=waits)
        except RegistryError as error:
            if self._is_there(written, error):
                _LOG.info("%s: is there already: %s", reference, error.message)
                return None
            raise
        if answer is None:
            return None
        # A proxy that reformats JSON changes the digest, and operators pin it.
        stored = answer.headers.get("Docker-Content-Digest", "")
        if stored.startswith("sha256:") and stored != written.digest:
            raise ContentError(f"{reference}: {reference.registry} stored {sanitize(stored, 80)}, wanted {written.digest}")
        return answer

    def _settled(self, written: _Written, on_missing: Callable[[], None] | None, *, waits: bool) -> Answer | None:
        """Write; again after pauses where content is not visible yet, or where another client writes the same."""
        registry = written.reference.registry
        with self._lock:
            patient = waits and self._vain[registry] < _VAIN
        check, unseen = on_missing, False

        def step() -> Answer | None:
            nonlocal check, unseen
            try:
                return self._sent(written)
            except RegistryError as error:
                if _is_unseen(written, error):
                    if check is None and not waits:
                        raise
                    # Once, not at each try. Measured with docker-registry 2.8: two uploads or mounts of one blob at the same
                    # time can hide it for a moment, and it is seen at the second try.
                    unseen, now, check = True, check, None
                    if now is not None:
                        now()
                    at_once = now is not None or not patient
                    raise RetryableError(error, None if patient else 2, wait_s=0.0 if at_once else None) from error
                if error.status in CONFLICTS and not (_IMMUTABLE.search(_words(error)) or _RULE.search(_words(error))):
                    # goharbor/harbor#23118, openshift/origin#19452: two clients write at the same time.
                    raise RetryableError(error, _CONFLICT_TRIES) from error
                raise

        try:
            answer = retry(step, _SETTLING, sleep=self._clock.sleep, clock=self._clock.monotonic_s)
        except RegistryError:
            self._note_wait(registry, unseen=unseen, in_vain=True)
            raise
        self._note_wait(registry, unseen=unseen, in_vain=False)
        return answer

    def _note_wait(self, registry: str, *, unseen: bool, in_vain: bool) -> None:
        if unseen:
            with self._lock:
                self._vain[registry] = self._vain[registry] + 1 if in_vain else 0

    def _sent(self, written: _Written) -> Answer | None:
        """Send it, with the retries of every request; None: it is there. Raises the error that explains a refusal."""
        call = self._call(written)
        try:
            return self._failing.retried(written.reference, "manifest", lambda: self._once(call, written))
        except RegistryError as error:
            raise self._explained(written, error) from error

    def _once(self, call: Call, written: _Written) -> Answer | None:
        try:
            return self._exchange.ask_once(call)
        except RetryableError as failure:
            # The answer may be lost, not the manifest. A tag is looked for before it is written again: a registry with
            # immutable tags refuses what it has just taken (aws/containers-roadmap#2179). Without a tag the PUT can be
            # repeated, and its answer names the subject.
            if written.reference.tag and self._presence.awaited(lambda: self._is_tagged(written), failure, None):
                return None
            # docker-registry answers 500 to layers with `urls` that it does not allow (distribution/distribution#2795): half a
            # minute of retries would not change its mind. The second try is for a server in trouble.
            if _status(failure) == _SERVER_ERROR and written.has_urls:
                raise RetryableError(failure.error, 2) from failure
            raise

    def _is_tagged(self, written: _Written) -> bool:
        found = self._exchange.ask_once(manifest_call("HEAD", written.reference, accept=frozenset({404})))
        return found.status == _OK and found.headers.get("Docker-Content-Digest", "") == written.digest

    def _call(self, written: _Written) -> Call:
        raw, call = written.raw, manifest_call("PUT", written.reference)
        return replace(
            call,
            headers={"Content-Type": written.media_type},
            body=lambda: iter([raw]),
            length=len(raw),
            writes=True,
            passing_codes=_HALF_WRITTEN,
        )

    def _explained(self, written: _Written, error: RegistryError) -> RegistryError:
        """Return the error with the properties of the manifest that explain it."""
        if _may_be_urls(written, error) and not self._refuses_type(written, error):
            return RegistryRefusedError(
                f"{error.message}; layers of the image have urls, which the registry may not allow",
                hint="docker-registry: list the hosts of these urls as validation.manifests.urls.allow in its configuration "
                "(regular expressions), or export the image without them.",
                status=error.status,
                code=error.code,
            )
        if self._refuses_type(written, error):
            family = family_of(written.media_type)
            return UnsupportedTypeError(
                f"{written.reference.registry} refuses manifests of {family} type ({written.media_type}): {_words(error)}",
                hint=_FAMILY_HINTS[family],
                status=error.status,
                code=error.code,
                family=family,
            )
        return error

    def _refuses_type(self, written: _Written, error: RegistryError) -> bool:
        """Say whether the registry refuses the media type of an image's manifest (project-zot/zot#2234)."""
        # An artifact that is refused says nothing about images: Quay and GitLab have lists of types of artifacts.
        if not written.is_image:
            return False
        if error.status == _UNSUPPORTED_TYPE:
            return True
        words = _words(error)
        return error.code in ("MANIFEST_INVALID", "UNSUPPORTED") and (
            written.media_type in words or "schema version not supported" in words
        )

    def _is_there(self, written: _Written, error: RegistryError) -> bool:
        """Say whether a manifest that was refused is there nevertheless. Raises ImmutableTagError where a tag is in its way.

        ECR, Harbor and Nexus refuse a tag that exists also when it has the same digest (aws/containers-roadmap#2380): it may
        be there from an earlier run, from another process, or from a try whose answer was lost.
        """
        if error.status not in _MAY_BE_THERE or error.code in _UNSEEN | _HALF_WRITTEN:
            return False
        try:
            found = self._head(written.reference)
        except (RegistryError, ContentError) as other:
            _LOG.info("%s: not known whether it is there: %s", written.reference, other.message)
            return False
        if found is None:
            return False
        if (found.digest, found.size) == (written.digest, len(written.raw)):
            return True
        if written.reference.tag and _IMMUTABLE.search(_words(error)):
            raise _immutable(written, found, error) from error
        return False


def _immutable(written: _Written, found: Descriptor, error: RegistryError) -> ImmutableTagError:
    reference, tag = written.reference, written.reference.tag or ""
    if tag.startswith(_REFERRERS_TAG):
        hint = f"Exempt the tags {_REFERRERS_TAG}* from the registry's rule: they list the signatures of an image, and grow."
    else:
        hint = (
            f"Exempt the tag {tag} from the registry's rule (immutable tags, redeployment), and with it {_OWN_TAG}* and "
            "all tags that move, such as those of catalogs; or choose another tag: targetTag in the image set, --to of "
            "build-catalog."
        )
    return ImmutableTagError(
        f"{reference}: the tag is immutable: it has {found.digest}, and {reference.registry} does not move it to "
        f"{written.digest}: {_words(error)}",
        hint=hint,
        status=error.status,
        code=error.code,
    )


def _is_unseen(written: _Written, error: RegistryError) -> bool:
    """Say whether the registry does not see what a manifest names."""
    if error.status not in _UNSEEN_STATUS:
        return False
    if error.code in _UNSEEN:
        return True
    # Quay and zot say MANIFEST_INVALID, with the digest that they do not find. Pulp does so for children and config blobs; for
    # layers it gives the digest of the manifest, and no reason (pulp/pulp_container, app/registry_api.py).
    document = written.document if error.code == "MANIFEST_INVALID" else None
    named = document.manifests if isinstance(document, Index) else document.blobs if isinstance(document, Manifest) else ()
    words = _words(error)
    return any(one.digest in words for one in named) or f"manifest invalid: {written.digest}" in words


def _may_be_urls(written: _Written, error: RegistryError) -> bool:
    """Say whether a manifest may have been refused for the `urls` of its layers: nothing else is said."""
    if error.status == _SERVER_ERROR:
        return error.code not in _UNSEEN and written.has_urls
    # docker-registry: 400 MANIFEST_INVALID (distribution/distribution, registry/handlers/manifests.go).
    if error.status != _BAD_REQUEST or error.code not in _SAY_NOTHING or _is_unseen(written, error):
        return False
    return not _IMMUTABLE.search(_words(error)) and written.has_urls


def _status(failure: RetryableError) -> int:
    return failure.error.status if isinstance(failure.error, RegistryError) else 0


def _words(error: RegistryError) -> str:
    """Return what the registry answered: status, code and text, without the names that this program puts before them."""
    before, status, after = error.message.partition(f"HTTP {error.status}")
    return f"{status}{after}" if status else before
