"""Bundles whose resources have to be inside the catalog, and are not: put there from what their images hold. Pure.

OLM lists a channel only when its head tells what it is; a head that was none before may have lost that, for SQLite indexes
keep it for heads alone. And OpenShift 4.3 cannot look into bundle images at all (facts/openshift.md §0.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from common.errors import CatalogError
from exporter.catalog import trim
from exporter.catalog.model import BUNDLE_OBJECT, CSV_METADATA, Bundle, Package
from exporter.catalog.selection import Selection
from exporter.catalog.update_graph import UpdateGraph

Resources = tuple[Any, ...]


def filled(selection: Selection, resources: Callable[[Bundle], Resources], *, every: bool) -> Selection:
    """Return the selection with resources inside every bundle that needs them: heads, or with `every` all.

    A selection that leaves nothing out stays as it is: its catalog goes along untouched.
    """
    if selection.unmodified:
        return selection
    catalog, healed = selection.catalog, set[str]()
    packages = {}
    for name, package in catalog.packages.items():
        changes = {one.name: made for one in _wanting(package, every=every) if (made := _filled(one, resources(one)))}
        healed |= {f"its head {bundle} has neither" for bundle in changes}
        packages[name] = replace(package, bundles={**package.bundles, **changes}) if changes else package
    problems = tuple(one for one in selection.problems if not any(mark in one.message for mark in healed))
    return replace(selection, catalog=replace(catalog, packages=packages), problems=problems)


def lacking(selection: Selection, *, every: bool) -> Iterator[Bundle]:
    """Give the bundles that `filled` would fill."""
    for package in () if selection.unmodified else selection.catalog.packages.values():
        yield from _wanting(package, every=every)


def _filled(bundle: Bundle, resources: Resources) -> Bundle | None:
    return trim.with_objects(bundle, resources) if resources else None


def _wanting(package: Package, *, every: bool) -> Iterator[Bundle]:
    """Give the bundles whose resources are wanted in the catalog and are not there."""
    heads = set(_heads(package))
    for bundle in package.bundles.values():
        if (every and not bundle.has(BUNDLE_OBJECT)) or (bundle.name in heads and not bundle.has(BUNDLE_OBJECT, CSV_METADATA)):
            yield bundle


def _heads(package: Package) -> Iterator[str]:
    for channel in package.channels.values():
        try:
            yield UpdateGraph.of(channel.entries, "").head
        except CatalogError:
            continue
