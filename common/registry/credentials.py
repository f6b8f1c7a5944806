"""Credentials: `auth.json` files as podman, skopeo, oc and docker write them, and credential helpers.

Owns where they are looked for and which entry fits (containers-auth.json(5)); `auth.py` spends them.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import HubError, UsageError
from common.files import read_limited
from common.log import SECRETS
from common.oci.reference import DOCKER_HUB
from common.registry.auth_file import MAX_FILE, WANTED, read_document
from common.serialization import decode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from common.registry.settings import RegistrySettings


_MAX_ANSWER = 64 * 1024
_HELPER_TIMEOUT_S = 30.0
_TOKEN_USER = "<token>"  # noqa: S105 - the helper protocol's word for "the secret is an identity token"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})
_HUB_KEY = "https://index.docker.io/v1/"  # of docker login, and of credential helpers
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or an identity token (traded for access tokens), or a registry token (used as it is)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __post_init__(self) -> None:
        for secret in (self.password, self.identity_token, self.registry_token):
            SECRETS.add(secret)
        if self.password:
            SECRETS.add(self.basic)

    @property
    def basic(self) -> str:
        """The value that follows `Basic` (RFC 7617)."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credential({self.username!r}, ***)"


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, rename={"cred_helpers": "credHelpers", "creds_store": "credsStore"}):
    auths: dict[str, _Entry | None] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


_FILE = msgspec.json.Decoder(_File)


class Credentials:
    """Everything that the caller's files know. Read once, when it is made.

    Raises UsageError for a file that cannot be read, and for `--authfile` or REGISTRY_AUTH_FILE naming no file.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._environ = settings.environ
        self._files = [(path, _read(path)) for path in _paths(settings)]

    def find(self, host: str, repository: str = "") -> Credential | None:
        """Return what fits `host/repository` best: file by file, the most specific namespace first."""
        for path, file in self._files:
            found = self._in_file(path, file, host, repository)
            if found is not None:
                return found
        return None

    def of_namespaces(self, host: str, namespace: str = "") -> bool:
        """Say whether there are credentials for `host/namespace`, for a namespace around it, or for one inside it.

        Those of `host` as a whole do not count: they are for all of its namespaces.
        """
        wanted = f"{_normal(host)}/{namespace}".rstrip("/")
        for _, file in self._files:
            for key in (_normal(key) for key, entry in file.auths.items() if entry is not None):
                if "/" in key and (f"{wanted}/".startswith(f"{key}/") or key.startswith(f"{wanted}/")):
                    return True
        return False

    def _in_file(self, path: Path, file: _File, host: str, repository: str) -> Credential | None:
        helpers = {_normal(key): (key, name) for key, name in file.cred_helpers.items()}
        if _normal(host) in helpers:
            key, name = helpers[_normal(host)]
            found = _ask_helper(name, key, self._environ)
            if found is not None:
                return found
        entries: dict[str, list[tuple[str, _Entry]]] = {}
        for key, entry in file.auths.items():
            if entry is not None:
                entries.setdefault(_normal(key), []).append((key, entry))
        for wanted in _namespaces(_normal(host), repository):
            # Of several spellings the plain one counts, else the first that is not empty.
            for key, entry in sorted(entries.get(wanted, ()), key=lambda pair: pair[0] != wanted):
                credential = _credential(entry, f"{path}: auths[{key!r}]")
                if credential is not None:
                    _LOG.debug("credentials of %s: %s, key %s", host, path, key)
                    return credential
        return _ask_helper(file.creds_store, store_key(host), self._environ) if file.creds_store else None


def _paths(settings: RegistrySettings) -> Iterator[Path]:
    """Give the files that are there, in order of precedence."""
    environ = settings.environ
    named = settings.authfile, Path(environ["REGISTRY_AUTH_FILE"]) if environ.get("REGISTRY_AUTH_FILE") else None
    for path, origin in zip(named, ("--authfile", "REGISTRY_AUTH_FILE"), strict=True):
        if path is not None:
            if not path.is_file():
                raise UsageError(
                    f"{origin}: no such file: {path}",
                    hint="Make it with hub-export login, hub-import login or podman login --authfile, or name another.",
                )
            yield path
    home = Path(environ.get("HOME") or "/nonexistent")
    config = environ.get("XDG_CONFIG_HOME")
    docker = environ.get("DOCKER_CONFIG")
    candidates = (
        runtime_file(settings),
        (Path(config) if config else home / ".config") / "containers/auth.json",
        (Path(docker) if docker else home / ".docker") / "config.json",
        home / ".dockercfg",
    )
    yield from (path for path in candidates if path.is_file())


def runtime_file(settings: RegistrySettings) -> Path:
    """Return the file that podman login writes by default; without a session, as root often is, below /run."""
    runtime = settings.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else settings.system_root / "run/containers" / str(os.getuid())
    return folder / "containers/auth.json" if runtime else folder / "auth.json"


def _read(path: Path) -> _File:
    raw = read_limited(path, MAX_FILE, "Correct its permissions, or name another file.")
    try:
        document = read_document(raw, str(path)).content
        return decode_json(msgspec.json.encode(_without_nulls(document)), _FILE, str(path))
    except HubError as error:
        hint = error.hint or f"{WANTED} Correct it, or name another file with --authfile."
        raise UsageError(error.message, hint=hint) from error


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without null, which docker and podman read as a field that is not there."""
    given = {key: value for key, value in document.items() if value is not None}
    auths = given.get("auths")
    if isinstance(auths, dict):
        given["auths"] = {host: _without_nulls(entry) if isinstance(entry, dict) else entry for host, entry in auths.items()}
    return given


