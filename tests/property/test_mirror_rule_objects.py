"""Model test: the objects of mirror rules beside one that has all rules, from a first archive through years of later ones."""

from __future__ import annotations

import json
from random import Random

import pytest

from common.errors import ClusterError
from importer.cluster.kinds import Resource
from importer.cluster.resources.mirror_rules import MAX_OBJECT_SIZE, merge_rules, series_names
from tests.samples import more

KINDS = {
    "ImageDigestMirrorSet": ("config.openshift.io/v1", "imageDigestMirrors"),
    "ImageTagMirrorSet": ("config.openshift.io/v1", "imageTagMirrors"),
    "ImageContentSourcePolicy": ("operator.openshift.io/v1alpha1", "repositoryDigestMirrors"),
}
NAME = "hub-community-operators"
LONG = f"mirror.example.com:8443/{'a-long-name-of-a-prefix/' * 10}"  # long names in place of more rules


def repositories(number: int, seed: int = 0) -> list[str]:
    """Return repositories as catalogs have them: some registries, namespaces of a few repositories."""
    random = Random(seed)
    hosts = ["quay.io", "docker.io", "ghcr.io", "registry.redhat.io", "registry.connect.redhat.com"]
    return [f"{random.choice(hosts)}/vendor-{random.randrange(number // 4 + 1)}/image-{n}-of-operator" for n in range(number)]


def wanted(kind: str, sources: list[str]) -> Resource:
    api, field = KINDS[kind]
    rules = [{"source": each, "mirrors": [LONG + each.partition("/")[2]]} for each in sorted(sources)]
    return Resource.of({"apiVersion": api, "kind": kind, "metadata": {"name": NAME}, "spec": {field: rules}})


def rules_in(bodies) -> list[tuple[str, str]]:
    """Return the rules of all objects, as the machine config operator unites them."""
    found = [rule for body in bodies for rule in body["spec"][KINDS[body["kind"]][1]]]
    return sorted((rule["source"], mirror) for rule in found for mirror in rule["mirrors"])


def rendered(kind: str, sources: list[str]) -> dict[str, dict]:
    """Return the objects of a render without an earlier one, or of a first import."""
    return {each.name: dict(each.body) for each in merge_rules([wanted(kind, sources)], []).write}


def differing(one: dict[str, dict], other: dict[str, dict]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


@pytest.mark.parametrize("kind", ["ImageDigestMirrorSet", *more(["ImageTagMirrorSet", "ImageContentSourcePolicy"])])
@pytest.mark.parametrize("number", [1, 400, 1500, *more([2, 30, 1300, 2600, 4000, 12_000])])
def test_all_objects_together_have_the_rules_of_one_and_each_is_small(kind, number):
    sources = repositories(number)
    found = rendered(kind, sources)
    assert rules_in(found.values()) == rules_in([wanted(kind, sources).body])
    # Twice: the copy of `kubectl apply`, whose quotation marks are escaped, and managedFields, which atomic lists keep short.
    sizes = [len(json.dumps(json.dumps(body))) + len(json.dumps(body)) for body in found.values()]
    assert max(sizes) < 1024 * 1024
    assert len(found) <= 2 + 3 * sum(len(json.dumps(body)) for body in found.values()) // MAX_OBJECT_SIZE
    assert found.keys() <= set(series_names([wanted(kind, sources)]))


@pytest.mark.parametrize("seed", [1, *more(range(2, 20))])
def test_one_repository_more_or_less_changes_one_object_of_a_render(seed):
    """Rules that move between objects are missing while GitOps writes one after the other, and nodes are drained for it."""
    random = Random(seed)
    sources = repositories(1500, seed)
    before = rendered("ImageDigestMirrorSet", sources)
    assert len(before) > 2
    for _ in range(2):
        added = f"quay.io/added/{random.randrange(10**9)}"
        after = rendered("ImageDigestMirrorSet", [*sources, added])
        assert [name for name in differing(before, after) if name in before] in ([], *([name] for name in before))
        assert len(after.keys() - before.keys()) <= 1
        taken = random.choice(sources)
        after = rendered("ImageDigestMirrorSet", [each for each in sources if each != taken])
        (changed,) = differing(before, after)
        assert rules_in([before[changed]]) == sorted([*rules_in([after[changed]]), (taken, LONG + taken.partition("/")[2])])


@pytest.mark.parametrize("seed", [1, *more(range(2, 10))])
def test_archives_of_a_year_extend_the_objects_and_move_nothing(seed):
    random = Random(seed)
    sources, cluster = repositories(900, seed), {}
    for week in range(4):
        carried = random.sample(sources, 650) + [f"quay.io/week-{week}/{n}" for n in range(random.choice([1, 1, 40]))]
        known = {source for source, _ in rules_in(cluster.values())}
        written = {
            each.name: dict(each.body)
            for each in merge_rules([wanted("ImageDigestMirrorSet", carried)], list(cluster.values())).write
        }
        changed = differing({name: cluster.get(name, {}) for name in written}, written)
        if len(set(carried) - known) == 1:
            assert len(changed) == 1
        for name in changed:
            assert set(rules_in([cluster[name]] if name in cluster else [])) <= set(rules_in([written[name]]))
        cluster |= written
        assert {source for source, _ in rules_in(cluster.values())} == known | set(carried)
        assert max(len(json.dumps(body)) for body in cluster.values()) <= MAX_OBJECT_SIZE
    again = merge_rules([wanted("ImageDigestMirrorSet", carried)], list(cluster.values())).write
    assert not differing({name: cluster[name] for name in (each.name for each in again)}, {e.name: e.body for e in again})


def test_a_single_object_of_an_earlier_version_stays_as_it_is():
    """One that is larger than any of today is neither split nor written again: that would take rules from nodes."""
    sources = repositories(1700)
    single = dict(wanted("ImageDigestMirrorSet", sources).body)
    assert len(json.dumps(single)) > 2 * MAX_OBJECT_SIZE
    written = merge_rules([wanted("ImageDigestMirrorSet", [*sources, "quay.io/new/one"])], [single]).write
    assert [each.name for each in written] == [f"{NAME}-2"]
    assert rules_in([written[0].body]) == [("quay.io/new/one", f"{LONG}new/one")]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ClusterError, match="more than 100 objects"):
        merge_rules([wanted("ImageDigestMirrorSet", [f"quay.io/{n}-{'x' * 60_000}" for n in range(220)])], [])
