"""The machine config operator of the fake cluster: mirror rules become registries.conf in MachineConfigs, pools roll to them.

It begins late, as the real one does (a minute or two there, reads of pools here), and until then says that all is done.
"""

from __future__ import annotations

import base64
import gzip
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tests.fakes.cluster_store import Body, Key, Write

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

RULES = {
    "ImageContentSourcePolicy": "repositoryDigestMirrors",
    "ImageDigestMirrorSet": "imageDigestMirrors",
    "ImageTagMirrorSet": "imageTagMirrors",
}
_WRITER = Write("machine-config-controller")


class Machines:
    """Pools and their configurations. Called under the store's lock."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._waits = self._rolls = 0  # reads of pools until the rollout begins, and until it is over
        self._number = 1
        self.texts: dict[str, str] = {}  # registries.conf, by the name of a configuration
        self._current: dict[str, str] = {}  # by pool: the configuration that all its nodes had last

    def rules_changed(self) -> None:
        """Take notice of changed mirror rules."""
        self._waits, self._rolls = self._cluster.mco_reads, self._cluster.pool_reads
        if not self._waits:
            self._begin()

    def read(self) -> None:
        """Let time pass."""
        if self._waits:
            self._waits -= 1
            if not self._waits:
                self._begin()
        else:
            self._rolls = max(self._rolls - 1, 0)
        self.show()

    def seed(self) -> None:
        """Write the configurations that the pools begin with."""
        for key in self._keys("MachineConfigPool"):
            self._render(key.name)
        self.show()

    def show(self) -> None:
        """Write the status of every pool, as the stories have it."""
        for key in self._keys("MachineConfigPool"):
            told = self._cluster.pool_story(key.name)
            body = self._cluster.store.get(key)
            rolling, current = self._rolls > 0 and not self._waits, ""
            wanted = body["spec"]["configuration"]["name"]
            if told.get("frozen"):
                rolling = rolling or self._number > 1
            elif body["spec"].get("paused"):  # its nodes stay on what they have; a new configuration is rendered all the same
                current = self._current.setdefault(key.name, wanted)
                rolling = current != wanted
            elif not rolling:
                self._current[key.name] = wanted
            status = pool_status(body, rolling=rolling, number=self._number, current=current)
            for each in told.get("conditions") or ():
                status["conditions"] = [one for one in status["conditions"] if one["type"] != each["type"]] + [each]
            self._cluster.store.set_status(key, {**status, **(told.get("status") or {})})

    def _begin(self) -> None:
        """Render new configurations, unless they would be what is there, or the rules cannot be.

        Of rules that cannot be rendered the pools show nothing: they stay Updated, and the controller's log has the error.
        """
        if self.refusal():
            self._rolls = 0
            return
        if self._wanted() == getattr(self, "_rendered", None):
            self._rolls = 0
            return
        self._number += 1
        for key in self._keys("MachineConfigPool"):
            name = self._render(key.name)
            self._cluster.store.merge_patch(key, {"spec": {"configuration": {"name": name}}}, _WRITER)
        self.show()

    def refusal(self) -> str:
        """Return why no registries.conf is rendered; empty where one is (`validateRegistriesConfScopes`).

        machine-config-operator, pkg/controller/container-runtime-config/helpers.go.
        """
        policies: dict[str, str] = {}
        for _, rule in self._rules():
            source, policy = rule["source"], rule.get("mirrorSourcePolicy") or "AllowContactingSource"
            if policies.setdefault(source, policy) != policy:
                kinds = "imagedigestmirrorsets, imagetagmirrorsets, or imagecontentsourcepolicies"
                return f'conflicting mirrorSourcePolicy is set for the same source "{source}" in {kinds}'
            if policy == "NeverContactSource" and source in (rule.get("mirrors") or ()):
                return f'cannot set mirrorSourcePolicy: NeverContactSource if the source "{source}" is one of the mirrors'
        return ""

    def rules(self) -> Iterator[Mapping[str, Any]]:
        """Give the mirror rules of all objects."""
        yield from (rule for _, rule in self._rules())

    def _render(self, pool: str) -> str:
        self._rendered = self._wanted()
        name = f"rendered-{pool}-{self._number}"
        self.texts[name] = self._rendered
        key = Key(self._cluster.kind("MachineConfig"), "", name)
        file = {"path": "/etc/containers/registries.conf", "mode": 420, "contents": self._contents(self._rendered)}
        other = {"path": "/etc/hostname", "mode": 420, "contents": {"source": "data:,node"}}
        spec = {"config": {"ignition": {"version": "3.2.0"}, "storage": {"files": [other, file]}}}
        if self._cluster.store.find(key) is None:
            self._cluster.store.create(key, {"metadata": {"name": name}, "spec": spec}, _WRITER)
        return name

    def _contents(self, text: str) -> Body:
        release = self._cluster.release or (4, 18)
        if release < (4, 6):
            return {"source": "data:," + urllib.parse.quote(text, safe="!*()")}  # as vincent-petithory/dataurl, Escape
        if release < (4, 14):
            return {"source": "data:text/plain;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()}
        return {"compression": "gzip", "source": "data:;base64," + base64.b64encode(gzip.compress(text.encode())).decode()}

    def _wanted(self) -> str:
        mirrors: dict[str, list[tuple[str, str]]] = {}
        for body, rule in self._rules():
            how = "tag-only" if body["kind"] == "ImageTagMirrorSet" else "digest-only"
            mirrors.setdefault(rule["source"], []).extend((mirror, how) for mirror in rule.get("mirrors") or ())
        lines = ['unqualified-search-registries = ["registry.access.redhat.com", "docker.io"]', 'short-name-mode = ""']
        for source, listed in sorted(mirrors.items()):
            lines += ["", "[[registry]]", '  prefix = ""', f'  location = "{source}"']
            for mirror, how in listed:
                lines += ["", "  [[registry.mirror]]", f'    location = "{mirror}"', f'    pull-from-mirror = "{how}"']
        return "\n".join(lines) + "\n"

    def _rules(self) -> Iterator[tuple[Body, Mapping[str, Any]]]:
        for kind, where in RULES.items():
            for key in self._keys(kind):
                body = self._cluster.store.get(key)
                for rule in (body.get("spec") or {}).get(where) or ():
                    yield body, rule

    def _keys(self, kind: str) -> list[Key]:
        found = [each for each in self._cluster.kinds if each.kind == kind]
        return self._cluster.store.keys(found[0]) if found else []


def pool_status(pool: Body, *, rolling: bool, number: int = 1, current: str = "") -> Body:
    """Return the status of a pool of three nodes."""
    name = pool["metadata"]["name"]
    former = current or f"rendered-{name}-{number - 1}"
    return {
        "observedGeneration": pool["metadata"]["generation"],
        "configuration": {"name": former if rolling else pool["spec"]["configuration"]["name"]},
        "machineCount": 3,
        "updatedMachineCount": 1 if rolling else 3,
        "readyMachineCount": 3,
        "unavailableMachineCount": 0,
        "degradedMachineCount": 0,
        "conditions": [
            {"type": "Updated", "status": str(not rolling)},
            {"type": "Updating", "status": str(rolling)},
            {"type": "Degraded", "status": "False"},
        ],
    }
