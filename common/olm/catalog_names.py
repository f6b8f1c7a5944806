"""Names of catalogs, made from what each one is: its repository and tag, never its place in a list (ADR 0051). Pure.

The exporter names the catalogs of an inventory with them, the importer its CatalogSources and ClusterCatalogs.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from common.archive.inventory import CatalogRecord, Inventory


MAX_LABEL = 63  # characters of an RFC 1035 label, which OLM makes the name of a service
# Of a name that is made here: `-serving` (the Deployment of a catalog) is added to it, and `hub-` of a mirror rule before it.
_MAX_NAME = 54
_MAX_BARE = 50
_TAIL = 6  # hexadecimal digits that keep two long names apart
_APART = 8  # hexadecimal digits of a name that nothing shorter distinguishes
# Tags that publishers and sites give to the catalog of a release: `v4.18`, `4.18`, `stable-4.18`, `v4.18-20260101`. Three
# numbers (`4.5.6`) are a version of the catalog's own, and a name that changed with each of them would orphan Subscriptions.
_RELEASE = re.compile(r"(?:[a-z]+[-_])*v?(\d{1,2})\.(\d{1,3})(?:[-_][\w.-]*)?", re.ASCII)
_TRANSPORT = re.compile(r"(?:oci|oci-archive|dir):")  # before the path of a layout
_MAJORS = range(4, 10)  # of OpenShift; tags such as `v1.2` or `2024.10` name no release


def bare_name(path: str) -> str:
    """Return the name of a catalog from its repository path: the last component, fit for Kubernetes (RFC 1123 label)."""
    return re.sub(r"[^a-z0-9-]+", "-", path.rpartition("/")[2].lower()).strip("-")[:_MAX_BARE] or "catalog"


def label(text: str, longest: int = MAX_LABEL) -> str:
    """Return a name that OLM can make a service of (RFC 1035 label): lower case, beginning with a letter."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
    name = name if re.match(r"[a-z]", name) else f"hub-{name}".rstrip("-")
    if len(name) <= longest:
        return name
    return f"{name[: longest - _TAIL - 1].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:_TAIL]}"


