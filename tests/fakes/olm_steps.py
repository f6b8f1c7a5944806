"""A model of OLM's resolver for one Subscription, written from its source, in quadratic time.

operator-framework/operator-lifecycle-manager, pkg/controller/registry/resolver: resolver.go (getSubscriptionVariables,
sortChannel), cache/predicates.go. Ranges are those of blang/semver, of which catalogs have comparisons, spaces and `||`.
"""

from __future__ import annotations

import operator as op
import re
from functools import cache

import semver


class ChannelError(Exception):
    """OLM cannot sort the channel."""


def sort_channel(bundles):
    """Return the entries that can be installed, head first."""
    lookup = {one.name: one for one in bundles}
    replaced_by, replaces, skipped = set(), {}, set()
    for one in bundles:
        if one.replaces in lookup:
            replaced_by.add(one.replaces)
            replaces[one.name] = one.replaces
        for name in one.skips:
            if name in lookup:
                replaced_by.add(name)
                skipped.add(name)
    heads = [one.name for one in bundles if one.name not in replaced_by]
    if len(heads) != 1:
        raise ChannelError(f"{len(heads)} heads")
    chain, visited, current = [], set(), heads[0]
    while True:
        visited.add(current)
        if current not in skipped:
            chain.append(lookup[current])
        following = replaces.get(current)
        if following is None:
            return chain
        if following in visited:
            raise ChannelError("cycle")
        current = following


_parsed = cache(semver.Version.parse)
_SIGNS = {"": op.eq, "=": op.eq, "==": op.eq, "!": op.ne, "!=": op.ne, "<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}


@cache
def _alternatives(text):
    """Return the comparisons of a skip range; none for an invalid one."""
    for sign in "<>=":
        while f"{sign} " in text:  # splitAndTrim of range.go
            text = text.replace(f"{sign} ", sign)
    text = re.sub(r"((?:>=|<)\d+\.\d+)\.x\b", r"\1.0", text)  # expandWildcardVersion
    try:
        words = [[re.fullmatch(r"([<>=!]*)(.*)", word).groups() for word in one.split()] for one in text.split("||")]
        return [[(_SIGNS[sign], _parsed(version)) for sign, version in one] for one in words]
    except (ValueError, KeyError):
        return []


def covers(text, version):
    """Return whether a skip range has a version; an invalid one has none."""
    parsed = _parsed(version)
    return bool(text) and any(all(holds(parsed, other) for holds, other in one) for one in _alternatives(text))


def updated(channel, name, version):
    """Return the name of the entry that OLM takes in place of an installed one; None when it stays."""
    for one in channel:
        if one.replaces == name or name in one.skips or (version and covers(one.skip_range, version)):
            return None if one.name == name else one.name
    return None


def steps(entries, versions, name, version):
    """Return the entries that OLM installs one after the other; the last one twice when it goes in circles."""
    return walk(sort_channel([one for one in entries if versions.get(one.name) is not None]), versions, name, version)


def walk(channel, versions, name, version):
    """Return the same for a channel that is sorted."""
    found, seen = [], {name}
    while (following := updated(channel, name, version)) is not None:
        found.append(following)
        if following in seen:
            break
        seen.add(following)
        name, version = following, versions[following]
    return found
