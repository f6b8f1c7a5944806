"""Files for nodes whose container runtime no API configures: drop-ins of containerd and CRI-O. Pure.

Specification: docs/reference/cluster.md, *Nodes*.

Without them a catalog is served, since its CatalogSource names the mirror, and no operator can be pulled: bundles keep the
names of their sources (operator-lifecycle-manager#3200, #1998, #1420).
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from importer.cluster.resources.mirror_rules import Pair


FOLDER = "nodes"
_REGISTRIES = "etc/containers/registries.conf.d/50-hub-import.conf"
REGISTRIES_CONF = f"{FOLDER}/{_REGISTRIES}"
_CONTAINERD = f"{FOLDER}/etc/containerd/certs.d"
_CONTAINERS = f"{FOLDER}/etc/containers/certs.d"
_NOTE = "# Written by hub-import render: the mirror of each source. The next render replaces this file.\n"
# A host is a directory of certs.d, so that it must not name another one.
_HOST = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:\[\]-]{1,300}")


@dataclass(frozen=True, slots=True)
class Access:
    """How nodes reach a mirror: with the CA that signed its certificate (PEM), or `insecure`."""

    ca: str | None = None
    insecure: bool = False


_PLAIN = Access()


def node_files(rules: Iterable[Pair], access: Mapping[str, Access], *, containerd: bool) -> dict[str, bytes]:
    """Return the drop-ins that lead nodes to the mirrors, by their path below the output directory.

    `rules`: source and mirror of each repository or namespace; `access`: by the host of a mirror. `containerd` False: only
    those of CRI-O, which is the runtime of MicroShift.
    """
    pairs = sorted(set(rules))
    if not pairs:
        return {}
    texts = {REGISTRIES_CONF: _registries_conf(pairs, access)}
    texts |= {ca_file(host): each.ca for host, each in access.items() if each.ca is not None}
    if containerd:
        texts |= _containerd(pairs, access)
    return {name: text.encode() for name, text in texts.items()}


def ca_file(host: str) -> str:
    """Return the path of the CA of a registry, below the output directory."""
    return f"{_CONTAINERS}/{host}/ca.crt"


def unredirected(rules: Iterable[Pair]) -> Iterator[Problem]:
    """Yield a problem for each source that containerd cannot be led to: its mirror has another path."""
    # containerd exchanges the registry and puts a path before the repository; it does not rename (containerd#5672).
    for source, mirror in sorted(set(rules)):
        if _base(source, mirror) is None:
            message = f"containerd cannot redirect it to {mirror}, which ends in another path; CRI-O can"
            yield Problem("warning", ProblemCode.SOURCE_UNREDIRECTABLE, source, message)


@dataclass(frozen=True, slots=True)
class NodeRules:
    """The rules of a drop-in, the hosts of their mirrors, and those of them that are insecure."""

    rules: tuple[Pair, ...] = ()
    hosts: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()


def read_rules(path: str, raw: bytes) -> NodeRules:
    """Return the rules of an earlier drop-in. Raises UsageError for one that cannot be read."""
    try:
        entries = tomllib.loads(raw.decode()).get("registry", [])
        found = [(str(each["prefix"]), mirror) for each in entries for mirror in each.get("mirror", ())]
        rules = tuple((source, str(mirror["location"])) for source, mirror in found)
        insecure = {_host(str(mirror["location"])) for _, mirror in found if mirror.get("insecure") is True}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_drop_in(path, str(error)) from error
    if wrong := [each for each in map(_host, chain.from_iterable(rules)) if not _HOST.fullmatch(each)]:
        raise _no_drop_in(path, f"{wrong[0][:80]!r} is no registry")
    return NodeRules(rules, frozenset(_host(mirror) for _, mirror in rules), frozenset(insecure))


def _no_drop_in(path: str, why: str) -> UsageError:
    return UsageError(
        f"--merge {path}: not a drop-in of hub-import: {why[:200]}",
        hint="Restore the file, or remove it: its rules are then lost.",
    )


def _host(name: str) -> str:
    return name.partition("/")[0]


def _registries_conf(pairs: Sequence[Pair], access: Mapping[str, Access]) -> str:
    """Return a drop-in of containers-registries.conf.d(5)."""
    # A prefix without a location is an error (containers/image, pkg/sysregistriesv2). Tags are not left out, as they are on
    # OpenShift by the kind of the object: the mirror is the only registry that nodes of a disconnected site reach.
    unverified = "insecure = true\n"
    # The catalog is pulled by the name of the mirror itself.
    own = sorted(host for host, each in access.items() if each.insecure)
    parts = [_NOTE, *(f"[[registry]]\nprefix = {_text(host)}\nlocation = {_text(host)}\n{unverified}" for host in own)]
    for source in dict.fromkeys(source for source, _ in pairs):
        parts.append(f"[[registry]]\nprefix = {_text(source)}\nlocation = {_text(source)}\n")
        for mirror in (mirror for name, mirror in pairs if name == source):
            flag = unverified if access.get(_host(mirror), _PLAIN).insecure else ""
            parts.append(f"[[registry.mirror]]\nlocation = {_text(mirror)}\n{flag}")
    return "\n".join(parts)


def _containerd(pairs: Sequence[Pair], access: Mapping[str, Access]) -> dict[str, str]:
    """Return hosts.toml for each registry of a source (containerd, docs/hosts.md)."""
    bases: dict[str, dict[str, None]] = {}
    for source, mirror in pairs:
        if base := _base(source, mirror):
            bases.setdefault(_host(source), {})[base] = None
    texts = {f"{_CONTAINERD}/{registry}/hosts.toml": _hosts(found, access) for registry, found in bases.items()}
    for host, each in access.items():
        if each.ca is not None:
            texts[f"{_CONTAINERD}/{host}/ca.crt"] = each.ca
        if each.insecure and bases:
            texts.setdefault(f"{_CONTAINERD}/{host}/hosts.toml", _hosts([host], access))
    return texts


def _hosts(bases: Iterable[str], access: Mapping[str, Access]) -> str:
    parts = [_NOTE]
    for base in sorted(bases):
        registry, slash, prefix = base.partition("/")
        reached = access.get(registry, _PLAIN)
        # Without `override_path`, containerd puts /v2 behind the path (containerd#6634).
        address = f"{registry}/v2/{prefix}" if slash else registry
        trusted = f"  ca = {_text(f'../{registry}/ca.crt')}\n" if reached.ca is not None else ""
        fields = f'  capabilities = ["pull", "resolve"]\n{trusted}' + ("  override_path = true\n" if slash else "")
        unverified = "  skip_verify = true\n" if reached.insecure else ""
        parts.append(f"[host.{_text(f'https://{address}')}]\n{fields}{unverified}")
        if reached.insecure:
            parts.append(f"[host.{_text(f'http://{address}')}]\n{fields}")
    return "\n".join(parts)


def _base(source: str, mirror: str) -> str | None:
    """Return the mirror's registry, and the path that it has before the source's; None where it ends differently."""
    path = source.partition("/")[2]
    if not path:
        return mirror
    return mirror.removesuffix(f"/{path}") if mirror.endswith(f"/{path}") else None


def _text(text: str) -> str:
    """Return a basic string of TOML, which has the escapes of JSON."""
    return json.dumps(text)