def release_of_tag(tag: str) -> tuple[int, int] | None:
    """Return the OpenShift release that a tag names; None for `latest`, and for a version of the catalog's own."""
    match = _RELEASE.fullmatch(tag.lower())
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    return found if found[0] in _MAJORS else None


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a catalog another one than the next: `path` and `tag` by which the mirror has it, and its source.

    `bare`: its name where no other catalog has it. `host` is empty for a catalog from a disk.
    """

    bare: str
    path: str
    tag: str
    host: str
    source: str

    @classmethod
    def of(cls, bare: str, source: str, *, pulled: bool, repository: str | None, tag: str | None) -> Identity:
        """Return the identity of a source; `repository` and `tag` are its target, which counts before it."""
        if not pulled:
            return cls(bare, repository or source, tag or "", "", source)
        name, _, digest = source.partition("@")
        folder, _, last = name.rpartition("/")
        last, _, own = last.partition(":")
        host, _, path = f"{folder}/{last}".partition("/")
        # A catalog by digest has no tag; the digest is what distinguishes it from another one of its repository.
        return cls(bare, repository or path, tag or own or digest.rpartition(":")[2][:_APART], host, source)

    def __str__(self) -> str:
        return f"{self.path}:{self.tag}" if self.tag else self.path


def identities_of(inventory: Inventory) -> list[Identity]:
    """Return the identity of each catalog of an inventory."""
    # A source by tag and digest is listed by its digest alone; the image has the tag.
    tags = {(image.source, image.digest): image.tag for image in inventory.images if image.tag}
    return [_identity(catalog, str(tags.get((catalog.source, catalog.image)) or "")) for catalog in inventory.catalogs]


def _identity(catalog: CatalogRecord, tag: str) -> Identity:
    path, at, _ = catalog.source.partition("@")
    repository, target = catalog.target_repository, catalog.target_tag
    if catalog.digest is not None:
        folder, slash, last = path.rpartition("/")
        bare = bare_name(f"{folder}{slash}{last.partition(':')[0]}")
        chosen = target or (tag if at else "")
        return Identity.of(bare, catalog.source, pulled=True, repository=repository, tag=chosen)
    # The exporter named a directory by its last component, and a file or layout by that without its extension.
    last = _TRANSPORT.sub("", path).rstrip("/").rpartition("/")[2]
    spellings = (last, last.rpartition(".")[0], last.partition(":")[0], last.partition(":")[0].rpartition(".")[0])
    names = [bare_name(each) for each in spellings if each.strip(".")]
    bare = next((name for name in names if _is_numbered(catalog.name, name)), names[0] if names else catalog.name)
    return Identity.of(bare, catalog.source, pulled=False, repository=repository, tag=target)


def _is_numbered(name: str, bare: str) -> bool:
    return name == bare or re.fullmatch(rf"{re.escape(bare)}-[2-9]\d*", name) is not None


class _Level(IntEnum):
    """How much of an identity a name has, besides the tag."""

    BARE = 0
    PATH = 1
    HOST = 2
    DIGEST = 3


_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class _Spelling:
    """The parts of an identity that its name has."""

    tagged: bool
    level: _Level = _Level.BARE

    def of(self, identity: Identity) -> str:
        host = f"{identity.host}/{identity.path}"
        text = {_Level.BARE: identity.bare, _Level.PATH: identity.path}.get(self.level, host)
        text = f"{text}-{identity.tag}" if self.tagged and identity.tag else text
        if self.level is _Level.DIGEST:
            whole = repr((identity.host, identity.path, identity.tag, identity.source))
            text = f"{label(text, _MAX_NAME - _APART - 1)}-{hashlib.sha256(whole.encode()).hexdigest()[:_APART]}"
        # The bare name as it is: it was made before, and must not change.
        return text if text == identity.bare else label(text, _MAX_NAME)


def distinct(identities: Sequence[Identity], tagged: Sequence[object], taken: Mapping[str, str] = _NONE) -> list[str]:
    """Return a name for each catalog: the bare one, with its tag where `tagged` is true, and longer for all that meet.

    `taken`: names that none of them may have, each with the path of its catalog. The result does not depend on their order.
    Equal identities get equal names.
    """
    spellings = [_Spelling(bool(each)) for each in tagged]
    changed = True
    names: list[str] = []
    # Ends: each round makes a name longer, and none has more parts than DIGEST.
    while changed:
        names = [spelling.of(identity) for spelling, identity in zip(spellings, identities, strict=True)]
        groups: dict[str, list[tuple[_Spelling, Identity]]] = {}
        for name, spelling, identity in zip(names, spellings, identities, strict=True):
            groups.setdefault(name, []).append((spelling, identity))
        met = {name: group for name, group in groups.items() if len(group) > 1 or name in taken}
        changed = sum(_lengthened(group, taken.get(name)) for name, group in met.items()) > 0
    return names


def _lengthened(group: Sequence[tuple[_Spelling, Identity]], taker: str | None) -> bool:
    """Give the members of a group the next part of their identities; return whether one got longer.

    They have one name, which the catalog of the path `taker` has too, unless that is None.
    """
    tags: dict[str, int] = {path: 1 for path in (taker,) if path is not None}
    for path, _ in {(own.path, own.tag) for _, own in group}:
        tags[path] = tags.get(path, 0) + 1
    hosts = {(own.path, own.host) for _, own in group}
    untagged = [spelling for spelling, own in group if not spelling.tagged and own.tag and tags[own.path] > 1]
    for level, helps in (
        (_Level.PATH, len(tags) > 1),
        (None, bool(untagged)),
        (_Level.HOST, len(hosts) > len({path for path, _ in hosts})),
        (_Level.DIGEST, True),
    ):
        chosen = untagged if level is None else [spelling for spelling, _ in group if spelling.level < level]
        if helps and chosen:
            for spelling in chosen:
                spelling.tagged = spelling.tagged or level is None
                spelling.level = max(spelling.level, level or _Level.BARE)
            return True
    return False


def bare_names(catalogs: Sequence[CatalogRecord], identities: Sequence[Identity]) -> list[str | None]:
    """Return the bare name of each catalog of an inventory; None for one that the exporter did not name by its rules."""
    return [
        # Up to ADR 0051 the second catalog of a name got `-2`, in the order of the file.
        identity.bare if _is_numbered(catalog.name, identity.bare) or catalog.name in _spellings(identity) else None
        for catalog, identity in zip(catalogs, identities, strict=True)
    ]


def _spellings(identity: Identity) -> set[str]:
    """Return every name that a catalog can have: an archive for a re-request lacks those that it met in the first one."""
    return {_Spelling(tagged, level).of(identity) for tagged in (False, True) for level in _Level}


def packages_of_several(catalogs: Iterable[tuple[str, Iterable[str]]]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return the packages that several catalogs have, by the names of those catalogs; all of them sorted."""
    having: dict[str, set[str]] = {}
    for name, packages in catalogs:
        for package in packages:
            having.setdefault(package, set()).add(name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for package, names in having.items():
        if len(names) > 1:
            groups.setdefault(tuple(sorted(names)), []).append(package)
    return sorted((names, sorted(packages)) for names, packages in groups.items())
