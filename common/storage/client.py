"""The S3 service: one call each, with errors that a person understands. The only module that knows boto3.

Whose service, which account: as every program of this kind is told (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of
the machine …). Calls are tried again here (`Patience`): boto3 gives up after seconds.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import random
import socket
import ssl
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from weakref import WeakSet

from urllib3.exceptions import HTTPError

from common.distribution import how_to_install
from common.errors import StorageError, StorageUnreachableError, UsageError
from common.interruption import on_stop, pause
from common.log import logger
from common.text import sanitize
from common.tls import client_context, trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from common.content import Chunk

# Waiting for object storage: a call whose trouble may pass is tried again, with growing pauses.
#
# A service that answered before comes back: an update or a failover takes minutes, and a night's work is not lost over it. One
# that never answered is more likely named wrongly, and that has to be said within seconds.

_LONG_S = 10.0  # a person who waits as long wants to know why


class Trouble(Exception):  # noqa: N818 - an error is what a person sees; this is one that may pass
    """Something that may go away. `error` is what to raise when it does not."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call is tried: `known_s` in all with a service that answered before, else `tries` times within `unknown_s`."""

    known_s: float = 600.0
    unknown_s: float = 15.0
    tries: int = 5
    first_s: float = 0.25
    most_s: float = 20.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = pause

    def tried(self, action: Callable[[], T], is_known: Callable[[], bool]) -> T:
        """Run `action` until it raises no Trouble. Raises the trouble's error when patience ends, InterruptedByUserError."""
        began, tries = self.clock(), 0
        while True:
            self.pause(0)  # whoever was told to stop begins nothing
            tries += 1
            try:
                return action()
            except Trouble as trouble:
                wait = self._wait(tries)
                spent = self.clock() - began + wait
                if spent > self.known_s if is_known() else tries >= self.tries or (tries > 1 and spent > self.unknown_s):
                    raise trouble.error from trouble.__cause__
                log = _LOG.warning if wait >= _LONG_S else _LOG.info
                log("trying again in %.1f s: %s", wait, trouble)
            self.pause(wait)

    def _wait(self, tries: int) -> float:
        """Return the pause after so many tries; half of it is chance, so that threads do not come back all at once."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(tries - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - no secret


# What S3 answers: the parts of it that are believed, and what went wrong, in words that say what to do next.
#
# Owns which trouble may pass (`Trouble`) and which is final. Knows no boto3: its errors come in as an argument.

ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_LATER = frozenset(  # with a status below 500
    {"SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling", "ThrottlingException", "TooManyRequests"}
    | {
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
    }
)
_LATER_STATUS = frozenset({408, 425, 429})
_NEVER_STATUS = frozenset({501, 505})  # it will not learn that by tomorrow
_SERVER_ERROR = 500
_MAX_TEXT = 300
_NEEDED = (
    "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts "
    "and s3:AbortMultipartUpload"
)
_DENIED = f"Allow the account {_NEEDED} (to read: the first and the fourth)."
_REACH = "Is AWS_ENDPOINT_URL right, and can this machine reach it? Run it again: it continues where it stopped."
_TRUST = "Name the CA of the service in AWS_CA_BUNDLE (a PEM file), and in AWS_ENDPOINT_URL the name in its certificate."
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
    """What is known of an object without reading it; `tag` changes when the object does."""

    size: int
    tag: str


class StartedUpload(NamedTuple):
    """An upload that somebody began, and did not end; `began`, with its zone, is None where the service does not say when."""

    name: str
    began: datetime | None


class StoredPart(NamedTuple):
    """A part that an upload has already; `tag` is the MD5 of its bytes in hex, where the service does not encrypt it."""

    size: int
    tag: str


def refused(subject: str, error: Any) -> StorageError:
    """Return the error for an answer that says no (botocore's ClientError). Raises Trouble when it may say yes later."""
    code, says = (sanitize(error.response.get("Error", {}).get(name), _MAX_TEXT) for name in ("Code", "Message"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{subject}: {error.operation_name}: HTTP {status} {code} ({says})"
    ours = StorageError(message, hint=_HINTS.get(code, ""), status=status, code=code)
    if code in _LATER or status in _LATER_STATUS or (status >= _SERVER_ERROR and status not in _NEVER_STATUS):
        raise Trouble(ours) from error
    return ours


def unreachable(subject: str, error: BaseException) -> StorageError:
    """Return the error for a connection that will never be made. Raises Trouble when it may."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return StorageUnreachableError(f"{subject}: {sanitize(str(error), _MAX_TEXT)}", hint=_TRUST)
    raise Trouble(StorageUnreachableError(f"{subject}: {sanitize(str(error), _MAX_TEXT)}", hint=_REACH)) from error


def not_asked(subject: str, why: object) -> StorageError:
    """Return the error for a call that this side could not make: it does not know as whom."""
    return StorageError(f"{subject}: {sanitize(str(why), _MAX_TEXT)}", hint=_WHO)


def nonsense(subject: str, why: object) -> StorageError:
    """Return the error for an answer that cannot be one."""
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


# The connections to object storage: answers that end, and calls that end as soon as the process is told to stop.
#
# boto3 reads whatever an answer has into memory before it looks at it, and a call that hangs is heard of after its
# timeout. Both
# are mended where it sends a request; nothing else reaches that deep into it.

_MAX_ANSWER = 4 * 1024 * 1024  # a thousand entries of a listing, with the longest of names, as they are written in a URL
_REFUSED = 300  # the first HTTP status that is no success


class Wire:
    """Sends requests in place of a client's own session."""

    def __init__(self, session: Any, errors: Any) -> None:
        self._session = session
        self._errors = errors
        self._lock = threading.RLock()  # the signal may come while this very thread holds it
        self._lines: WeakSet[Any] = WeakSet()

    @classmethod
    def put_into(cls, client: Any, errors: Any) -> None:
        """Let a boto3 client send its requests here."""
        wire = cls(client._endpoint.http_session, errors)  # noqa: SLF001 - there is no other way in
        wire._watch()
        wire._trust()
        client._endpoint.http_session = wire  # noqa: SLF001
        on_stop(wire.hang_up)

    def send(self, request: Any) -> Any:
        """Send a request; return the answer, read already where it is no stream. Raises StorageError for one without an end."""
        is_stream, request.stream_output = request.stream_output, True
        answer = self._session.send(request)
        if not is_stream or answer.status_code >= _REFUSED:
            answer.raw = _Content(self._whole(answer.raw))
        return answer

    def close(self) -> None:
        """Close what is idle."""
        self._session.close()

    def hang_up(self) -> None:
        """Break every connection: who waits for an answer on one hears at once that there is none."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            if line.sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(line.sock, socket.SHUT_RDWR)  # not that of TLS, which another thread is just using

    def _whole(self, raw: Any) -> bytes:
        content = bytearray()
        try:
            for piece in raw.stream():
                content += piece
                if len(content) > _MAX_ANSWER:
                    raw.close()
                    raise StorageError(f"the service answers with more than {_MAX_ANSWER} bytes, where there should be few")
        except (HTTPError, OSError) as error:
            raise self._errors.HTTPClientError(error=error) from error
        raw.release_conn()  # where there was nothing to read, nothing else does
        return bytes(content)

    def _trust(self) -> None:
        """Verify the service, and a proxy before it, as everything else is verified (common/tls.py)."""
        session = self._session
        trusting(session._manager.connection_pool_kw["ssl_context"])  # noqa: SLF001
        own, make = session._get_ssl_context, session._setup_proxy_ssl_context  # noqa: SLF001
        bundle = session._verify  # noqa: SLF001 - the path that AWS_CA_BUNDLE names; else True

        def for_proxy(url: str) -> ssl.SSLContext | None:
            context = make(url)  # None: urllib3 would make one, by the rules of this Python
            if context is None and url.startswith("https:"):
                context = client_context()
                if isinstance(bundle, str):
                    context.load_verify_locations(cafile=bundle)
            return context and trusting(context)

        session._get_ssl_context = lambda: trusting(own())  # noqa: SLF001
        session._setup_proxy_ssl_context = for_proxy  # noqa: SLF001

    def _watch(self) -> None:
        """Know of every connection that is made from now on."""
        session = self._session
        watched = {scheme: self._watched(pool) for scheme, pool in session._pool_classes_by_scheme.items()}  # noqa: SLF001
        session._pool_classes_by_scheme = watched  # noqa: SLF001 - for those through a proxy
        session._manager.pool_classes_by_scheme = watched  # noqa: SLF001

    def _watched(self, pool: Any) -> Any:
        """Return the class of a pool whose connections are known here."""
        kind = pool.ConnectionCls

        def connect(line: Any) -> None:
            with self._lock:
                self._lines.add(line)
            kind.connect(line)
            pause(0)  # told to stop while it was being made

        line = type(kind.__name__, (kind,), {"connect": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": line})


class _Content:
    """An answer that has been read."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


T = TypeVar("T")
_LOG = logger(__name__)
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_CONNECTIONS = 64
_MAX_PAGES = 1000  # of a listing, a thousand entries each
_MAX_NAMES = 64 * 1024 * 1024  # characters of all names in it
_MAX_FOUND = 10_000  # parts that an upload may have
_PARTS = {"PartNumberMarker": "NextPartNumberMarker"}


class Storage:
    """One S3 service, as one account. Used from many threads at once. Every call raises StorageError."""

    def __init__(self, client: Any, errors: Any, patience: Patience) -> None:
        self._client = client
        self._errors = errors
        self._patience = patience
        self._has_answered = False
        self._known: dict[tuple[str, str], Stat] = {}

    @classmethod
    def connect(cls, patience: Patience | None = None) -> Self:
        """Return the service that the environment names; contacts nothing yet. Raises UsageError."""
        try:
            boto3 = importlib.import_module("boto3")
            config, errors = importlib.import_module("botocore.config"), importlib.import_module("botocore.exceptions")
        except ImportError as error:
            raise UsageError(
                f"s3:// needs boto3, which is not installed ({error})",
                hint=f"{how_to_install('boto3')} A kit of the importer has no boto3: there, copy the files to a disk first.",
            ) from error
        told = config.Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            max_pool_connections=_CONNECTIONS,
            request_checksum_calculation="when_required",  # the others know nothing newer than Content-MD5
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.session.Session()
            client = session.client("s3", config=told, region_name=session.region_name or "us-east-1")
        except (errors.BotoCoreError, ValueError) as error:
            raise UsageError(f"s3://: {error}", hint="Look at the AWS_… variables, and at ~/.aws/config.") from error
        Wire.put_into(client, errors)
        return cls(client, errors, patience or Patience())

    def stat(self, bucket: str, key: str) -> Stat | None:
        """Return what is known of an object; None where there is none."""
        answer = self._asked("head_object", Bucket=bucket, Key=key)
        if answer is None:
            return None
        return Stat(number(f"s3://{bucket}/{key}", answer, "ContentLength"), str(answer.get("ETag", "")))

    def known(self, bucket: str, key: str) -> Stat | None:
        """Return what was known of an object when somebody first asked: who reads it piece by piece wants one version of it."""
        if (bucket, key) not in self._known:
            stat = self.stat(bucket, key)
            if stat is None:
                return None
            self._known[bucket, key] = stat
        return self._known[bucket, key]

    def read(self, bucket: str, key: str, start: int, end: int, tag: str) -> bytes:
        """Return bytes `start` to `end` of the object that has the `tag`: as many as there are."""
        return self._tried(lambda: self._read(bucket, key, start, end, tag))

    def _read(self, bucket: str, key: str, start: int, end: int, tag: str) -> bytes:
        """Ask once. Raises Trouble, also when the answer breaks off."""
        match = {"IfMatch": tag} if tag else {}
        answer = self._once("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **match)
        if tag and answer.get("ETag", tag) != tag:
            raise StorageError(f"s3://{bucket}/{key}: it is another object than before", hint=REPLACED)
        left, pieces = end - start, list[bytes]()
        try:
            with closing(answer["Body"]) as body:  # its own `with` gives the bare stream, which checks no length
                while left >= 0 and (piece := body.read(left + 1)):
                    left -= len(piece)
                    pieces.append(piece)
        except (self._errors.BotoCoreError, HTTPError, OSError) as error:
            raise unreachable(f"s3://{bucket}/{key}", error) from error
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
        self._call("put_object", Bucket=bucket, Key=key, Body=bytes(content), ContentMD5=_md5(content))

    def delete(self, bucket: str, key: str) -> None:
        """Take an object away; one that is not there is no error."""
        self._asked("delete_object", Bucket=bucket, Key=key)

    def begin(self, bucket: str, key: str) -> str:
        """Begin an upload in parts; return its name."""
        return text(f"s3://{bucket}/{key}", self._call("create_multipart_upload", Bucket=bucket, Key=key), "UploadId")

    def uploads(self, bucket: str, key: str) -> list[StartedUpload]:
        """Return the uploads that somebody began for a key and did not end, the latest first."""
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

    def parts(self, bucket: str, key: str, upload: str) -> dict[int, StoredPart] | None:
        """Return the parts that an upload has, by number from 1; None when there is no such upload any more."""
        subject, found = f"s3://{bucket}/{key}", dict[int, StoredPart]()
        try:
            for page in self._pages("list_parts", _PARTS, Bucket=bucket, Key=key, UploadId=upload):
                for one in page.get("Parts", ()):
                    part = StoredPart(number(subject, one, "Size"), tag(subject, one))
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
        listed = [{"PartNumber": number, "ETag": f'"{tags[number]}"'} for number in sorted(tags)]
        self._call("complete_multipart_upload", Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed})

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Give an upload up, and the room of its parts back."""
        self._asked("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    def _asked(self, operation: str, **said: Any) -> Any:
        """Return the answer; None where there is no such thing. A bucket that is not there is an error all the same."""
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
            if not following or following.items() <= said.items():
                raise nonsense(_subject(said), "a listing that has more and does not say where")
            said |= following
        raise _endless(_subject(said))

    def _call(self, operation: str, **said: Any) -> Any:
        return self._tried(lambda: self._once(operation, **said))

    def _tried(self, action: Callable[[], T]) -> T:
        try:
            return self._patience.tried(action, lambda: self._has_answered)
        except StorageUnreachableError:
            self._has_answered = False  # it was waited for once: the next who asks is told sooner
            raise

    def _once(self, operation: str, **said: Any) -> Any:
        """Ask once, and log it: never more of an answer than its status. Raises Trouble for what may pass."""
        subject, more = _subject(said), "".join(f" {name} {said[name]}" for name in ("Range", "PartNumber") if name in said)
        try:
            answer = self._sent(operation, subject, said)
        except (StorageError, Trouble) as error:
            _LOG.debug("%s%s: %s", operation, more, error.args[0])
            raise
        _LOG.debug("%s%s: %s: HTTP %s", operation, more, subject, answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        return answer

    def _sent(self, operation: str, subject: str, said: Mapping[str, Any]) -> Any:
        try:
            answer = getattr(self._client, operation)(**said)
        except self._errors.ClientError as error:
            refusal = refused(subject, error)
            self._has_answered = True
            raise refusal from error
        except self._errors.NoCredentialsError as error:
            raise not_asked(subject, "no credentials for S3 were found") from error
        except (self._errors.HTTPClientError, self._errors.ConnectionError, OSError) as error:
            raise unreachable(subject, error) from error
        except self._errors.BotoCoreError as error:
            raise not_asked(subject, error) from error
        except StorageError as error:  # what the wire refused to read
            raise StorageError(f"{subject}: {error.message}", hint=error.hint) from error
        except Exception as error:  # what boto3 meets in an answer that is none
            raise nonsense(subject, error) from error
        self._has_answered = True
        return answer


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
