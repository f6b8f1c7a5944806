"""The size of what nodes get of mirror rules: as the machine config operator renders it, warned of before it is too large."""

from __future__ import annotations

import json

import pytest

from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.finding import Severity
from importer.cluster.kinds import MACHINE_CONFIG, Resource
from importer.cluster.node_size import findings, foresee
from importer.cluster.resources.mirror_rules import Scope, listed
from importer.cluster.resources.node_configuration import LARGE, MAX_MACHINE_CONFIG, NEAR, mirrors_of, registries_conf, size_of
from tests.fakes.cluster import Fault
from tests.fakes.wanted import mirror_rules
from tests.samples import more

ICSP, IDMS, ITMS = "ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet"


def no_other_scope(_scope, _existing):
    raise AssertionError("a small configuration needs no other scope")


def many(number: int) -> dict[str, str]:
    return {f"vendor-{n % 300}/image-{n}": f"mirror/redhat/vendor-{n % 300}/image-{n}" for n in range(number)}


@pytest.mark.parametrize("kinds", [(IDMS, ITMS), (ICSP,)])
def test_the_file_is_that_of_the_operator(start, kinds):
    """openshift/runtime-utils, pkg/registries, EditRegistriesConfig: an entry for each source, over all objects."""
    cluster, _client = start("4.18")
    bodies = [mirror_rules(kind, f"hub-{kind.lower()}", ubi="ubi", **{kind.lower(): "x"}).body for kind in kinds]
    for body in bodies:
        cluster.put(dict(body))
    text = registries_conf([each for body in bodies for each in listed(body)])
    assert text == cluster.simulator.machines._wanted()


def test_a_forbidden_source_is_blocked_in_the_file():
    body = mirror_rules(ubi="ubi").body
    body["spec"]["imageDigestMirrors"][0]["mirrorSourcePolicy"] = "NeverContactSource"
    assert '  location = "registry.redhat.io/ubi"\n  blocked = true\n' in registries_conf(listed(body))


@pytest.mark.parametrize("release", ["4.3", "4.12", "4.18", *more(["4.8", "4.14", "4.20"])])
def test_what_is_foreseen_is_what_nodes_get(start, release):
    """Percent-encoded up to 4.5 in this fake, in base64, and compressed: as the present configuration of the pool is."""
    cluster, client = start(release)
    found = release_of(running_version(client))
    wanted = [mirror_rules(ICSP if release in ("4.3", "4.8", "4.12") else IDMS, **many(200))]
    foreseen = foresee(client, found, wanted, Scope.REPOSITORY, no_other_scope)
    assert foreseen.changes
    assert foreseen.size.sources == 200
    apply(client, wanted, release=found, dry_run=False, tell=str)
    while len(cluster.simulator.machines.texts) < 4:
        cluster.simulator.machines.read()
    *_, (name, text) = cluster.simulator.machines.texts.items()
    rendered = client.get(MACHINE_CONFIG, name)
    assert len(mirrors_of(rendered)) == 200
    assert foreseen.size.registries_conf == len(text)
    assert abs(foreseen.size.machine_config - len(json.dumps(rendered, separators=(",", ":")))) < 500
    assert not list(findings(foreseen))
    again = foresee(client, found, wanted, Scope.REPOSITORY, no_other_scope)
    assert (again.changes, again.size.registries_conf) == (False, len(text))


def long_rules(characters: int) -> list[Resource]:
    """Return rules whose mirrors have so many characters: long ones in place of thousands."""
    parts = [characters // 8] * 7 + [characters - characters // 8 * 7]
    return [mirror_rules(ICSP, f"hub-{n}", **{f"of-{n}": "m" * part}) for n, part in enumerate(parts)]


@pytest.mark.parametrize(("limit", "below", "above"), [(NEAR, None, "warning"), (MAX_MACHINE_CONFIG, "warning", "error")])
def test_a_warning_near_the_limit_and_an_error_beyond_it(start, limit, below, above):
    """etcd takes requests of 1.5 MiB; a rendered MachineConfig is one object, and is not split."""
    _cluster, client = start("4.12")
    release = release_of(running_version(client))

    def scoped(scope, _existing):
        return long_rules(900_000 if scope is Scope.NAMESPACE else 1000)

    def foreseen(characters):
        return foresee(client, release, long_rules(characters), Scope.REPOSITORY, scoped)

    room = (limit - foreseen(80_000).size.machine_config) * 3 // 4 // 3 * 3  # three bytes are four in base64
    found = [foreseen(80_000 + room + more) for more in (0, 6)]
    assert found[0].size.machine_config <= limit < found[1].size.machine_config <= limit + 8
    assert [[each.severity.value for each in findings(one)] for one in found] == [[below] if below else [], [above]]
    (finding,) = findings(found[1])
    # The narrowest scope that leaves room.
    assert (finding.code, finding.fix[:30]) == (LARGE, "Use --mirror-scope registry: t" if limit == NEAR else finding.fix[:30])
    assert [each.partition(":")[0] for each in finding.evidence[1:]] == ["--mirror-scope namespace", "--mirror-scope registry"]


def test_rules_that_no_scope_makes_fewer_are_removed_by_undo(start):
    _cluster, client = start("4.12")
    release = release_of(running_version(client))
    found = foresee(client, release, long_rules(1_200_000), Scope.REPOSITORY, lambda _scope, _existing: long_rules(1_200_000))
    (finding,) = findings(found)
    assert finding.severity is Severity.ERROR
    assert "hub-import undo" in finding.fix


def test_a_scope_that_is_not_enough_is_not_the_advice(start):
    """Rules of the cluster stay, so that a wider scope of the new ones may save some bytes, and the limit is exceeded again."""
    _cluster, client = start("4.12")
    release = release_of(running_version(client))
    found = foresee(client, release, long_rules(1_200_000), Scope.REPOSITORY, lambda _scope, _existing: long_rules(1_190_000))
    (finding,) = findings(found)
    assert finding.fix.startswith("Remove rules that nothing needs.")
    assert finding.fix.endswith("Then use --mirror-scope registry.")


def test_what_may_not_be_read_counts_as_usual(start):
    cluster, client = start("4.18")
    release = release_of(running_version(client))
    cluster.faults.append(Fault("GET", "machineconfigs", 403, 9))
    found = foresee(client, release, [mirror_rules(**many(10))], Scope.REPOSITORY, no_other_scope)
    assert found.size.machine_config > 400_000
    assert found.size.machine_config == size_of(None, "x" * found.size.registries_conf)
