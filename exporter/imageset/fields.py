"""Names of the fields of an ImageSetConfiguration, by apiVersion. They match in any case, as for oc-mirror.

Source: openshift/oc-mirror, internal/pkg/api/v2alpha1/type_config.go and pkg/api/v1alpha2/types_config.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.go_yaml import fold
from common.serialization import Placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

V2ALPHA1 = "mirror.openshift.io/v2alpha1"
V1ALPHA2 = "mirror.openshift.io/v1alpha2"
OWN = "hub-airgap/v1"  # v2alpha1 and the fields of `_OWN`; a group that oc-mirror does not read
API_VERSIONS = (V2ALPHA1, V1ALPHA2, OWN)

_Names = dict[str, dict[str, str]]
_CHART = dict.fromkeys(("name", "version", "path", "imagePaths"), "") | {"platforms": "a platform"}
# For each object its fields; the value of a field is the object in it, or in each element of its list.
_COMMON: _Names = {
    "the file": dict.fromkeys(("apiVersion", "kind", "metadata", "archiveSize"), "")
    | {"mirror": "mirror", "storageConfig": "storageConfig"},
    "mirror": {
        "operators": "an operator",
        "additionalImages": "an additional image",
        "blockedImages": "a blocked image",
        "platform": "mirror.platform",
        "helm": "mirror.helm",
        "samples": "a sample",
    },
    "an operator": dict.fromkeys(
        ("catalog", "full", "targetCatalog", "targetTag", "targetCatalogSourceTemplate", "skipDependencies"), ""
    )
    | {"packages": "a package", "platforms": "a platform"},
    # `selectors`: labels of related images, since 2026 (openshift/oc-mirror, image-set-config-operator-selectors.yaml).
    "a package": dict.fromkeys(("name", "defaultChannel", "minVersion", "maxVersion", "selectors"), "")
    | {"channels": "a channel"},
    "a channel": dict.fromkeys(("name", "minVersion", "maxVersion"), ""),
    "an additional image": dict.fromkeys(("name", "targetRepo", "targetTag"), "") | {"platforms": "a platform"},
    "a blocked image": {"name": ""},
    "a platform": dict.fromkeys(("os", "architecture", "variant"), ""),
    "mirror.platform": dict.fromkeys(("graph", "architectures", "release", "kubeVirtContainer"), "")
    | {"channels": "a release channel", "platforms": "a platform"},
    "a release channel": dict.fromkeys(("name", "type", "minVersion", "maxVersion", "shortestPath", "full"), ""),
    "mirror.helm": {"repositories": "a repository", "local": "a chart"},
    "a repository": {"url": "", "name": "", "charts": "a chart"},
    "a chart": _CHART,
    "a sample": {"name": ""},
    "storageConfig": {"registry": "a registry", "local": "a directory"},
    "a registry": {"imageURL": "", "skipTLS": ""},
    "a directory": {"path": ""},
}
# Objects of sections that are not carried: an unknown field in them is no fault, since no selection depends on it.
_NOT_CARRIED = {
    *("mirror.helm", "a repository", "a chart", "a sample"),
    *("storageConfig", "a registry", "a directory"),
}
# Objects that matter to a request, and to no other reader of an image set: earlier versions recorded them as they were.
_OF_REQUESTS = {"mirror.platform", "a release channel"}
# Fields of one apiVersion only, with what to write instead in the others.
_V1ALPHA2 = {
    "an operator": {
        "targetName": "It is a field of v1alpha2; write targetCatalog, the whole path.",
        "originalRef": "It is a field of v1alpha2 without a meaning since oc-mirror 4.13; take it out.",
    },
    "a package": {"minBundle": "It is a field of v1alpha2; write minVersion."},
    "a channel": {"minBundle": "It is a field of v1alpha2; write minVersion."},
}
_OF_OWN = f"It is a field of hub-export alone; write apiVersion: {OWN}, which oc-mirror does not read."
_OWN = {"an operator": {"exclude": _OF_OWN}, "a package": {"optional": _OF_OWN, "install": _OF_OWN}}
_EXTRA: Mapping[str, Mapping[str, Mapping[str, str]]] = {V1ALPHA2: _V1ALPHA2, OWN: _OWN}
# What to write for names that files of generators and of former versions have, by object.
_INSTEAD = {
    "the file": {
        "spec": "An ImageSetConfiguration has no spec: move the fields in it one level up.",
        "delete": "hub-export deletes nothing. Known fields: mirror, archiveSize.",
    },
    "mirror": {
        "ocp": "Its name is platform since v1alpha2.",
        "catalogs": "Its name is operators.",
        "images": "Its name is additionalImages.",
    },
    "mirror.platform": {
        "releases": "One release is named by its image: release; others by channels.",
        "version": "Write it under channels, as minVersion and maxVersion.",
    },
    "a release channel": {"version": "Write minVersion and maxVersion, the same for one version."},
    "an operator": {"headsOnly": "Take it out; where it is false, write full: true (v1alpha1 had headsOnly)."},
    "a package": {
        "startingVersion": "Its name is minVersion since v1alpha2.",
        "versions": "Write minVersion and maxVersion, the same for one version.",
        "bundles": "Write minVersion and maxVersion, both the version of the bundle.",
        "channel": "Write a list: channels, each with its name.",
    },
    "a channel": {
        "startingVersion": "Its name is minVersion since v1alpha2.",
        "versions": "Write minVersion and maxVersion, the same for one version.",
    },
}


def api_version(root: Placed) -> str:
    """Return the apiVersion of a file; empty when it has none that is text."""
    fields = root.value if isinstance(root.value, dict) else {}
    found = next((child.value for name, child in fields.items() if fold(name) == "apiversion"), "")
    return found.strip() if isinstance(found, str) else ""


def of_version(version: str) -> Mapping[str, Mapping[str, str]]:
    """Return the fields of each object; all that are known for another apiVersion, whose fault is reported elsewhere."""
    # oc-mirror v2 takes its own fields in a file of any apiVersion (internal/pkg/config/load.go), so v1alpha2 has them too.
    extras = [_EXTRA.get(version, {})] if version in API_VERSIONS else list(_EXTRA.values())
    return {what: names | {name: "" for extra in extras for name in extra.get(what, ())} for what, names in _COMMON.items()}


def canonical(
    root: Placed, known: Mapping[str, Mapping[str, str]], report: Callable[[Placed, str, str], object], *, asking: bool
) -> Placed:
    """Return a document with the names of its fields as oc-mirror spells them.

    `report` receives position, message and hint of each field that is unknown, or there twice; unless `asking`, not those of
    sections that are not carried.
    """
    return _Naming(known, report, () if asking else _NOT_CARRIED | _OF_REQUESTS).value(root, "the file")


class _Naming:
    def __init__(
        self, known: Mapping[str, Mapping[str, str]], report: Callable[[Placed, str, str], object], ignored: Iterable[str]
    ) -> None:
        self._known = known
        self._spelled = {what: {fold(name): name for name in names} for what, names in known.items()}
        self._report = report
        self._ignored = ignored

    def value(self, at: Placed, what: str) -> Placed:
        if not what:  # labels, for example: the keys of a map are no names of fields, and differ in case for Go too
            return at
        if isinstance(at.value, list):
            return Placed([self.value(child, what) for child in at.value], at.line)
        return Placed(self._fields(at.value, what), at.line) if isinstance(at.value, dict) else at

    def _fields(self, fields: dict[str, Placed], what: str) -> dict[str, Placed]:
        named: dict[str, Placed] = {}
        first: dict[str, tuple[str, Placed]] = {}
        for written, child in fields.items():
            folded = fold(written)
            if folded in first:
                # encoding/json takes the last of them in an order that no user sees: that of sorted names.
                name, before = first[folded]
                message = f"{what}: {written!r} and {name!r} on line {before.line} are one field, in any case"
                if what not in self._ignored:
                    self._report(child, message, "Take one of them out.")
                continue
            first[folded] = (written, child)
            name = self._spelled.get(what, {}).get(folded, written)
            # The value of an unknown field is no object that is known, so its names are kept.
            named[name] = self.value(child, self._known.get(what, {}).get(name, ""))
            if what in self._known and what not in {*_NOT_CARRIED, *self._ignored} and name not in self._known[what]:
                self._report(child, f"{what}: unknown field {written!r}", self._hint(what, folded))
        return named

    def _hint(self, what: str, folded: str) -> str:
        extras = (*_EXTRA.values(), _INSTEAD)
        hints = {fold(name): hint for extra in extras for name, hint in extra.get(what, {}).items()}
        return hints.get(folded) or f"Known fields: {', '.join(self._known[what])}"
