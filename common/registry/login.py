"""Logging in: credentials that a registry has taken, written where podman, skopeo, oc and docker find them.

The file is replaced as a whole, mode 0600; what else is in it stays, fields that we do not know included
(containers-auth.json(5)). Where it names a credential helper, the secret goes there instead.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import AuthenticationError, CredentialsRefusedError, UsageError
from common.files import scratch_directory, write_atomic, writing
from common.oci.reference import Reference, split_registry
from common.registry.auth_file import EXTRACT, MAX_FILE, AuthDocument, read_document
from common.registry.client import RegistryClient
from common.registry.credentials import Credential, canonical, is_same_place, run_helper, runtime_file, store_key
from common.serialization import pretty_json

if TYPE_CHECKING:
    from common.registry.settings import RegistrySettings


_LEGACY_NAME = ".dockercfg"
_REPOSITORY = "hub-airgap-login"  # the name of one that need not exist


def login(settings: RegistrySettings, place: str, credential: Credential) -> str:
    """Check a credential with the registry of `place` (`HOST[:PORT][/NAMESPACE]`), keep it, and return where.

    Raises UsageError for a place or a file that makes no sense, AuthenticationError when the registry refuses, and
    RegistryUnreachableError; then nothing is written.
    """
    host, namespace = split_registry(place, "NAMESPACE", "registry.example:5000")
    host = canonical(host)
    place = f"{host}/{namespace}" if namespace else host
    path = login_file(settings)
    read = _read(path)  # before the registry is asked: a file that cannot be read cannot keep a login
    _check(settings, host, namespace, credential)
    helper = _helper(read.content, place)
    if helper is not None:
        name, key = helper
        _store(name, key, credential, settings)
        return f"docker-credential-{name}"
    read.content["auths"][place] = {"auth": credential.basic}
    _write(path, _as_kept(read, path))
    return str(path)


def login_file(settings: RegistrySettings) -> Path:
    """Return the file that a login goes into, as podman chooses it."""
    if settings.authfile is not None:
        return settings.authfile
    named = settings.environ.get("REGISTRY_AUTH_FILE")
    return Path(named) if named else runtime_file(settings)


def _check(settings: RegistrySettings, host: str, namespace: str, credential: Credential) -> None:
    """Ask the registry with exactly this credential: a file that holds nothing else."""
    with scratch_directory("hub-login-") as folder:
        alone = folder / "auth.json"
        _write(alone, {"auths": {host: {"auth": credential.basic}}})
        environ = {name: value for name, value in settings.environ.items() if name != "REGISTRY_AUTH_FILE"}
        with RegistryClient(replace(settings, authfile=alone, environ=environ)) as client:
            try:
                client.ping(host)
            except CredentialsRefusedError:
                raise
            except AuthenticationError:
                # An account for a namespace may be refused at `/v2/`, which names none (quay/quay, endpoints/v2).
                if not namespace:
                    raise
                client.require_account(Reference(host, f"{namespace}/{_REPOSITORY}"))


def _as_kept(read: AuthDocument, path: Path) -> dict[str, Any]:
    """Return a document in the form that its readers understand."""
    # The old form has the registries at the top. Docker reads it alone in a file of this name, podman in no other.
    if read.form != "dockercfg" or path.name != _LEGACY_NAME:
        return read.content
    others = {key: value for key, value in read.content.items() if key != "auths"}
    return {**others, **read.content["auths"]}


def _read(path: Path) -> AuthDocument:
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_FILE else b"too large"
    except FileNotFoundError:
        return AuthDocument({"auths": {}}, "auths")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="Name another with --authfile.") from error
    try:
        read = read_document(raw, str(path))
    except UsageError as error:
        raise UsageError(error.message, hint=error.hint or "Correct it, or name another with --authfile.") from error
    if read.form == "secret":
        raise UsageError(f"{path}: a Secret, into which no login is written", hint=f"Name a file made with: {EXTRACT}")
    document = read.content
    if document.get("auths") is None:
        document["auths"] = {}
    if not isinstance(document["auths"], dict):
        raise UsageError(f"{path}: auths is no object", hint="Correct it, or name another with --authfile.")
    return read


def _helper(document: dict[str, Any], place: str) -> tuple[str, str] | None:
    """Return the credential helper that the file names for `place`, and its name there; none for a namespace.

    Helpers know hosts only, see containers-auth.json(5): what a helper kept under a namespace would never be found again.
    """
    if "/" in place:
        return None
    helpers, store = document.get("credHelpers"), document.get("credsStore")
    for key, named in helpers.items() if isinstance(helpers, dict) else ():
        if is_same_place(key, place) and isinstance(named, str) and named:
            return named, key
    return (store, store_key(place)) if isinstance(store, str) and store else None


def _store(helper: str, place: str, credential: Credential, settings: RegistrySettings) -> None:
    secret = {"ServerURL": place, "Username": credential.username, "Secret": credential.password}
    done = run_helper(helper, "store", msgspec.json.encode(secret).decode(), place, settings.environ)
    if done.returncode:
        raise UsageError(
            f"docker-credential-{helper} does not keep the login of {place} (exit status {done.returncode})",
            hint="Try it by hand, or name a file without helpers with --authfile.",
        )


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write the file; where it is a link, the file it leads to."""
    target = Path(os.path.realpath(path))
    with writing(path, "Name another with --authfile."):
        with suppress(FileExistsError):
            target.parent.mkdir(mode=0o700, parents=True)
        write_atomic(target, pretty_json(document), 0o600)
