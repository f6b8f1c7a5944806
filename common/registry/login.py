"""Logging in: credentials that a registry has taken, written where podman, skopeo, oc and docker find them.

The file is replaced as a whole, mode 0600; what else is in it stays, fields that we do not know included
(containers-auth.json(5)). Where it names a credential helper, the secret goes there instead.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import UsageError
from common.files import write_atomic
from common.oci.reference import split_registry
from common.registry.client import RegistryClient
from common.registry.credentials import MAX_FILE, Credential, run_helper, runtime_file
from common.serialization import UNDECODABLE, pretty_json

if TYPE_CHECKING:
    from common.registry.settings import RegistrySettings


def login(settings: RegistrySettings, place: str, credential: Credential) -> str:
    """Check a credential with the registry of `place` (`HOST[:PORT][/NAMESPACE]`), keep it, and return where.

    Raises UsageError for a place or a file that makes no sense, AuthenticationError when the registry refuses, and
    RegistryUnreachableError; then nothing is written.
    """
    host, namespace = split_registry(place, "NAMESPACE", "registry.example:5000")
    place = f"{host}/{namespace}" if namespace else host
    path = login_file(settings)
    document = _read(path)  # before the registry is asked: a file that cannot be read cannot keep a login
    _check(settings, host, credential)
    helper = _helper(document, place)
    if helper is not None:
        _store(helper, place, credential, settings)
        return f"docker-credential-{helper}"
    _auths(document, path)[place] = {"auth": credential.basic}
    _write(path, document)
    return str(path)


def login_file(settings: RegistrySettings) -> Path:
    """Return the file that a login goes into, as podman chooses it."""
    if settings.authfile is not None:
        return settings.authfile
    named = settings.environ.get("REGISTRY_AUTH_FILE")
    return Path(named) if named else runtime_file(settings)


def _check(settings: RegistrySettings, host: str, credential: Credential) -> None:
    """Ask the registry with exactly this credential: a file that holds nothing else."""
    with tempfile.TemporaryDirectory(prefix="hub-login-") as folder:
        alone = Path(folder) / "auth.json"
        _write(alone, {"auths": {host: {"auth": credential.basic}}})
        environ = {name: value for name, value in settings.environ.items() if name != "REGISTRY_AUTH_FILE"}
        with RegistryClient(replace(settings, authfile=alone, environ=environ)) as client:
            client.ping(host)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_FILE else b"too large"
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="Name another with --authfile.") from error
    try:
        document = msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except UNDECODABLE as error:
        raise UsageError(f"{path}: {error}", hint="Correct it, or name another with --authfile.") from error
    _auths(document, path)
    return document


def _auths(document: dict[str, Any], path: Path) -> dict[str, Any]:
    auths = document.setdefault("auths", {})
    if not isinstance(auths, dict):
        raise UsageError(f"{path}: auths is no object", hint="Correct it, or name another with --authfile.")
    return auths


def _helper(document: dict[str, Any], place: str) -> str | None:
    """Return the credential helper that the file names for `place`; none for a namespace: helpers know hosts only.

    See containers-auth.json(5): what a helper kept under a namespace would never be found again.
    """
    if "/" in place:
        return None
    helpers, store = document.get("credHelpers"), document.get("credsStore")
    named = helpers.get(place) if isinstance(helpers, dict) else None
    found = named or store
    return found if isinstance(found, str) and found else None


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
    try:
        with suppress(FileExistsError):
            target.parent.mkdir(mode=0o700, parents=True)
        write_atomic(target, pretty_json(document), 0o600)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}", hint="Name another with --authfile.") from error
