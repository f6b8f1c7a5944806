"""Where a reference is really asked for: `registries.conf` version 2, Docker Hub's other name, `--insecure`.

containers-registries.conf(5). Mirrors serve reads alone; writes go to the host that was named.
"""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common.errors import RegistryRefusedError, UsageError
from common.oci.reference import Reference, contact, is_host, is_loopback, is_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from common.registry.settings import RegistrySettings


MAX_FILE = 4 * 1024 * 1024
_LOG = logging.getLogger(__name__)


class _Mirror(msgspec.Struct, rename="kebab", frozen=True):
    location: str
    insecure: bool = False
    pull_from_mirror: Literal["all", "digest-only", "tag-only", ""] = ""


class _Registry(msgspec.Struct, rename="kebab", frozen=True):
    prefix: str = ""
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirror_by_digest_only: bool = False
    mirror: tuple[_Mirror, ...] = ()

    @property
    def matches(self) -> str:
        """What a reference must begin with; `*.host` for every host below it."""
        return self.prefix or self.location


class _Configuration(msgspec.Struct, frozen=True):
    registry: tuple[_Registry, ...] = ()


# Made at import: msgspec inspects a type at its first use, and crashes where two threads do so together.
_INSPECTED = msgspec.json.Decoder(_Configuration)


_KNOWN = frozenset(
    {
        "registry",
        "unqualified-search-registries",
        "short-name-mode",
        "credential-helpers",
        "aliases",
        "additional-layer-store-auth-helper",
    }
)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The rules in force. `contact` names the host of an URL, `places` where a reference is read."""

    _insecure: frozenset[str]
    _registries: tuple[_Registry, ...] = field(default=())

    def contact(self, registry: str) -> str:
        """Return the host that answers for a registry."""
        return contact(registry)

    def insecure(self, host: str) -> bool:
        """Say whether plain HTTP and unverified TLS are accepted for `host`, by flag or by registries.conf."""
        if host in self._insecure:
            return True
        return any(
            (entry.insecure and _covers_host(entry, host))
            or any(m.insecure and _host(m.location) == host for m in entry.mirror)
            for entry in self._registries
        )

    def may_be_plain(self, host: str) -> bool:
        """Say whether a document that is fetched may come by plain HTTP: the host is insecure, or this machine."""
        return self.insecure(host) or is_loopback(host)

    def places(self, reference: Reference) -> tuple[Reference, ...]:
        """Return where to read `reference`, in order: mirrors first, the place itself last.

        Raises RegistryRefusedError when registries.conf blocks it, UsageError when a rewritten name is no reference.
        """
        entry = self._entry(reference)
        if entry is None:
            return (reference,)
        if entry.blocked:
            raise _blocked(reference, entry)
        mirrors = [m.location for m in entry.mirror if _serves(m, entry, reference)]
        return tuple(dict.fromkeys(_moved(reference, entry.matches, location) for location in (*mirrors, entry.location)))

    def check_allowed(self, reference: Reference) -> None:
        """Raise RegistryRefusedError when registries.conf blocks what `reference` names."""
        entry = self._entry(reference)
        if entry is not None and entry.blocked:
            raise _blocked(reference, entry)

    def _entry(self, reference: Reference) -> _Registry | None:
        fitting = [entry for entry in self._registries if _fits(entry.matches, reference)]
        return max(fitting, key=lambda entry: len(entry.matches), default=None)


def load_hosts(settings: RegistrySettings) -> Hosts:
    """Read the rules from the flag's file, or from where the container tools look. Raises UsageError."""
    registries: list[_Registry] = []
    for path in _files(settings):
        found = _read(path)
        names = {entry.matches for entry in found}
        registries = [entry for entry in registries if entry.matches not in names] + list(found)
    return Hosts(settings.insecure, tuple(registries))


