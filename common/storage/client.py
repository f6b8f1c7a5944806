"""Client of an S3 service: one method for each call, with errors that a person understands. The only module that knows boto3.

Service and account come from boto3's own configuration (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of the
machine …). Calls are retried here, since boto3 gives up after seconds (ADR 0035).
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import logging
import ssl
import threading
import time
from concurrent.futures import Future, wait
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from urllib3.exceptions import HTTPError

from common.distribution import how_to_install
from common.errors import StorageError, StorageUnreachableError, UsageError
from common.interruption import pause
from common.retry import RetryableError, RetryPolicy, retry
from common.storage.trust import Identity
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from common.content import Chunk


# How long a call is retried. A service that answered before returns: an update or a failover takes minutes, and a night's work
# is not lost over it. One that never answered is more likely named wrongly, which a person has to learn within seconds.
KNOWN = RetryPolicy(within_s=600.0, first_s=0.25, longest_s=20.0)
UNKNOWN = RetryPolicy(tries=5, within_s=15.0, first_s=0.25, longest_s=20.0)

# Answers of S3: the fields that are used, and errors with advice. A failure that may pass is a `RetryableError`.

# HEAD has no body, so its 404 has no code; NoSuchUpload is the answer for one that was completed meanwhile.
ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_LATER = frozenset(  # codes of AWS for throttling, some of them with a status below 500
    {"SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling", "ThrottlingException", "TooManyRequests"}
    | {
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
    }
)
_LATER_STATUS = frozenset({408, 425, 429})  # Request Timeout, Too Early, Too Many Requests (RFC 9110, 8470, 6585)
_NEVER_STATUS = frozenset({501, 505})  # not implemented: a retry changes nothing
_SERVER_ERROR = 500
_MAX_TEXT = 300  # characters of a foreign message
_NEEDED = (
    "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts "
    "and s3:AbortMultipartUpload"
)
_DENIED = f"Allow the account {_NEEDED} (to read: the first and the fourth)."
_REACH = "Is AWS_ENDPOINT_URL right, and can this machine reach it? Run it again: it continues where it stopped."
_WHO = "Look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and at the clock of this machine."
_SPEAKS = "Does it speak S3? Look at AWS_ENDPOINT_URL, and for a proxy in between."
REPLACED = "Something replaced it meanwhile: run the same command again."
_HINTS = {
    "NoSuchBucket": "Make the bucket first, and look at AWS_ENDPOINT_URL: is it the right service?",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": _WHO,
    "SignatureDoesNotMatch": _WHO,
    "ExpiredToken": _WHO,
    "RequestTimeTooSkewed": _WHO,
    "412": REPLACED,
    "PreconditionFailed": REPLACED,
}


class Stat(NamedTuple):
    """Size and ETag of an object; the tag changes when the object does."""

    size: int
    tag: str


class StartedUpload(NamedTuple):
    """An upload in parts that was begun and not completed; `began` is None where the service gives no time with a zone."""

    name: str
    began: datetime | None


class UploadedPart(NamedTuple):
    """A part that an upload has already; `tag` is the MD5 of its bytes in hex, where the service does not encrypt it."""

    size: int
    tag: str


def refused(subject: str, error: Any) -> StorageError:
    """Return the error for a refusal (botocore's ClientError). Raises RetryableError when it may pass."""
    code, says = (sanitize(error.response.get("Error", {}).get(name), _MAX_TEXT) for name in ("Code", "Message"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{subject}: {error.operation_name}: HTTP {status} {code} ({says})"
    failure = StorageError(message, hint=_HINTS.get(code, ""), status=status, code=code)
    if code in _LATER or status in _LATER_STATUS or (status >= _SERVER_ERROR and status not in _NEVER_STATUS):
        raise RetryableError(failure) from error
    return failure


def unreachable(subject: str, error: BaseException, identity: Identity | None) -> StorageError:
    """Return the error for a connection that cannot be made. Raises RetryableError when it may be made later."""
    # A wrong certificate is still wrong some minutes later; all other failures of a connection may pass.
    refusal = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if refusal is not None and identity is not None:
        return identity.untrusted(subject, refusal)
    raise RetryableError(StorageUnreachableError(f"{subject}: {sanitize(str(error), _MAX_TEXT)}", hint=_REACH)) from error


def not_asked(subject: str, why: object) -> StorageError:
    """Return the error for a call that could not be sent, for want of an account."""
    return StorageError(f"{subject}: {sanitize(str(why), _MAX_TEXT)}", hint=_WHO)


def nonsense(subject: str, why: object) -> StorageError:
    """Return the error for an answer that is not one of S3."""
    return StorageError(f"{subject}: the service answers what makes no sense: {sanitize(str(why), _MAX_TEXT)}", hint=_SPEAKS)


def text(subject: str, answer: Mapping[str, Any], name: str) -> str:
    """Return a text that an answer must have. Raises StorageError."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise nonsense(subject, f"it lacks {name}")
    return value


def number(subject: str, answer: Mapping[str, Any], name: str) -> int:
    """Return a number, from 0 on, that an answer must have. Raises StorageError."""
    value = answer.get(name)
    if not isinstance(value, int) or value < 0:
        raise nonsense(subject, f"it lacks {name}" if value is None else f"{name} is {value!r}")
    return value


def moment(answer: Mapping[str, Any], name: str) -> datetime | None:
    """Return a moment of an answer; None where it has none, or does not say in which zone."""
    value = answer.get(name)
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


def tag(subject: str, answer: Mapping[str, Any]) -> str:
    """Return the tag of a part, without its quotes. Raises StorageError."""
    return text(subject, answer, "ETag").strip('"')


def _causes(error: BaseException | None, depth: int = 0) -> Iterator[BaseException]:
    """Give an error and everything it wraps: botocore hides it in `kwargs`, urllib3 in `reason` and `args`."""
    if error is None or depth > 8:  # noqa: PLR2004 - deeper than any wrapping, and an end for a cycle
        return
    yield error
    kept = getattr(error, "kwargs", None)
    wrapped: list[Any] = [error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
    wrapped += list(kept.values()) if isinstance(kept, dict) else []
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner, depth + 1)


T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
# For one request in all: the timeouts of botocore bound silence alone, and a byte a minute is none. Amazon S3 keeps the answer
# to a CompleteMultipartUpload alive with blanks for minutes (its API reference). A second more for each 16 KiB to and fro.
CALL_S = 600.0
_SLOWEST = 16 * 1024
_STOP_STEP_S = 0.1  # how long a stop may go unnoticed while a call is waited for
_CONNECTIONS = 64  # jobs of a command, and one for each that reads ahead
_MAX_PAGES = 1000  # of a listing, a thousand entries each
_MAX_NAMES = 64 * 1024 * 1024  # characters of all names in it
_MAX_FOUND = 10_000  # parts that an upload may have
_PARTS = {"PartNumberMarker": "NextPartNumberMarker"}


class Storage:
    """One S3 service, as one account. Thread-safe. Every call raises StorageError.

    `known` is the retry policy once the service has answered, `unknown` bounds it before. `identity` is its
    certificate, where that is checked. `call_s` bounds one request. `sleep` and `clock` are replaced in tests.
    """

    def __init__(
        self,
        client: Any,
        errors: Any,
        *,
        known: RetryPolicy = KNOWN,
        unknown: RetryPolicy = UNKNOWN,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        identity: Identity | None = None,
        call_s: float = CALL_S,
    ) -> None:
        self._call_s = call_s
        self._identity = identity
        self._client = client
        self._errors = errors
        self._policy = known
        self._unknown = unknown
        self._sleep = sleep
        self._clock = clock
        self._has_answered = False
        self._known: dict[tuple[str, str], Stat] = {}

    @classmethod
    def connect(cls, *, known: RetryPolicy = KNOWN, unknown: RetryPolicy = UNKNOWN, call_s: float = CALL_S) -> Self:
        """Return the service that the environment names; contacts nothing yet. Raises UsageError."""
        try:
            boto3, botocore = importlib.import_module("boto3"), importlib.import_module("botocore.session")
            config, errors = importlib.import_module("botocore.config"), importlib.import_module("botocore.exceptions")
        except ImportError as error:
            raise UsageError(
                f"s3:// needs boto3, which is not installed ({error})",
                hint=f"{how_to_install('boto3')} A kit of the importer has no boto3: there, copy the files to a disk first.",
            ) from error
        try:
            core = botocore.get_session()
            session = boto3.session.Session(botocore_session=core)
            # Without this, botocore verifies an HTTPS proxy by the system's authorities alone.
            bundle = core.get_config_variable("ca_bundle")
            settings = config.Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=_CONNECTIONS,
                request_checksum_calculation="when_required",  # services other than AWS know nothing newer than Content-MD5
                response_checksum_validation="when_required",
                proxies_config={"proxy_ca_bundle": bundle} if bundle else None,
            )
            client = session.client("s3", config=settings, region_name=session.region_name or "us-east-1")
        except (errors.BotoCoreError, ValueError) as error:
            raise UsageError(f"s3://: {error}", hint="Look at the AWS_… variables, and at ~/.aws/config.") from error
        identity = Identity(str(client.meta.endpoint_url), Path(bundle) if bundle else None)
        return cls(client, errors, known=known, unknown=unknown, identity=identity, call_s=call_s)

    def stat(self, bucket: str, key: str) -> Stat | None:
        """Return size and tag of an object; None where there is none."""
        answer = self._asked("head_object", Bucket=bucket, Key=key)
        if answer is None:
            return None
        return Stat(number(f"s3://{bucket}/{key}", answer, "ContentLength"), str(answer.get("ETag", "")))

    def known(self, bucket: str, key: str) -> Stat | None:
        """Return size and tag as of the first call in this process: a reader of ranges needs them all of one version."""
        if (bucket, key) not in self._known:
            stat = self.stat(bucket, key)
            if stat is None:
                return None
            self._known[bucket, key] = stat
        return self._known[bucket, key]

    def read(self, bucket: str, key: str, start: int, end: int, tag: str) -> bytes:
        """Return bytes `start` to `end` of the object that has the `tag`: as many as there are."""
        return self._tried(f"s3://{bucket}/{key}", end - start, lambda: self._read(bucket, key, start, end, tag))

    def _read(self, bucket: str, key: str, start: int, end: int, tag: str) -> bytes:
        """Send one request. Raises RetryableError, also when the answer breaks off."""
        # Some services ignore If-Match, so the tag of the answer is compared too.
        match = {"IfMatch": tag} if tag else {}
        answer = self._once("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **match)
        left, pieces = end - start, list[bytes]()
        try:
            with closing(answer["Body"]) as body:  # its own `with` gives the bare stream, which checks no length
                if tag and answer.get("ETag", tag) != tag:
                    raise StorageError(f"s3://{bucket}/{key}: it is another object than before", hint=REPLACED)
                # One byte more than requested, so that a service that sends more is noticed.
                while left >= 0 and (piece := body.read(left + 1)):
                    left -= len(piece)
                    pieces.append(piece)
        except (self._errors.BotoCoreError, HTTPError, OSError) as error:
            raise unreachable(f"s3://{bucket}/{key}", error, self._identity) from error
        if left < 0:
            raise StorageError(f"s3://{bucket}/{key}: the service gives more than bytes {start} to {end}, which were asked for")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)  # mostly it comes in one, and is copied nowhere

    def below(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        """Give key and size of every object directly below a prefix, which ends with `/` or is empty."""
        subject, room = f"s3://{bucket}/{prefix}", _MAX_NAMES
        cursors = {"ContinuationToken": "NextContinuationToken"}
        for page in self._pages("list_objects_v2", cursors, Bucket=bucket, Prefix=prefix, Delimiter="/"):
            for one in page.get("Contents", ()):
                key = text(subject, one, "Key")
                room -= len(key)
                if room < 0:
                    raise _endless(subject)
                yield key, number(subject, one, "Size")

    def write(self, bucket: str, key: str, content: Chunk) -> None:
        """Make an object, whole or not at all, in place of one that is there."""
        self._known.pop((bucket, key), None)  # only a replacement by another process is an error for readers
        # Content-MD5 is the one checksum that every service verifies; newer ones are not sent (`when_required`).
        self._call("put_object", Bucket=bucket, Key=key, Body=bytes(content), ContentMD5=_md5(content))

    def delete(self, bucket: str, key: str) -> None:
        """Take an object away; one that is not there is no error."""
        self._asked("delete_object", Bucket=bucket, Key=key)

    def begin(self, bucket: str, key: str) -> str:
        """Begin an upload in parts; return its name."""
        return text(f"s3://{bucket}/{key}", self._call("create_multipart_upload", Bucket=bucket, Key=key), "UploadId")

    def uploads(self, bucket: str, key: str) -> list[StartedUpload]:
        """Return the uploads of a key that were begun and not completed, the latest first."""
        subject, found = f"s3://{bucket}/{key}", []
        cursors = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        try:
            for page in self._pages("list_multipart_uploads", cursors, Bucket=bucket, Prefix=key):
                here = (one for one in page.get("Uploads", ()) if one.get("Key") == key)
                found += [StartedUpload(text(subject, one, "UploadId"), moment(one, "Initiated")) for one in here]
                _require_few(subject, len(found))
        except StorageError as error:
            if error.code not in ABSENT:  # what some services say for: none at all
                raise
        return sorted(found, key=lambda each: str(each.began or ""), reverse=True)

    def parts(self, bucket: str, key: str, upload: str) -> dict[int, UploadedPart] | None:
        """Return the parts that an upload has, by number from 1; None when there is no such upload any more."""
        subject, found = f"s3://{bucket}/{key}", dict[int, UploadedPart]()
        try:
            for page in self._pages("list_parts", _PARTS, Bucket=bucket, Key=key, UploadId=upload):
                for one in page.get("Parts", ()):
                    part = UploadedPart(number(subject, one, "Size"), tag(subject, one))
                    found[number(subject, one, "PartNumber")] = part
                _require_few(subject, len(found))
        except StorageError as error:
            if error.code in ABSENT:
                return None
            raise
        return found

    def write_part(self, bucket: str, key: str, upload: str, number: int, content: Chunk) -> str:
        """Send a part; the service compares its MD5. Return its tag."""
        said = {"Bucket": bucket, "Key": key, "UploadId": upload, "PartNumber": number, "ContentMD5": _md5(content)}
        return tag(f"s3://{bucket}/{key}", self._call("upload_part", Body=bytes(content), **said))

    def complete(self, bucket: str, key: str, upload: str, tags: dict[int, str]) -> None:
        """Make the object out of its parts."""
        self._known.pop((bucket, key), None)
        # CompleteMultipartUpload requires parts in ascending order (InvalidPartOrder).
        listed = [{"PartNumber": number, "ETag": f'"{tags[number]}"'} for number in sorted(tags)]
        self._call("complete_multipart_upload", Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed})

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Give an upload up, and the room of its parts back."""
        self._asked("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    def _asked(self, operation: str, **said: Any) -> Any:
        """Return the answer; None where the object or upload does not exist. A missing bucket is an error nevertheless."""
        try:
            return self._call(operation, **said)
        except StorageError as error:
            if error.code in ABSENT:
                return None
            raise

    def _pages(self, operation: str, cursors: Mapping[str, str], **said: Any) -> Iterator[Any]:
        """Give every page of a listing; `cursors`: under which name is asked for what a page says of the next one."""
        for _ in range(_MAX_PAGES):
            page = self._call(operation, **said)
            yield page
            if not page.get("IsTruncated"):
                return
            following = {asked: page[told] for asked, told in cursors.items() if page.get(told)}
            # The same cursor again would be a listing without end.
            if not following or following.items() <= said.items():
                raise nonsense(_subject(said), "a listing that has more and does not say where")
            said |= following
        raise _endless(_subject(said))

    def _call(self, operation: str, **said: Any) -> Any:
        return self._tried(_subject(said), len(said.get("Body", b"")), lambda: self._once(operation, **said))

    def _tried(self, subject: str, size: int, action: Callable[[], T]) -> T:
        """Return the result of a request about `size` bytes."""

        def in_time() -> T:
            try:
                return _stoppable(action, self._call_s + size / _SLOWEST)
            except _EndlessError as error:
                raise unreachable(subject, error, None) from error

        try:
            return retry(lambda: self._bounded(in_time), self._policy, sleep=self._sleep, clock=self._clock)
        except StorageUnreachableError:
            self._has_answered = False  # the outage was waited for once: the next call fails sooner
            raise

    def _bounded(self, action: Callable[[], T]) -> T:
        """Run a call. Raises RetryableError, with the bounds for a service that never answered where that is the case."""
        try:
            return action()
        except RetryableError as failure:
            if self._has_answered:
                raise
            bounds = self._unknown
            raise RetryableError(failure.error, bounds.tries, within_s=bounds.within_s) from failure.__cause__

    def _once(self, operation: str, **said: Any) -> Any:
        """Send one request, and log it: of an answer only its status, since bodies and headers may hold secrets."""
        subject, more = _subject(said), "".join(f" {name} {said[name]}" for name in ("Range", "PartNumber") if name in said)
        try:
            answer = self._sent(operation, subject, said)
        except (StorageError, RetryableError) as error:
            _LOG.debug("%s%s: %s", operation, more, error.args[0])
            raise
        _LOG.debug("%s%s: %s: HTTP %s", operation, more, subject, answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        return answer

    def _sent(self, operation: str, subject: str, said: Mapping[str, Any]) -> Any:
        if self._identity:
            self._identity.require_names(subject)  # before the first request; its answer is kept
        try:
            answer = getattr(self._client, operation)(**said)
        except self._errors.ClientError as error:
            refusal = refused(subject, error)
            # A refusal is an answer: the address is right, and a later outage is worth waiting for.
            self._has_answered = True
            raise refusal from error
        except self._errors.NoCredentialsError as error:
            raise not_asked(subject, "no credentials for S3 were found") from error
        except (self._errors.HTTPClientError, self._errors.ConnectionError, OSError) as error:
            raise unreachable(subject, error, self._identity) from error
        except self._errors.BotoCoreError as error:
            raise not_asked(subject, error) from error
        except Exception as error:  # botocore raises KeyError, ParserError and others for an answer that is not one of S3
            raise nonsense(subject, error) from error
        self._has_answered = True
        return answer


class _EndlessError(TimeoutError):
    """A request that takes too long in all."""


def _stoppable(action: Callable[[], T], within_s: float) -> T:
    """Return the result of `action`. Raises InterruptedByUserError within moments when the process is stopped, _EndlessError.

    boto3 has no way to end a call that hangs before its timeout of a minute, and none to bound one whose bytes drip: its
    connections are made by private classes. So the call runs in a thread of its own, which is abandoned then: as a daemon it
    does not keep the process alive. The retries of a call bound how many are left behind.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is taken
            outcome.set_exception(error)

    pause(0)  # raises when the process is stopped already: no call begins after that
    threading.Thread(target=run, name="s3-call", daemon=True).start()
    until_s = time.monotonic() + within_s
    while not wait((outcome,), min(_STOP_STEP_S, within_s)).done:
        pause(0)
        if time.monotonic() > until_s:
            raise _EndlessError(f"the answer does not end in {within_s:.0f} s")
    return outcome.result()


@cache
def service() -> Storage:
    """Return the one service of this process. Raises UsageError."""
    return Storage.connect()


def _subject(said: Mapping[str, Any]) -> str:
    return f"s3://{said['Bucket']}/{said.get('Key', said.get('Prefix', ''))}"


def _endless(subject: str) -> StorageError:
    return StorageError(f"{subject}: more than a million objects", hint="Name a prefix for the archive alone.")


def _require_few(subject: str, count: int) -> None:
    """Raise StorageError for more parts, or uploads of a key, than there can be."""
    if count > _MAX_FOUND:
        raise nonsense(subject, f"more than {_MAX_FOUND} parts or uploads")


def _md5(content: Chunk) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
