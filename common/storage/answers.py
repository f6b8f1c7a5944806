"""What S3 answers: the parts of it that are believed, and what went wrong, in words that say what to do next.

Owns which trouble may pass (`Trouble`) and which is final. Knows no boto3: its errors come in as an argument.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from common.errors import StorageError, StorageUnreachableError
from common.plain import plain
from common.storage.patience import Trouble

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
_REACH = "Is AWS_ENDPOINT_URL right, and can this machine reach it? Run it again: it goes on where it stopped."
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
    code, says = (plain(error.response.get("Error", {}).get(name), _MAX_TEXT) for name in ("Code", "Message"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{subject}: {error.operation_name}: HTTP {status} {code} ({says})"
    ours = StorageError(message, hint=_HINTS.get(code, ""), status=status, code=code)
    if code in _LATER or status in _LATER_STATUS or (status >= _SERVER_ERROR and status not in _NEVER_STATUS):
        raise Trouble(ours) from error
    return ours


def unreachable(subject: str, error: BaseException) -> StorageError:
    """Return the error for a connection that will never be made. Raises Trouble when it may."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return StorageUnreachableError(f"{subject}: {plain(str(error), _MAX_TEXT)}", hint=_TRUST)
    raise Trouble(StorageUnreachableError(f"{subject}: {plain(str(error), _MAX_TEXT)}", hint=_REACH)) from error


def not_asked(subject: str, why: object) -> StorageError:
    """Return the error for a call that this side could not make: it does not know as whom."""
    return StorageError(f"{subject}: {plain(str(why), _MAX_TEXT)}", hint=_WHO)


def nonsense(subject: str, why: object) -> StorageError:
    """Return the error for an answer that cannot be one."""
    return StorageError(f"{subject}: the service answers what makes no sense: {plain(str(why), _MAX_TEXT)}", hint=_SPEAKS)


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
