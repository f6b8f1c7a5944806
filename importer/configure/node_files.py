"""Files for nodes whose container runtime no API configures: drop-ins of containerd and CRI-O (docs/cluster.md, *Nodes*). Pure.

Without them a catalog is served, since its CatalogSource names the mirror, and no operator can be pulled: bundles keep the
names of their sources (operator-lifecycle-manager#3200, #1998, #1420).
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from importer.cluster.resources.mirror_rules import Pair


FOLDER = "nodes"
_REGISTRIES = "etc/containers/registries.conf.d/50-hub-import.conf"
REGISTRIES_CONF = f"{FOLDER}/{_REGISTRIES}"
_CONTAINERD = f"{FOLDER}/etc/containerd/certs.d"
_CONTAINERS = f"{FOLDER}/etc/containers/certs.d"
_NOTE = "# Written by hub-import render: the mirror of each source. The next render replaces this file.\n"


def node_files(rules: Iterable[Pair], host: str, ca: str | None, *, insecure: bool, containerd: bool) -> dict[str, bytes]:
    """Return the drop-ins that lead nodes to the mirror, by their path below the output directory.

    `rules`: source and mirror of each repository or namespace; `host`: that of the mirror, with the CA that signed its
    certificate, or `insecure`. `containerd` False: only those of CRI-O, which is the runtime of MicroShift.
    """
    pairs = sorted(set(rules))
    if not pairs:
        return {}
    texts = {REGISTRIES_CONF: _registries_conf(pairs, host, insecure=insecure)}
    if ca is not None:
        texts[f"{_CONTAINERS}/{host}/ca.crt"] = ca
    if containerd:
        texts |= _containerd(pairs, host, ca, insecure=insecure)
    return {name: text.encode() for name, text in texts.items()}


def unredirected(rules: Iterable[Pair]) -> Iterator[Problem]:
    """Yield a problem for each source that containerd cannot be led to: its mirror has another path."""
    # containerd exchanges the registry and puts a path before the repository; it does not rename (containerd#5672).
    for source, mirror in sorted(set(rules)):
        if _base(source, mirror) is None:
            message = f"containerd cannot redirect it to {mirror}, which ends in another path; CRI-O can"
            yield Problem("warning", ProblemCode.SOURCE_UNREDIRECTABLE, source, message)


def read_rules(path: str, raw: bytes) -> tuple[Pair, ...]:
    """Return the rules of an earlier drop-in. Raises UsageError for one that cannot be read."""
    try:
        entries = tomllib.loads(raw.decode()).get("registry", [])
        return tuple((str(each["prefix"]), str(mirror["location"])) for each in entries for mirror in each.get("mirror", ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"--merge {path}: not a drop-in of hub-import: {str(error)[:200]}",
            hint="Restore the file, or remove it: its rules are then lost.",
        ) from error


def _registries_conf(pairs: Sequence[Pair], host: str, *, insecure: bool) -> str:
    """Return a drop-in of containers-registries.conf.d(5)."""
    # A prefix without a location is an error (containers/image, pkg/sysregistriesv2). Tags are not left out, as they are on
    # OpenShift by the kind of the object: the mirror is the only registry that nodes of a disconnected site reach.
    unverified = "insecure = true\n" if insecure else ""
    parts = [_NOTE]
    if insecure:
        # The catalog is pulled by the name of the mirror itself.
        parts.append(f"[[registry]]\nprefix = {_text(host)}\nlocation = {_text(host)}\n{unverified}")
    for source in dict.fromkeys(source for source, _ in pairs):
        parts.append(f"[[registry]]\nprefix = {_text(source)}\nlocation = {_text(source)}\n")
        parts += [f"[[registry.mirror]]\nlocation = {_text(to)}\n{unverified}" for name, to in pairs if name == source]
    return "\n".join(parts)


def _containerd(pairs: Sequence[Pair], host: str, ca: str | None, *, insecure: bool) -> dict[str, str]:
    """Return hosts.toml for each registry of a source (containerd, docs/hosts.md)."""
    bases: dict[str, dict[str, None]] = {}
    for source, mirror in pairs:
        if base := _base(source, mirror):
            bases.setdefault(source.partition("/")[0], {})[base] = None
    options = "".join(['  capabilities = ["pull", "resolve"]\n', *([f'  ca = "../{host}/ca.crt"\n'] if ca is not None else [])])
    texts = {f"{_CONTAINERD}/{registry}/hosts.toml": _hosts(found, options, insecure) for registry, found in bases.items()}
    if ca is not None:
        texts[f"{_CONTAINERD}/{host}/ca.crt"] = ca
    if insecure and texts:
        texts[f"{_CONTAINERD}/{host}/hosts.toml"] = _hosts([host], options, insecure)
    return texts


def _hosts(bases: Iterable[str], options: str, insecure: bool) -> str:
    parts = [_NOTE]
    for base in sorted(bases):
        registry, slash, prefix = base.partition("/")
        # Without `override_path`, containerd puts /v2 behind the path (containerd#6634).
        address = f"{registry}/v2/{prefix}" if slash else registry
        fields = f"{options}  override_path = true\n" if slash else options
        if insecure:
            parts.append(f"[host.{_text(f'https://{address}')}]\n{fields}  skip_verify = true\n")
            parts.append(f"[host.{_text(f'http://{address}')}]\n{fields}")
        else:
            parts.append(f"[host.{_text(f'https://{address}')}]\n{fields}")
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
