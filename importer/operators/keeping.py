"""How Subscriptions keep a catalog: the default name that one takes without an option, or another one that they name. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from importer.cluster.kinds import SUBSCRIPTION, Resource
from importer.cluster.resources.catalog_source import DEFAULT_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from importer.operators.installed import Installed, SourceKey, Subscribed
    from importer.operators.outlook import Outlook

# From about 4.6.16 on the marketplace operator leaves a CatalogSource of a default's name alone when it restarts
# (operator-marketplace#373).
_SAFE_FROM = (4, 6, 16)
_UNSAFE_RELEASE = (4, 6)


def leaves_names(version: str | None) -> bool:
    """Return whether the marketplace operator of a version, such as 4.6.20, leaves CatalogSources of a default's name."""
    parts = [int(part) for part in (version or "").split("-")[0].split(".")[:3] if part.isdigit()]
    return tuple(parts[:2]) != _UNSAFE_RELEASE or tuple(parts) >= _SAFE_FROM


def default_names(seen: Installed, catalogs: Mapping[int, Collection[str]], going: Collection[SourceKey]) -> dict[int, str]:
    """Return the names of default sources that catalogs may take, by the number of the catalog.

    `catalogs`: the packages of each. A name is given where Subscriptions name a default that is missing, or that is `going`,
    and exactly one catalog has some of their packages, or all of them. A catalog that fits several gets that of the most
    Subscriptions.
    """
    wanted: dict[str, Counter[str]] = {}
    for one in seen.subscriptions:
        here = one.source[0] == seen.sources.namespace and one.source[1] in DEFAULT_NAMES
        if here and (one.source in going or seen.sources.lack(one.source)):
            wanted.setdefault(one.source[1], Counter())[one.package] += 1
    found: dict[int, str] = {}
    for name, packages in sorted(wanted.items(), key=lambda each: (-each[1].total(), each[0])):
        number = _only(catalogs, packages.keys())
        if number is not None and number not in found:
            found[number] = name
    return found


def _only(catalogs: Mapping[int, Collection[str]], packages: Iterable[str]) -> int | None:
    wanted = set(packages)
    fits = [number for number, carried in catalogs.items() if not wanted.isdisjoint(carried)]
    if len(fits) > 1:
        fits = [number for number in fits if wanted.issubset(catalogs[number])]
    return fits[0] if len(fits) == 1 else None


def repointed(seen: Installed, outlook: Outlook) -> dict[tuple[str, str], SourceKey]:
    """Return the CatalogSource that each Subscription without one may name: that of the only catalog with its package."""
    found = {}
    for one in seen.subscriptions:
        if outlook.lacks(one.source):
            fits = [each for each in outlook.offerings if one.package in each.packages]
            if len(fits) == 1:
                found[one.namespace, one.name] = fits[0].source
    return found


def resources(repointed: Mapping[tuple[str, str], SourceKey]) -> tuple[Resource, ...]:
    """Return the fields of Subscriptions that name another CatalogSource."""
    return tuple(
        Resource.of(
            {
                "apiVersion": SUBSCRIPTION.api_version,
                "kind": SUBSCRIPTION.name,
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"source": source[1], "sourceNamespace": source[0]},
            },
            shared=True,
        )
        for (namespace, name), source in sorted(repointed.items())
    )


def repoint(one: Subscribed, source: SourceKey) -> str:
    """Return the command that lets a Subscription name another CatalogSource."""
    patch = f'{{"spec":{{"source":"{source[1]}","sourceNamespace":"{source[0]}"}}}}'
    return f"oc patch subscription.operators.coreos.com {one.name} -n {one.namespace} --type merge -p '{patch}'"
