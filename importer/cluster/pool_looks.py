"""Looks at the pools of nodes: whether each has the mirror rules, in its configuration and on its machines. Reads only."""

from __future__ import annotations

from collections.abc import Collection

from common.errors import ClusterError
from importer.cluster.client import Body, ClusterClient
from importer.cluster.kinds import MACHINE_CONFIG, MACHINE_CONFIG_POOL
from importer.cluster.looks import Look, condition, short, status_of
from importer.cluster.registries_conf import Pair, mirrors_of

_SHOWN = 3
_SETTINGS = {
    "kernelArguments": "other kernel arguments",
    "kernelType": "another kernel type",
    "extensions": "other extensions",
    "fips": "another FIPS mode",
}


def pools(client: ClusterClient, rules: Collection[Pair] = ()) -> list[Look]:
    """Look at the rollout of every MachineConfigPool; none where the cluster has no such kind (facts: openshift §5.3).

    A pool is done when the configuration that it is on gives its nodes all `rules`: for a minute or two after rules were
    written it says that it is done, and has not begun. A paused pool is well when its nodes have the rules already.
    Raises ClusterError for a paused pool whose nodes lack rules: it would never end.
    """
    return [_pool(client, each, rules) for each in client.list(MACHINE_CONFIG_POOL) or []]


def rules_lacking(client: ClusterClient, pool: Body, rules: Collection[Pair]) -> list[Pair]:
    """Return the rules that the configuration wanted for a pool does not have; of a paused pool, its current one's too.

    One that cannot be read is believed.
    """
    names = {_wanted(pool), *([_current(pool)] if is_paused(pool) else [])} - {""}
    found = [client.get(MACHINE_CONFIG, name) for name in sorted(names)] if rules else []
    known = [mirrors for mirrors in (mirrors_of(each) for each in found if each is not None) if mirrors is not None]
    return sorted({rule for mirrors in known for rule in set(rules) - mirrors})


def is_paused(pool: Body) -> bool:
    """Say whether the nodes of a pool stay on the configuration that they have."""
    return bool((pool.get("spec") or {}).get("paused"))


def held_back(client: ClusterClient, pool: Body) -> str:
    """Say what would be rolled out to the nodes of a paused pool if it were not paused. Raises ClusterError."""
    current, wanted = _current(pool), _wanted(pool)
    if current == wanted and is_rolled_out(pool):
        return "nothing that is pending, and the mirror rules that are written later"
    before, after = (client.get(MACHINE_CONFIG, name) if name else None for name in (current, wanted))
    what = ", ".join(_config_changes(before, after)) if before and after else "what differs cannot be read"
    return f"{current or 'an unknown configuration'} → {wanted or 'an unknown one'}: {what}"


def _wanted(pool: Body) -> str:
    return str(((pool.get("spec") or {}).get("configuration") or {}).get("name") or "")


def _current(pool: Body) -> str:
    return str((status_of(pool).get("configuration") or {}).get("name") or "")


def _config_changes(before: Body, after: Body) -> list[str]:
    """Name what differs between two MachineConfigs, the operating system first: it makes nodes reboot."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    found = ["another operating system image (its nodes reboot)"] if old.get("osImageURL") != new.get("osImageURL") else []
    found += [text for name, text in _SETTINGS.items() if (old.get(name) or None) != (new.get(name) or None)]
    files = sorted(path for path, _ in _files(old) ^ _files(new))
    names = list(dict.fromkeys(files))
    found += (
        [f"files {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"]
        if names
        else []
    )
    return found or ["the same content under another name"]


def _files(spec: Body) -> set[tuple[str, str]]:
    listed = (((spec.get("config") or {}).get("storage") or {}).get("files")) or []
    return {(str(each.get("path")), str(each.get("contents"))) for each in listed}


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


def unpause(name: str, what: str) -> str:
    """Return the command that unpauses a pool, after what that does to its nodes."""
    command = f'oc patch machineconfigpool {name} --type merge -p \'{{"spec":{{"paused":false}}}}\''
    return f"Unpausing it rolls out {what}. If that is wanted now: {command}"


def _pool(client: ClusterClient, pool: Body, rules: Collection[Pair]) -> Look:
    name, done, lacking = pool["metadata"]["name"], is_rolled_out(pool), rules_lacking(client, pool, rules)
    if is_paused(pool) and (lacking or not (done or rules)):
        what = f"lack {len(lacking)} of the mirror rules" if lacking else "may lack mirror rules: which they need is not known"
        raise ClusterError(
            f"MachineConfigPool {name} is paused, with {how_far(pool)}: its nodes {what}",
            hint=f"{unpause(name, held_back(client, pool))}; then run this again.",
        )
    thing = f"MachineConfigPool {name}"
    if said := complaint(pool):
        return Look(thing, ok=False, state=f"{how_far(pool)}, degraded", evidence=said, then="nothing, until that is mended")
    if is_paused(pool):
        return Look(thing, ok=True, state=f"{how_far(pool)}, paused; no mirror rule is missing")
    if done and lacking:
        state = f"{how_far(pool)}, without {len(lacking)} of the mirror rules"
        return Look(thing, ok=False, state=state, then="the machine config operator takes a minute or two to begin")
    return Look(thing, ok=done, state=how_far(pool), then="" if done else "its nodes follow one after another")
