"""Files of credentials in the forms that users have: `auth.json`, `.dockercfg`, and a pull Secret of Kubernetes.

Forms: containers-auth.json(5); Secrets of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common.errors import UsageError
from common.serialization import DocumentError, decode_json, load_yaml_documents

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_FILE = 4 * 1024 * 1024
WANTED = 'Wanted: JSON as podman login writes it, {"auths": {"HOST": {"auth": "…"}}}.'
EXTRACT = "oc extract secret/NAME -n NAMESPACE --keys=.dockerconfigjson --to=-"
_AUTHS = "auths"
# Any of these in its value makes a top-level key a registry, as in .dockercfg (GoogleContainerTools/jib#2260).
_OF_ENTRY = frozenset({"auth", "username", "password", "identitytoken", "registrytoken"})
_OF_SECRET = (".dockerconfigjson", ".dockercfg")
_DOCUMENT = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class AuthDocument:
    """A file of credentials: `content` has the registries under `auths`; `form` is the one that it was written in."""

    content: dict[str, Any]
    form: Literal["auths", "dockercfg", "secret"]


def read_document(raw: bytes, where: str) -> AuthDocument:
    """Read a file of credentials; empty bytes are one without any. Raises UsageError, without text of the file."""
    text = _as_utf8(raw, where).strip()
    try:
        document = decode_json(text or b"{}", _DOCUMENT, where)
    except DocumentError:
        secrets = _secrets_in_yaml(text, where)
        if not secrets:
            raise
        return AuthDocument(_of_secrets(secrets, where), "secret")
    if secrets := list(_secrets(document)):
        return AuthDocument(_of_secrets(secrets, where), "secret")
    return _plain(document)


def _plain(document: dict[str, Any]) -> AuthDocument:
    registries = {key: value for key, value in document.items() if isinstance(value, dict) and not _OF_ENTRY.isdisjoint(value)}
    if document.get(_AUTHS) is not None or not registries:
        return AuthDocument(document, "auths")
    others = {key: value for key, value in document.items() if key not in registries}
    return AuthDocument({**others, _AUTHS: registries}, "dockercfg")


def _as_utf8(raw: bytes, where: str) -> bytes:
    """Return a text in UTF-8 without a byte order mark; Windows writes others (moby/moby#44790)."""
    if raw.startswith(codecs.BOM_UTF8):
        return raw[len(codecs.BOM_UTF8) :]
    if not raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw
    try:
        return raw.decode("utf-16").encode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: it begins as UTF-16, and is not: {error.reason}", hint=WANTED) from None


def _secrets_in_yaml(text: bytes, where: str) -> list[dict[str, Any]]:
    if text.startswith((b"{", b"[")):
        return []  # JSON with a fault, whose place is known
    try:
        return [secret for document in load_yaml_documents(text, where) for secret in _secrets(document)]
    except DocumentError:
        return []


def _secrets(document: Any) -> Iterator[dict[str, Any]]:
    """Give the Secrets of a document: one, a List of some, or only the `data` of one (`oc get -o jsonpath={.data}`)."""
    if not isinstance(document, dict):
        return
    if document.get("kind") == "Secret":
        yield document
    elif document.get("kind") in ("List", "SecretList") and isinstance(document.get("items"), list):
        yield from (one for one in document["items"] if isinstance(one, dict) and one.get("kind", "Secret") == "Secret")
    elif any(isinstance(document.get(key), str) for key in _OF_SECRET):
        yield {"data": document}


def _of_secrets(secrets: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """Return the content of the only Secret with credentials of registries."""
    found = [raw for secret in secrets if (raw := _packed(secret, where)) is not None]
    if len(found) != 1:
        count = f"{len(found)} Secrets with" if found else "a Secret without"
        raise UsageError(
            f"{where}: {count} credentials of registries (.dockerconfigjson)", hint=f"Name a file made with: {EXTRACT}"
        )
    return _plain(decode_json(_as_utf8(found[0], where).strip() or b"{}", _DOCUMENT, f"{where}: {_OF_SECRET[0]}")).content


def _packed(secret: Mapping[str, Any], where: str) -> bytes | None:
    """Return what a Secret holds; None where that is not credentials of registries."""
    for key in _OF_SECRET:
        for field in ("stringData", "data"):  # stringData overrides data (Kubernetes, Secret v1 core)
            fields = secret.get(field)
            value = fields.get(key) if isinstance(fields, Mapping) else None
            if isinstance(value, str):
                return value.encode() if field == "stringData" else _decoded(value, f"{where}: data[{key!r}]")
    return None


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"{where}: it is not base64", hint=f"Name a file made with: {EXTRACT}") from None
