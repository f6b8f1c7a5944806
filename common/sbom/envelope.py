"""The document inside of what a registry has for an SBOM: a DSSE envelope, a Sigstore bundle, an in-toto statement, or itself.

Sources: secure-systems-lab/dsse, envelope.md; in-toto/attestation, spec/v1; sigstore/cosign, specs/BUNDLE_SPEC.md and
pkg/cosign/attestation/attestation.go. No signature is verified here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from common.decoding import UNDECODABLE
from common.errors import ContentError
from common.oci.image import Digest
from common.serialization import is_json, without_mark

MAX_SUBJECTS = 1_000  # of one statement
MAX_SUBJECTS_SIZE = 1024 * 1024  # bytes of them
ABSENT = msgspec.Raw()  # of values that are decoded later, or never: msgspec has no union of Raw with None
STATEMENT = "application/vnd.in-toto+json"
# Predicate types of SPDX and CycloneDX, with the versions and paths that cosign, BuildKit and Trivy append.
_PREDICATES = ("https://spdx.dev/Document", "https://cyclonedx.org/bom", "https://cyclonedx.org/schema")
_HEX = re.compile(r"[0-9a-f]{64}")


def is_given(raw: msgspec.Raw) -> bool:
    """Say whether there is a value; null is none."""
    return memoryview(raw)[:5].tobytes() not in {b"", b"null"}


class _Envelope(msgspec.Struct, rename="camel"):
    """A DSSE envelope, or a Sigstore bundle with one; documents of other kinds have none of the fields."""

    payload: msgspec.Raw = ABSENT
    payload_type: str | None = None
    dsse_envelope: _Envelope | None = None


class _Statement(msgspec.Struct, rename="camel"):
    """An in-toto statement. The predicate is decoded when its type is one of an SBOM."""

    type: str | None = msgspec.field(default=None, name="_type")
    predicate_type: str | None = None
    predicate: msgspec.Raw = ABSENT
    subject: msgspec.Raw = ABSENT


class _Subject(msgspec.Struct):
    digest: dict[str, str] | None = None


class _CosignPredicate(msgspec.Struct):
    """The predicate of cosign 1.x: the document is in `Data`, as text or as a value."""

    data: msgspec.Raw = msgspec.field(default=ABSENT, name="Data")


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_STATEMENT = msgspec.json.Decoder(_Statement)
_SUBJECTS = msgspec.json.Decoder(list[_Subject])
_COSIGN = msgspec.json.Decoder(_CosignPredicate)
_BYTES = msgspec.json.Decoder(bytes)
_TEXT = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Opened:
    """A document, and the digests of the images that its statement is about; None for a document without a statement."""

    document: bytes
    subjects: frozenset[Digest] | None


def is_predicate(kind: str) -> bool:
    """Say whether a predicate type is one of an SBOM."""
    return kind.startswith(_PREDICATES)


def unwrapped(raw: bytes) -> Opened | None:
    """Return the document inside; None for a statement of another kind, such as the provenance of a build.

    Raises ContentError for an envelope without a statement, and for a broken one.
    """
    try:
        raw = without_mark(raw)  # files of Windows have a mark, or are UTF-16
        return _unwrapped(raw) if is_json(raw) else Opened(raw, None)
    except UNDECODABLE as error:
        raise ContentError(f"not JSON as an SBOM has it: {error}") from error


def _unwrapped(raw: bytes) -> Opened | None:
    envelope = _ENVELOPE.decode(raw)
    envelope = envelope.dsse_envelope or envelope
    if is_given(envelope.payload):
        # An envelope may carry any type of payload (DSSE, *payloadType*).
        if (envelope.payload_type or "").partition(";")[0].strip() != STATEMENT:
            return None
        raw = _payload(envelope.payload)
    statement = _STATEMENT.decode(raw)
    if statement.predicate_type is None:
        if is_given(envelope.payload):
            raise ContentError("its envelope has no in-toto statement")
        return Opened(raw, None)
    if not is_predicate(statement.predicate_type):
        return None
    if not is_given(statement.predicate):
        raise ContentError("its in-toto statement has no predicate")
    return Opened(_document(bytes(statement.predicate)), _subjects(statement.subject))


def _payload(raw: msgspec.Raw) -> bytes:
    """Return the payload of an envelope, in either alphabet of base64 (DSSE, *Parameters*)."""
    # msgspec knows the standard alphabet alone; DSSE allows the one of URLs too.
    try:
        return _BYTES.decode(raw)
    except msgspec.ValidationError:
        return _BYTES.decode(bytes(raw).translate(bytes.maketrans(b"-_", b"+/")))


def _document(predicate: bytes) -> bytes:
    """Return the SBOM of a predicate: cosign has it as text for tag-value, and older versions have it in `Data`."""
    if predicate[:1] == b"{" and b'"Data"' in predicate[:4096]:
        data = _COSIGN.decode(predicate).data
        predicate = bytes(data) if is_given(data) else predicate
    return _TEXT.decode(predicate).encode() if predicate[:1] == b'"' else predicate


def _subjects(raw: msgspec.Raw) -> frozenset[Digest]:
    # Without a subject a statement is about no image, and is not used.
    if not is_given(raw):
        return frozenset()
    text = bytes(raw)
    if text.count(b"{") > 2 * MAX_SUBJECTS:
        raise ContentError(f"its in-toto statement has more than {MAX_SUBJECTS} subjects")
    if len(text) > MAX_SUBJECTS_SIZE:  # a subject may have any number of digests
        raise ContentError(f"the subjects of its in-toto statement have {len(text)} bytes; the limit is {MAX_SUBJECTS_SIZE}")
    # Other algorithms are passed over: manifests of images are addressed by SHA-256.
    hexes = {(subject.digest or {}).get("sha256", "") for subject in _SUBJECTS.decode(text)}
    return frozenset(Digest(f"sha256:{each}") for each in hexes if _HEX.fullmatch(each))
