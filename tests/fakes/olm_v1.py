"""A model of the resolver of OLM v1 for one ClusterExtension and one catalog, written from its source, in quadratic time.

operator-framework/operator-controller, internal/operator-controller: resolve/catalog.go (CatalogResolver.Resolve),
catalogmetadata/filter (successors.go, bundle_predicates.go), catalogmetadata/compare (ByVersion).
"""

from __future__ import annotations

import semver

from tests.fakes.olm_steps import covers

# The constraints of the tests, spelled out (Masterminds/semver v3): prereleases are allowed by a constraint with one.
_CONSTRAINTS = {
    "": lambda _: True,
    "<2": lambda v: not v.prerelease and v < "2.0.0",
    ">=1.1.0-0": lambda v: v >= "1.1.0-0",
    "1.x": lambda v: not v.prerelease and v.major == 1,
}


def resolve(package, installed, channels, wanted, *, any_edge):
    """Return the name of the bundle that is installed, or stays; None where no bundle is found."""
    candidates = {one.name: one for channel in package.channels for one in channel.bundles}
    if channels:
        listed = {one.name for channel in package.channels if channel.name in channels for one in channel.bundles}
        candidates = {name: one for name, one in candidates.items() if name in listed}
    candidates = {name: one for name, one in candidates.items() if _CONSTRAINTS[wanted](semver.Version.parse(one.version))}
    if installed and not any_edge:
        candidates = {name: one for name, one in candidates.items() if name == installed or _succeeds(package, name, installed)}
    ordered = sorted(candidates, key=lambda name: semver.Version.parse(candidates[name].version), reverse=True)
    return ordered[0] if ordered else None


def _succeeds(package, name, installed):
    for channel in package.channels:
        for entry in channel.bundles:
            if entry.name == name and (
                entry.replaces == installed or installed in entry.skips or covers(entry.skip_range, installed)
            ):
                return True
    return False


def steps(package, installed, channels, wanted, *, any_edge):
    """Return the bundles that are installed one after the other, and whether they come back to one of before."""
    found, seen = [], {installed}
    while True:
        following = resolve(package, installed, channels, wanted, any_edge=any_edge)
        if following is None or following == installed:
            return found, False
        if following in seen:
            return found, True
        found.append(following)
        seen.add(following)
        installed = following
