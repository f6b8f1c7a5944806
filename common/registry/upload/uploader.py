"""Uploads of blobs: mounted from another repository, or sent in the form that the registry takes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import httpx

from common.content import Written
from common.errors import (
    AuthenticationError,
    NotFoundError,
    NotTakenError,
    NotWritableError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from common.registry.http.errors import CONFLICTS, NAME_INVALID, TRIES
from common.registry.http.exchange import Answer, Call, Exchange
from common.registry.upload.failing import FailingRepositories
from common.registry.upload.forms import OFFSET_WRONG, TOO_LARGE, Body, Form, Read, Sender, Session
from common.registry.upload.mounts import Mounts
from common.registry.upload.presence import GATEWAY, Presence, damaged
from common.retry import RetryableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.oci.image import Descriptor
    from common.oci.reference import Reference
    from common.registry.settings import Clock


_NOT_WRITABLE = frozenset({401, 403, 404, 405})  # of the POST: no right, no such repository (ECR), a pull-through cache
_WANTS_CHUNKS = frozenset({405, 411, TOO_LARGE})
# What these refuse is not the form of the request: rights, limits, space.
_NOT_THE_FORM = frozenset({401, 403, 429, 507})
_CLOSED = frozenset({401, 403, 404})
_UNSUPPORTED = frozenset({404, 405, 411, 415, 501})
_UNSUPPORTED_CODES = frozenset({"UNSUPPORTED", "BLOB_UNKNOWN"})
# Pulp (pulp_container 2.30, app/registry_api.py, BlobUploads.put) stores what arrives in one PUT without comparing its digest:
# where the connection breaks, a short blob stays under that digest, and neither another upload nor a DELETE replaces it. After
# a PATCH it does compare. Satellite passes the header on with underscores (Katello/katello, registry_proxies_controller.rb).
# OpenShift's own registry sends it, too, and takes chunks as well.
_UNVERIFIED_PUT = ("X-Registry-Supports-Signatures", "x_registry_supports_signatures")
_DAMAGED_ON_THE_WAY = "DIGEST_INVALID"  # the digest was verified while reading, so the bytes changed on their way
_BROKEN_SESSION = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_SERVER_ERROR = 500
_ENOUGH = 2  # blobs of a host after which its answer counts as its habit
_LOG = logging.getLogger(__name__)


class _Attempt:
    """The forms that were tried for one blob."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.refused: dict[Form, RegistryError] = {}
        self.server_errors = self.gateways = 0
        self.is_damaged = False  # DIGEST_INVALID in every form: the form is not at fault

    def following(self, error: RegistryError) -> Form | None:
        """Note that the form was refused; return the next one, None when none is left that could help."""
        self.refused[self.form] = error
        if self.form is Form.CHUNKS and error.status == TOO_LARGE:
            return None  # the smallest chunk is too large, so is everything else
        if error.status in _WANTS_CHUNKS:
            order: tuple[Form, ...] = (Form.CHUNKS, Form.STREAM, Form.WHOLE)
        elif error.code == _DAMAGED_ON_THE_WAY:
            order = (Form.STREAM, Form.WHOLE)
        else:
            order = (Form.STREAM, Form.CHUNKS, Form.WHOLE)
        return next((form for form in order if form not in self.refused), None)

    @property
    def telling(self) -> RegistryError:
        """The error that says most: not that of a form which the registry does not have."""
        errors = list(self.refused.values())
        says_why = (e for e in errors if e.status not in _UNSUPPORTED and e.code not in _UNSUPPORTED_CODES)
        return next(says_why, errors[0])