def _files(settings: RegistrySettings) -> Iterator[Path]:
    """Give the file and its drop-ins; a later one replaces entries of the same prefix."""
    named = settings.registries_conf or settings.environ.get("CONTAINERS_REGISTRIES_CONF")
    if named:
        if not Path(named).is_file():
            raise UsageError(f"no such registries.conf: {named}", hint="Name another with --registries-conf.")
        yield Path(named)
        return
    home = Path(settings.environ.get("HOME") or "/nonexistent")
    own = Path(settings.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    system = settings.system_root / "etc/containers"
    yield from [path / "registries.conf" for path in (own, system) if (path / "registries.conf").is_file()][:1]
    for folder in (system, own):
        yield from sorted((folder / "registries.conf.d").glob("*.conf"))


def _read(path: Path) -> tuple[_Registry, ...]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{path}: larger than {MAX_FILE} bytes", hint="This is no registries.conf.")
        document: dict[str, Any] = tomllib.loads(path.read_text())
        configuration = msgspec.convert(document, _Configuration)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}", hint="Wanted: TOML as in containers-registries.conf(5), version 2.") from error
    _refuse_unknown(path, document)
    for entry in configuration.registry:
        _check(path, entry)
    return configuration.registry


def _refuse_unknown(path: Path, document: dict[str, Any]) -> None:
    """Refuse unknown keys: a rule that is half understood sends credentials or pulls to the wrong place."""
    if "registries" in document:
        raise UsageError(
            f"{path}: [registries]: this is version 1 of the format", hint="Wanted: [[registry]] tables, version 2."
        )
    for name in sorted(document.keys() - _KNOWN):
        _LOG.warning("%s: unknown key %r is ignored", path, name)
    for number, entry in enumerate(document.get("registry", ()), 1):
        where = f"{path}: [[registry]] number {number} (prefix {entry.get('prefix') or entry.get('location')!r})"
        _refuse_keys(where, entry, _Registry)
        for position, mirror in enumerate(entry.get("mirror", ()), 1):
            _refuse_keys(f"{where}, [[registry.mirror]] number {position}", mirror, _Mirror)


def _refuse_keys(where: str, table: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for name in table:
        if name not in known:
            raise UsageError(f"{where}: unknown key {name[:80]!r}", hint=f"Known keys: {', '.join(known)}.")


def _check(path: Path, entry: _Registry) -> None:
    if not entry.matches or (entry.prefix.startswith("*.") and "/" in entry.prefix):
        raise UsageError(f"{path}: [[registry]] with prefix {entry.prefix!r}", hint="Wanted: host[/path], or *.host alone.")
    for location in (entry.location, *(m.location for m in entry.mirror)):
        host, slash, repository = location.partition("/")
        if location and not (is_host(host) and (not slash or is_repository(repository))):
            raise UsageError(f"{path}: not a location: {location[:200]!r}", hint="Wanted: host[:port][/path]")


def _host(location: str) -> str:
    return location.partition("/")[0]


def _covers_host(entry: _Registry, host: str) -> bool:
    if entry.location:
        return _host(entry.location) == host
    return host.endswith(entry.prefix[1:]) if entry.prefix.startswith("*.") else _host(entry.prefix) == host


def _fits(prefix: str, reference: Reference) -> bool:
    if prefix.startswith("*."):
        return reference.registry.endswith(prefix[1:])
    return reference.name == prefix or reference.name.startswith(f"{prefix}/")


def _serves(mirror: _Mirror, entry: _Registry, reference: Reference) -> bool:
    rule = mirror.pull_from_mirror or ("digest-only" if entry.mirror_by_digest_only else "all")
    return rule == "all" or (rule == "digest-only") == (reference.digest is not None)


def _moved(reference: Reference, prefix: str, location: str) -> Reference:
    """Put `location` where `prefix` stands in the name; an empty location changes nothing."""
    if not location:
        return reference
    rest = reference.repository if prefix.startswith("*.") else reference.name.removeprefix(prefix).lstrip("/")
    registry, _, repository = f"{location}/{rest}".rstrip("/").partition("/")
    if not is_repository(repository):
        raise UsageError(
            f"registries.conf turns {reference.name} into {location}/{rest}, which names no repository",
            hint="Correct the location in registries.conf.",
        )
    return replace(reference, registry=registry, repository=repository)


def _blocked(reference: Reference, entry: _Registry) -> RegistryRefusedError:
    return RegistryRefusedError(
        f"{reference}: registries.conf blocks {entry.matches}",
        hint="Take the entry out, or name another file with --registries-conf.",
    )
