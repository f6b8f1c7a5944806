"""The S3 service: one call each, with errors that a person understands. The only module that knows boto3.

Whose service, which account: as every program of this kind is told (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, a role of
the machine …). Calls are tried again here (`Patience`): boto3 gives up after seconds.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cache
from typing import Any, Self, TypeVar

from urllib3.exceptions import HTTPError

from common.content import Chunk
from common.errors import StorageError, StorageUnreachableError, UsageError
from common.log import logger
from common.optional import how_to_install
from common.storage import answers
from common.storage.answers import StartedUpload, Stat, StoredPart
from common.storage.patience import Patience, Trouble
from common.storage.wire import Wire

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
        return Stat(answers.number(f"s3://{bucket}/{key}", answer, "ContentLength"), str(answer.get("ETag", "")))

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
            raise StorageError(f"s3://{bucket}/{key}: it is another object than before", hint=answers.REPLACED)
        left, pieces = end - start, list[bytes]()
        try:
            with closing(answer["Body"]) as body:  # its own `with` gives the bare stream, which checks no length
                while left >= 0 and (piece := body.read(left + 1)):
                    left -= len(piece)
                    pieces.append(piece)
        except (self._errors.BotoCoreError, HTTPError, OSError) as error:
            raise answers.unreachable(f"s3://{bucket}/{key}", error) from error
        if left < 0:
            raise StorageError(f"s3://{bucket}/{key}: the service gives more than bytes {start} to {end}, which were asked for")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)  # mostly it comes in one, and is copied nowhere

    def below(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        """Give key and size of every object directly below a prefix, which ends with `/` or is empty."""
        subject, room = f"s3://{bucket}/{prefix}", _MAX_NAMES
        cursors = {"ContinuationToken": "NextContinuationToken"}
        for page in self._pages("list_objects_v2", cursors, Bucket=bucket, Prefix=prefix, Delimiter="/"):
            for one in page.get("Contents", ()):
                key = answers.text(subject, one, "Key")
                room -= len(key)
                if room < 0:
                    raise _endless(subject)
                yield key, answers.number(subject, one, "Size")

    def write(self, bucket: str, key: str, content: Chunk) -> None:
        """Make an object, whole or not at all, in place of one that is there."""
        self._call("put_object", Bucket=bucket, Key=key, Body=bytes(content), ContentMD5=_md5(content))

    def delete(self, bucket: str, key: str) -> None:
        """Take an object away; one that is not there is no error."""
        self._asked("delete_object", Bucket=bucket, Key=key)

    def begin(self, bucket: str, key: str) -> str:
        """Begin an upload in parts; return its name."""
        return answers.text(f"s3://{bucket}/{key}", self._call("create_multipart_upload", Bucket=bucket, Key=key), "UploadId")

    def uploads(self, bucket: str, key: str) -> list[StartedUpload]:
        """Return the uploads that somebody began for a key and did not end, the latest first."""
        subject, found = f"s3://{bucket}/{key}", []
        cursors = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        try:
            for page in self._pages("list_multipart_uploads", cursors, Bucket=bucket, Prefix=key):
                here = (one for one in page.get("Uploads", ()) if one.get("Key") == key)
                found += [
                    StartedUpload(answers.text(subject, one, "UploadId"), answers.moment(one, "Initiated")) for one in here
                ]
                _require_few(subject, len(found))
        except StorageError as error:
            if error.code not in answers.ABSENT:  # what some services say for: none at all
                raise
        return sorted(found, key=lambda each: str(each.began or ""), reverse=True)

    def parts(self, bucket: str, key: str, upload: str) -> dict[int, StoredPart] | None:
        """Return the parts that an upload has, by number from 1; None when there is no such upload any more."""
        subject, found = f"s3://{bucket}/{key}", dict[int, StoredPart]()
        try:
            for page in self._pages("list_parts", _PARTS, Bucket=bucket, Key=key, UploadId=upload):
                for one in page.get("Parts", ()):
                    part = StoredPart(answers.number(subject, one, "Size"), answers.tag(subject, one))
                    found[answers.number(subject, one, "PartNumber")] = part
                _require_few(subject, len(found))
        except StorageError as error:
            if error.code in answers.ABSENT:
                return None
            raise
        return found

    def write_part(self, bucket: str, key: str, upload: str, number: int, content: Chunk) -> str:
        """Send a part; the service compares its MD5. Return its tag."""
        said = {"Bucket": bucket, "Key": key, "UploadId": upload, "PartNumber": number, "ContentMD5": _md5(content)}
        return answers.tag(f"s3://{bucket}/{key}", self._call("upload_part", Body=bytes(content), **said))

    def complete(self, bucket: str, key: str, upload: str, tags: dict[int, str]) -> None:
        """Make the object out of its parts."""
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
            if error.code in answers.ABSENT:
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
                raise answers.nonsense(_subject(said), "a listing that has more and does not say where")
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
            refusal = answers.refused(subject, error)
            self._has_answered = True
            raise refusal from error
        except self._errors.NoCredentialsError as error:
            raise answers.not_asked(subject, "no credentials for S3 were found") from error
        except (self._errors.HTTPClientError, self._errors.ConnectionError, OSError) as error:
            raise answers.unreachable(subject, error) from error
        except self._errors.BotoCoreError as error:
            raise answers.not_asked(subject, error) from error
        except StorageError as error:  # what the wire refused to read
            raise StorageError(f"{subject}: {error.message}", hint=error.hint) from error
        except Exception as error:  # what boto3 meets in an answer that is none
            raise answers.nonsense(subject, error) from error
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
        raise answers.nonsense(subject, f"more than {_MAX_FOUND} parts or uploads")


def _md5(content: Chunk) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