class Uploader:
    """Writes blobs. Remembers for each host whether mounts work, and the form in which it takes blobs. Shared by threads."""

    def __init__(self, exchange: Exchange, clock: Clock, closing_put_s: float) -> None:
        self._exchange = exchange
        self._clock = clock
        self._failing = FailingRepositories(exchange)
        self.presence = Presence(exchange, clock, self._failing)
        self._sender = Sender(exchange, closing_put_s)
        self._mounts = Mounts()
        self._lock = threading.Lock()
        self._forms: dict[str, Form] = {}
        # Blobs in a row that were refused in every form, by host and by repository: a quota of one project, say, is no habit.
        self._refusing: Counter[str] = Counter()
        self._rescued: Counter[str] = Counter()  # blobs in a row that arrived in another form after 500

    def upload(self, repository: Reference, blob: Descriptor, read: Read, mount_from: Sequence[Reference]) -> Written:
        """Mount or send. After trouble the whole step begins again, unless the blob turns out to be there."""
        refused: list[Reference] = []
        answer = self._mounted(repository, blob, mount_from, refused)
        if answer is Written.MOUNTED:
            return Written.MOUNTED
        opened = [answer] if isinstance(answer, Answer) else []
        try:
            self._sent(repository, blob, read, _Attempt(self._form(repository.registry)), opened)
        except RegistryError as error:
            if error.status in _CLOSED:  # the target takes nothing at all
                self._mounts.forgive(refused)
            raise
        return Written.COPIED

    def require_whole(self, repository: Reference, blob: Descriptor, read: Read) -> None:
        """Check an uploaded blob. Raises RegistryRefusedError where the registry keeps another length than it was given.

        docker-registry (2.8.2) answers 201 to the upload of a blob whose file it has already, and leaves that file as it is.
        Where the registry does not show the blob yet, or does not answer, its 201 to the upload counts. Where the blob was not
        there before, it is sent once more in another form: a registry that ignores the body of a PUT, or that keeps the last
        chunk alone (repsyio/repsy#355), answers 201 too.
        """
        was_short = self.presence.was_short(repository, blob)
        stored = self._stored(repository, blob)
        if stored in (None, blob.size):
            return
        if not was_short:
            form = self._form(repository.registry)
            other = Form.WHOLE if form is Form.STREAM else Form.STREAM
            _LOG.warning("%s: %s of %d bytes arrived; sending it again %s", blob.digest, stored, blob.size, other.value)
            self._sent(repository, blob, read, _Attempt(other), [])
            stored = self._stored(repository, blob)
            if stored in (None, blob.size):
                self._remember(repository.registry, other)
                return
        raise damaged(repository, blob, stored or 0)

    def _stored(self, repository: Reference, blob: Descriptor) -> int | None:
        try:
            return self.presence.stored_size(repository, blob)
        except RegistryError as error:
            _LOG.info("%s@%s: not looked at after its upload: %s", repository.name, blob.digest, error.message)
            self.presence.note_unreadable(repository, blob, error)
            return None

    # Mounting.

    def _mounted(
        self, repository: Reference, blob: Descriptor, mount_from: Sequence[Reference], refused: list[Reference]
    ) -> Answer | Written | None:
        """Try to mount: MOUNTED, or the session the registry opened instead, or None. `refused` gets the sources that were."""
        for source in self._mounts.candidates(repository, mount_from):
            try:
                mount = partial(self._mount, repository, blob, source)
                answer = self._failing.retried(repository, "mount", mount)
            except (AuthenticationError, NotFoundError) as error:
                _LOG.debug("%s: not mounted from %s: %s", blob.digest, source.name, error.message)
                self._mounts.refused(source)
                refused.append(source)
            except RegistryRefusedError as error:
                _LOG.info("%s: does not mount: %s", repository.registry, error.message)
                self._mounts.unsupported(repository.registry)
                return None
            else:
                if answer is None or answer.status == httpx.codes.CREATED:
                    self._mounts.worked(source)
                    return Written.MOUNTED
                self._mounts.ignored(source)
                return answer if _opens_upload(repository, blob, answer) else None
        return None

    def _mount(self, repository: Reference, blob: Descriptor, source: Reference) -> Answer | None:
        """Ask for a mount once; None when its answer was lost, and the blob is there."""
        query = httpx.QueryParams({"mount": blob.digest, "from": source.repository})
        url = f"/v2/{repository.repository}/blobs/uploads/?{query}"
        name = f"{repository.name}@{blob.digest}"
        began_s = self._clock.monotonic_s()
        try:
            return self._exchange.ask_once(
                Call("POST", repository, url, "mount", name, writes=True, also_from=source.repository)
            )
        except RetryableError as failure:
            # docker-registry may lose a blob for a moment that is mounted twice at a time, so it is looked for first.
            if self.presence.arrives(repository, blob, failure, began_s):
                return None
            raise

    # Sending.

    def _sent(self, repository: Reference, blob: Descriptor, read: Read, attempt: _Attempt, opened: list[Answer]) -> None:
        """Send a blob, in another form or another session where that may help."""

        def step() -> None:
            answer = opened.pop() if opened else self._begin(repository, blob)
            session = Session.opened(repository, blob, answer)
            unverified = any(name in answer.headers for name in _UNVERIFIED_PUT)
            if unverified and attempt.form is Form.WHOLE and Form.CHUNKS not in attempt.refused:
                attempt.form = Form.CHUNKS
                self._remember(repository.registry, Form.CHUNKS)
            body = Body(read, blob.size, self._clock.monotonic_s)
            form = attempt.form
            try:
                self._send(session, body, attempt)
            except RetryableError as failure:
                if attempt.form is not form:  # refused: there is nothing to wait for
                    raise
                if self.presence.arrives(repository, blob, failure, body.sent_at):  # the answer was lost, not the blob
                    return
                self._choose_after_trouble(repository.registry, attempt, failure)
                raise
            self._note_success(repository, attempt)

        self._failing.retried(repository, "upload", step)

    def _begin(self, repository: Reference, blob: Descriptor) -> Answer:
        url, name = f"/v2/{repository.repository}/blobs/uploads/", f"{repository.name}@{blob.digest}"
        try:
            return self._exchange.ask_once(Call("POST", repository, url, "upload", name, writes=True))
        except RegistryError as error:
            # A token server's refusal may have another status, such as 400 (podman-container-tools/skopeo#1180).
            is_denied = isinstance(error, AuthenticationError) or error.status in _NOT_WRITABLE
            if not is_denied and error.code != NAME_INVALID:
                if not error.status:
                    raise
                # Nothing of the blob is in this request: it is about the repository, or the host.
                raise NotTakenError(error.message, hint=error.hint, status=error.status, code=error.code) from error
            raise NotWritableError(error.message, hint=error.hint, status=error.status, code=error.code) from error

    def _send(self, session: Session, body: Body, attempt: _Attempt) -> None:
        """Send the blob and close the session. What another form or another session may repair becomes a RetryableError."""
        try:
            self._sender.send(session, body, attempt.form)
        except RegistryError as error:
            if error is body.failure:
                raise
            if self._is_broken_session(error, attempt):
                raise RetryableError(error, 3) from error
            # Another client writes the blob (openshift/origin#19452). 412 is a quota of Harbor, which does not pass.
            if error.status in CONFLICTS - {412}:
                raise RetryableError(error, 4) from error
            if error.code == _DAMAGED_ON_THE_WAY and attempt.is_damaged:
                raise RetryableError(error, TRIES) from error
            if not _may_be_the_form(error):
                raise
            raise self._refusal(session, attempt, error) from error

    def _is_broken_session(self, error: RegistryError, attempt: _Attempt) -> bool:
        if attempt.form is Form.CHUNKS and (error.status == OFFSET_WRONG or error.code == "BLOB_UPLOAD_INVALID"):
            # ECR keeps the first chunk alone and then finds the digest wrong (aws/containers-roadmap#2831,
            # dotnet/sdk-container-builds#472): another session would end in the same way.
            return False
        return error.code in _BROKEN_SESSION or error.status == OFFSET_WRONG

    def _refusal(self, session: Session, attempt: _Attempt, error: RegistryError) -> Exception:
        """Choose the next form after a refusal, and return what to raise."""
        registry = session.repository.registry
        refused = attempt.form
        following = attempt.following(error)
        if refused is Form.WHOLE and following is Form.CHUNKS:
            self._remember(registry, Form.CHUNKS)  # so that other threads do not send whole blobs in vain
        # A limit of the size is about this blob, also after other refusals.
        name = session.repository.name
        may_help = self._refusing[registry] < _ENOUGH or not self._refusing[name]
        if following is not None and (may_help or error.status in _WANTS_CHUNKS):
            _LOG.info("%s: refused %s, trying it %s: %s", registry, refused.value, following.value, error.message)
            attempt.form = following
            return RetryableError(error, wait_s=0.0)
        damages = [each for each in attempt.refused.values() if each.code == _DAMAGED_ON_THE_WAY]
        if damages:
            _LOG.warning("%s: sending it again: %s", session.name, error.message)
            attempt.is_damaged = True
            attempt.form = self._form(registry)
            return RetryableError(damages[0], TRIES)  # by number: each try sends the whole blob
        with self._lock:
            self._refusing[registry] += 1
            self._refusing[name] += 1
        return attempt.telling

    def _choose_after_trouble(self, registry: str, attempt: _Attempt, failure: RetryableError) -> None:
        usual = attempt.form if self._form(registry) in attempt.refused else self._form(registry)
        status = failure.error.status if isinstance(failure.error, RegistryError) else 0
        attempt.gateways += status in GATEWAY
        # Smaller requests may get through; a proxy that gave up waiting once may have met a slow moment.
        if isinstance(failure.error, RegistryUnreachableError) or (status in GATEWAY and attempt.gateways >= _ENOUGH):
            attempt.form = Form.CHUNKS if attempt.form is not Form.CHUNKS else usual
            return
        attempt.server_errors += status == _SERVER_ERROR
        # A registry that has trouble with the body of a PUT says 500 again and again; one that was restarted does not.
        other = usual is Form.WHOLE and attempt.form is Form.WHOLE and attempt.server_errors >= _ENOUGH
        attempt.form = Form.STREAM if other and status == _SERVER_ERROR else usual

    def _note_success(self, repository: Reference, attempt: _Attempt) -> None:
        """Remember the form that worked, where the usual one was refused, or failed for several blobs."""
        registry = repository.registry
        with self._lock:
            usual = self._forms.get(registry, Form.WHOLE)
            for key in (registry, repository.name):
                self._refusing.pop(key, None)  # not 0, as in `Presence`
            if attempt.form is usual:
                self._rescued[registry] = 0
                return
            self._rescued[registry] += attempt.server_errors > 0
            is_habit = usual in attempt.refused or self._rescued[registry] >= _ENOUGH
        if is_habit:
            self._remember(registry, attempt.form)

    def _form(self, registry: str) -> Form:
        with self._lock:
            return self._forms.get(registry, Form.WHOLE)

    def _remember(self, registry: str, form: Form) -> None:
        _LOG.info("%s: blobs are sent %s", registry, form.value)
        with self._lock:
            self._forms[registry] = form


def _opens_upload(repository: Reference, blob: Descriptor, answer: Answer) -> bool:
    """Say whether the answer to a mount names an upload; without one, a POST of its own begins it."""
    try:
        Session.opened(repository, blob, answer)
    except RegistryRefusedError as error:
        _LOG.info("%s: not mounted, and no upload opened: %s", repository.name, error.message)
        return False
    return True


def _may_be_the_form(error: RegistryError) -> bool:
    """Say whether the same bytes in another form may be taken. Errors without a status come from elsewhere."""
    if error.status == httpx.codes.NOT_FOUND:
        return error.code == "BLOB_UNKNOWN"  # Artifactory, to a PUT with a body (moby/buildkit#1130)
    return error.status >= httpx.codes.BAD_REQUEST and error.status not in _NOT_THE_FORM
