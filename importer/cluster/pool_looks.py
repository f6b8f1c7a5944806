"""Looks at the pools of nodes: whether each has the mirror rules, in its configuration and on its machines. Reads only."""

from __future__ import annotations

from collections.abc import Collection

from common.errors import ClusterError
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import MACHINE_CONFIG, MACHINE_CONFIG_POOL
from importer.cluster.looks import Look, condition, short, status_of
from importer.cluster.registries_conf import Pair, mirrors_of


def pools(client: ClusterClient, rules: Collection[Pair] = ()) -> list[Look]:
    """Look at the rollout of every MachineConfigPool; none where the cluster has no such kind (facts: openshift §5.3).

    A pool is done when the configuration that it is on gives its nodes all `rules`: for a minute or two after rules were
    written it says that it is done, and has not begun. Raises ClusterError for a paused pool: it would never end.
    """
    return [_pool(each, rules_lacking(client, each, rules)) for each in client.list(MACHINE_CONFIG_POOL) or []]


def rules_lacking(client: ClusterClient, pool: Body, rules: Collection[Pair]) -> list[Pair]:
    """Return the rules that the configuration wanted for a pool does not have. One that cannot be read is believed."""
    name = str(((pool.get("spec") or {}).get("configuration") or {}).get("name") or "")
    if not rules or not name:
        return []
    found = client.get(MACHINE_CONFIG, name)
    mirrors = mirrors_of(found) if found is not None else None
    return [] if mirrors is None else sorted(set(rules) - mirrors)


def is_rolled_out(pool: Body) -> bool:
    """Say whether all machines of a pool are on the configuration that is wanted for them."""
    spec, status = pool.get("spec") or {}, status_of(pool)
    return (
        condition(pool, "Updated").get("status") == "True"
        and condition(pool, "Degraded").get("status") != "True"
        and status.get("observedGeneration") == pool["metadata"].get("generation")
        and (spec.get("configuration") or {}).get("name") == (status.get("configuration") or {}).get("name")
        and status.get("updatedMachineCount", 0) == status.get("machineCount", 0)
    )


def how_far(pool: Body) -> str:
    """Say how far a pool is."""
    status = status_of(pool)
    return f"{status.get('updatedMachineCount', 0)} of {status.get('machineCount', 0)} nodes updated"


def complaint(pool: Body) -> str:
    """Return what a degraded pool says of itself; empty for one that is well."""
    if condition(pool, "Degraded").get("status") != "True":
        return ""
    found = (condition(pool, kind).get("message") for kind in ("Degraded", "RenderDegraded", "NodeDegraded"))
    return short(next(filter(None, found), "no reason is given"))


def _pool(pool: Body, lacking: Collection[Pair]) -> Look:
    name, done = pool["metadata"]["name"], is_rolled_out(pool)
    if (lacking or not done) and (pool.get("spec") or {}).get("paused"):
        raise ClusterError(
            f"MachineConfigPool {name} is paused, with {how_far(pool)}: its nodes get no mirror rules",
            hint=f'oc patch machineconfigpool {name} --type merge -p \'{{"spec":{{"paused":false}}}}\' and run this again.',
        )
    thing = f"MachineConfigPool {name}"
    if said := complaint(pool):
        return Look(thing, ok=False, state=f"{how_far(pool)}, degraded", evidence=said, then="nothing, until that is mended")
    if done and lacking:
        state = f"{how_far(pool)}, without {len(lacking)} of the mirror rules"
        return Look(thing, ok=False, state=state, then="the machine config operator takes a minute or two to begin")
    return Look(thing, ok=done, state=how_far(pool), then="" if done else "its nodes follow one after another")
