"""registries.conf, which the machine config operator makes of all mirror rules: its content, and its size in advance. Pure.

A pool that reports Updated may not have started its rollout yet; only the content of its MachineConfig shows whether its nodes
have the rules.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import tomllib
import urllib.parse
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.archive.inventory import ProblemCode
from common.text import counted
from importer.cluster.resources.mirror_rules import NEVER, Scope

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from importer.cluster.release import Release
    from importer.cluster.resources.mirror_rules import Listed, Pair


LARGE = ProblemCode.NODES_LARGE.value
# A rendered MachineConfig is one object, which the operator does not split, and etcd takes requests of this size
# (--max-request-bytes; OpenShift leaves it at its default).
MAX_MACHINE_CONFIG = 1_572_864
NEAR = MAX_MACHINE_CONFIG * 3 // 4  # room for a year of archives, and for what other MachineConfigs add
# What the rendered configuration has besides, where none may be read: templates of the operator, and a margin.
_REST = 400_000
_PATH = "/etc/containers/registries.conf"
_LARGEST = 16 * 1024 * 1024  # bytes, unpacked
_GZIP = 31  # zlib's window for gzip
# machine-config-operator, pkg/controller/common/helpers.go, NewIgnFileBytes. Up to 4.10 the file is percent-encoded, which is
# an eighth longer.
_BASE64, _ESCAPED = "data:text/plain;charset=utf-8;base64,", "data:,"


def mirrors_of(machine_config: Mapping[str, Any]) -> frozenset[Pair] | None:
    """Return every (source, mirror) that a MachineConfig writes to the nodes, none without the file; None: unreadable."""
    try:
        texts = [_text(each["contents"]) for each in _files(machine_config)]
        return frozenset(pair for text in texts for pair in _pairs(tomllib.loads(text)))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, zlib.error, binascii.Error):
        return None


def _files(machine_config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    files = ((machine_config["spec"]["config"].get("storage") or {}).get("files")) or []
    return [each for each in files if each.get("path") == _PATH]


def _pairs(document: Mapping[str, Any]) -> Iterator[Pair]:
    for registry in document.get("registry") or ():
        source = registry.get("prefix") or registry.get("location") or ""
        for mirror in registry.get("mirror") or ():
            yield str(source), str(mirror.get("location") or "")


def _text(contents: Mapping[str, Any]) -> str:
    """Return the content of an Ignition file: a data URL (RFC 2397), percent-encoded or base64, optionally compressed."""
    scheme, _, rest = str(contents["source"]).partition(":")
    described, comma, data = rest.partition(",")
    if scheme != "data" or not comma:
        raise ValueError("no data URL")
    raw = urllib.parse.unquote_to_bytes(data)
    if described.endswith(";base64"):
        raw = base64.b64decode(raw, validate=True)
    if contents.get("compression") == "gzip":
        raw = zlib.decompressobj(_GZIP).decompress(raw, _LARGEST)
    return raw.decode()


def registries_conf(rules: Iterable[Listed]) -> str:
    """Return the file for the rules of all objects, one entry for each source.

    Registries that are blocked or insecure in image.config `cluster` are not in it: they are few.
    """
    # openshift/runtime-utils, pkg/registries, EditRegistriesConfig; the fields are those of containers/image,
    # pkg/sysregistriesv2, since 4.13. Earlier ones have `mirror-by-digest-only` once in place of the last line of each mirror.
    mirrors: dict[str, dict[tuple[str, str], None]] = {}
    blocked = set()
    for each in rules:
        how = "tag-only" if each.by_tag else "digest-only"
        mirrors.setdefault(each.rule.source, {}).update(((mirror, how), None) for mirror in each.rule.mirrors)
        if each.rule.policy == NEVER:
            blocked.add(each.rule.source)
    lines = ['unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]', 'short-name-mode = ""']
    for source in sorted(mirrors):
        lines += ["", "[[registry]]", '  prefix = ""', f'  location = "{source}"']
        lines += ["  blocked = true"] if source in blocked else []
        for mirror, how in mirrors[source]:
            lines += ["", "  [[registry.mirror]]", f'    location = "{mirror}"', f'    pull-from-mirror = "{how}"']
    return "\n".join(lines) + "\n"


def size_of(machine_config: Mapping[str, Any] | None, text: str, usual: str = _BASE64) -> int:
    """Return the bytes that a MachineConfig would have with this registries.conf; None: with what most have besides.

    `usual`: how the file begins where there is none yet.
    """
    files = []
    if machine_config is not None:
        try:
            files = _files(machine_config)
        except (KeyError, TypeError, AttributeError):
            machine_config = None
    contents = files[0].get("contents") if files else None
    old = contents if isinstance(contents, dict) else {}
    rest = _REST if machine_config is None else len(json.dumps(machine_config, separators=(",", ":")))
    return rest - len(str(old.get("source") or "")) + _encoded_size(text.encode(), old, usual)


def _encoded_size(raw: bytes, like: Mapping[str, Any], usual: str) -> int:
    """Return the length of the data URL of a file, encoded as that of `like`; without one, as `usual` and uncompressed."""
    source = str(like.get("source") or usual)
    if like.get("compression") == "gzip":
        raw = gzip.compress(raw)
    described = source.partition(",")[0]
    length = (len(raw) + 2) // 3 * 4 if described.endswith(";base64") else len(urllib.parse.quote(raw, safe=""))
    return len(described) + 1 + length


_MEGA = 1_000_000
WIDER = {Scope.REPOSITORY: (Scope.NAMESPACE, Scope.REGISTRY), Scope.NAMESPACE: (Scope.REGISTRY,), Scope.REGISTRY: ()}


@dataclass(frozen=True, slots=True)
class Size:
    """What nodes get: the `sources` of all rules, and the bytes of registries.conf and of the largest MachineConfig with it."""

    sources: int
    registries_conf: int
    machine_config: int

    @property
    def text(self) -> str:
        """One line for people."""
        conf, largest, limit = map(_size_text, (self.registries_conf, self.machine_config, MAX_MACHINE_CONFIG))
        sources = counted(self.sources, "source")
        return f"registries.conf of the nodes: {conf} for {sources}; the largest MachineConfig: {largest} of at most {limit}"


@dataclass(frozen=True, slots=True)
class NodeSize:
    """The size with all rules of an import. `scope`: that of its rules; `wider`: what each wider scope would make of it.

    `changes`: rules would be written.
    """

    size: Size
    scope: Scope
    changes: bool
    wider: tuple[tuple[Scope, Size], ...] = ()

    @property
    def is_near(self) -> bool:
        """Whether the limit is near, or exceeded."""
        return self.size.machine_config > NEAR

    @property
    def is_over(self) -> bool:
        """Whether etcd would refuse the MachineConfig."""
        return self.size.machine_config > MAX_MACHINE_CONFIG

    @property
    def line(self) -> str:
        """The size for people, with the scope that it depends on."""
        return f"{self.size.text} (--mirror-scope {self.scope})"

    @property
    def others(self) -> list[str]:
        """The sizes of wider scopes, for people."""
        return [f"--mirror-scope {scope}: {size.text}" for scope, size in self.wider]

    @property
    def advice(self) -> str:
        """The narrowest scope that leaves room; what else helps where none does."""
        smaller = [(scope, size) for scope, size in self.wider if size.machine_config < self.size.machine_config]
        enough = [scope for scope, size in smaller if size.machine_config <= NEAR]
        enough += [scope for scope, size in reversed(smaller) if size.machine_config <= MAX_MACHINE_CONFIG]
        if enough:
            return f"Use --mirror-scope {enough[0]}: the mirror keeps the paths of the sources, so that one rule serves many."
        # What a wider scope saves of new rules alone may be little: those of the cluster stay.
        then = f" Then use --mirror-scope {smaller[-1][0]}." if smaller else ""
        return (
            "Remove rules that nothing needs. Those of the cluster stay when the scope of an import gets wider: "
            f"`hub-import undo` removes those of hub-import, and drains the nodes.{then}"
        )


def size_with(rules: Collection[Listed], present: Sequence[Mapping[str, Any] | None] = (None,), *, release: Release) -> Size:
    """Return the size with these rules, by the present MachineConfigs; None: one with what most have besides."""
    text = registries_conf(rules)
    usual = _BASE64 if release.encodes_node_files else _ESCAPED
    largest = max(size_of(each, text, usual) for each in present)
    return Size(len({each.rule.source for each in rules}), len(text.encode()), largest)


def _size_text(number: int) -> str:
    return f"{number / _MEGA:.2f} MB" if number >= _MEGA else f"{number / 1000:.0f} kB"