def store_key(host: str) -> str:
    """Return the name of a host for a credential helper."""
    return _HUB_KEY if _normal(host) == DOCKER_HUB else host


def canonical(host: str) -> str:
    """Return `docker.io` for any name of Docker Hub, and any other host unchanged."""
    return DOCKER_HUB if host.lower() in _ALIASES else host


def is_same_place(key: str, other: str) -> bool:
    """Say whether two keys of a file are spellings of one place."""
    return _normal(key) == _normal(other)


def _normal(key: str) -> str:
    """Return a key as it is compared: no scheme, no trailing slash, host in lower case, one name for Docker Hub.

    A key with a scheme is docker's old form, where the path names an interface version and not a namespace.
    """
    scheme, mark, rest = key.partition("://")
    text = rest.partition("/")[0] if mark and scheme.lower() in ("http", "https") else key.rstrip("/")
    host, slash, path = text.partition("/")
    host = host.lower()  # names of hosts have no case (RFC 9110, 4.2.3)
    if path in ("v1", "v2"):  # https://index.docker.io/v1/, as docker login writes it
        slash = path = ""
    return f"{DOCKER_HUB if host in _ALIASES else host}{slash}{path}"


def _namespaces(host: str, repository: str) -> Iterator[str]:
    path = f"{host}/{repository}" if repository else host
    while path:
        yield path
        path = path.rpartition("/")[0]


def _credential(entry: _Entry, where: str) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        packed = "".join(entry.auth.split())  # wrapped, as base64 without -w0 does; Go's decoder skips newlines, too
        for secret in (entry.auth, packed):
            SECRETS.add(secret)
        try:
            decoded = base64.b64decode(packed, validate=True).decode().rstrip("\0\n")
        except ValueError:  # binascii.Error and UnicodeDecodeError; itself for text that is not ASCII
            decoded = ""
        username, colon, password = decoded.partition(":")
        if not colon:  # refused, for a skipped entry would pull anonymously and fail much later
            raise UsageError(
                f"{where}: auth is not base64 of user:password",
                hint="Log in again: hub-export login, hub-import login or podman login.",
            )
    credential = Credential(username, password, entry.identitytoken, entry.registrytoken)
    return credential if credential != Credential() else None


def _ask_helper(name: str, key: str, environ: Mapping[str, str]) -> Credential | None:
    """Ask `docker-credential-<name> get`; None when it does not know `key`. Raises UsageError when it cannot be run."""
    done = run_helper(name, "get", key, key, environ)
    if done.returncode:
        _LOG.debug("docker-credential-%s knows nothing of %s", name, key)
        return None
    return _helper_answer(done.stdout[:_MAX_ANSWER], f"docker-credential-{name} for {key}")


def run_helper(name: str, verb: str, stdin: str, key: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run `docker-credential-<name> <verb>`; its input is not in the process list. Raises UsageError when it cannot be run."""
    program = f"docker-credential-{name}"
    found = shutil.which(program, path=environ.get("PATH", "")) if _HELPER_NAME.fullmatch(name) else None
    if found is None:
        raise UsageError(
            f"credential helper {program!r} for {key} is not installed", hint="Install it, or take it out of auth.json."
        )
    try:
        return subprocess.run(  # noqa: S603 - the caller's own configuration names this program
            [found, verb], input=stdin.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False, env=dict(environ)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"credential helper {program} for {key}: {type(error).__name__}", hint="Try it by hand.") from error


def _helper_answer(raw: bytes, where: str) -> Credential | None:
    try:
        answer: Any = json.loads(raw)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"credential helper {where}: no answer that makes sense", hint="Try it by hand.") from error
    if not secret:
        return None
    return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user, secret)
