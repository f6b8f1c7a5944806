"""A new rule disables no broader foreign one, and no source gets two policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ClusterError
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.kinds import Resource
from importer.cluster.resources.mirror_rules import listed, merge_rules, refused_sources
from tests.fakes.wanted import mirror_rules

KINDS = {
    "ImageContentSourcePolicy": ("operator.openshift.io/v1alpha1", "repositoryDigestMirrors"),
    "ImageDigestMirrorSet": ("config.openshift.io/v1", "imageDigestMirrors"),
    "ImageTagMirrorSet": ("config.openshift.io/v1", "imageTagMirrors"),
}
ICSP, IDMS, ITMS = KINDS
SOURCE, MIRROR = "registry.redhat.io/ubi", "mirror.example:5000/ubi"
NEVER = "NeverContactSource"


def foreign(source, *mirrors, kind=IDMS, name="foreign", policy=""):
    rule = {"source": source, "mirrors": list(mirrors), **({"mirrorSourcePolicy": policy} if policy else {})}
    api, field = KINDS[kind]
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {field: [rule]}}


def written(wanted, *live):
    """Return (kind, source) → (mirrors, policy) of the written rules."""
    return {
        (each.kind, rule["source"]): (rule["mirrors"], rule.get("mirrorSourcePolicy", ""))
        for each in merge_rules(wanted, live).write
        for rules in each.body["spec"].values()
        for rule in rules
    }


@pytest.mark.parametrize("kind", [IDMS, ICSP])
@pytest.mark.parametrize(
    ("broad", "mirror"),
    [
        ("registry.redhat.io", "cache.example/all/a/b/c"),
        ("registry.redhat.io/a", "cache.example/all/b/c"),
        ("registry.redhat.io/a/b", "cache.example/all/c"),
        ("*.redhat.io", "cache.example/all/a/b/c"),
        ("*.io", "cache.example/all/a/b/c"),
    ],
)
def test_the_mirrors_of_a_broader_rule_come_after_its_own(kind, broad, mirror):
    live = foreign(broad, "cache.example/all", kind=kind)
    found = written([mirror_rules(**{"a/b/c": "own"})], live)
    assert found == {(IDMS, "registry.redhat.io/a/b/c"): (["mirror.example:5000/own", mirror], "")}


@pytest.mark.parametrize(
    "source",
    [
        "registry.redhat.io/ub",
        "registry.redhat.io/ubi/more",
        "registry.redhat.io:5000",
        "redhat.io",
        "*.registry.redhat.io",
        "*.example",
        SOURCE,
    ],
)
def test_a_rule_that_is_not_broader_adds_nothing(source):
    assert written([mirror_rules(ubi="ubi")], foreign(source, "cache.example/all"))[IDMS, SOURCE] == ([MIRROR], "")


def test_a_rule_for_a_whole_registry_has_the_mirrors_of_a_wildcard_and_a_port_has_none():
    for source, mirrors in (("registry.redhat.io", [MIRROR, "cache.example"]), ("registry.redhat.io:5000/a", [MIRROR])):
        wide = Resource.of(foreign(source, MIRROR, name="hub-a"))
        assert written([wide], foreign("*.redhat.io", "cache.example")) == {(IDMS, source): (mirrors, "")}


def test_of_several_broader_rules_the_most_specific_one_counts_with_all_that_have_its_source():
    live = [
        foreign("registry.redhat.io", "far.example"),
        foreign("*.redhat.io", "further.example", name="wild"),
        foreign("registry.redhat.io/a", "one.example", "two.example/x", name="near"),
        foreign("registry.redhat.io/a", "three.example", kind=ICSP, name="old"),
    ]
    found = written([mirror_rules(**{"a/b": "own"})], *live)
    expected = ["mirror.example:5000/own", "one.example/b", "two.example/x/b", "three.example/b"]
    assert found == {(IDMS, "registry.redhat.io/a/b"): (expected, "")}


def test_a_foreign_rule_for_the_source_itself_overrides_a_broader_one_already():
    live = [foreign("registry.redhat.io", "cache.example"), foreign(SOURCE, "other.example/ubi", name="exact")]
    assert written([mirror_rules(ubi="ubi")], *live) == {(IDMS, SOURCE): ([MIRROR], "")}


def test_a_rule_without_a_real_mirror_is_none():
    live = [
        foreign("registry.redhat.io", "cache.example"),
        foreign("registry.redhat.io/a", "registry.redhat.io/a", name="itself"),
        foreign("registry.redhat.io/a", name="empty"),
    ]
    (found,) = written([mirror_rules(**{"a/b": "own"})], *live).values()
    assert found == (["mirror.example:5000/own", "cache.example/a/b"], "")


@pytest.mark.parametrize(("own", "broad"), [(IDMS, ITMS), (ITMS, IDMS), (ITMS, ICSP)])
def test_pulls_of_the_other_kind_keep_their_mirrors_too(own, broad):
    live = foreign("registry.redhat.io", "cache.example", kind=broad)
    other = ITMS if own == IDMS else IDMS
    found = written([mirror_rules(own, ubi="ubi")], live)
    assert found == {(own, SOURCE): ([MIRROR], ""), (other, SOURCE): (["cache.example/ubi"], "")}


def test_a_source_wanted_for_both_kinds_of_pull_is_written_once_for_each():
    live = [
        foreign("registry.redhat.io", "cache.example"),
        foreign("registry.redhat.io", "tags.example", kind=ITMS, name="tags"),
    ]
    found = written([mirror_rules(ubi="ubi"), mirror_rules(ITMS, ubi="ubi")], *live)
    assert found == {(IDMS, SOURCE): ([MIRROR, "cache.example/ubi"], ""), (ITMS, SOURCE): ([MIRROR, "tags.example/ubi"], "")}


def test_an_earlier_rule_is_extended_in_place_and_then_nothing_changes():
    earlier = mirror_rules(ubi="ubi", old="old").body
    live = foreign("registry.redhat.io", "cache.example")
    (extended,) = merge_rules([mirror_rules(ubi="ubi")], [earlier, live]).write
    assert [rule["mirrors"] for rule in extended.body["spec"]["imageDigestMirrors"]] == [
        [MIRROR, "cache.example/ubi"],
        ["mirror.example:5000/old"],
    ]
    assert merge_rules([mirror_rules(ubi="ubi")], [extended.body, live]).write == (extended,)


def test_wanted_rules_do_not_extend_each_other():
    wide = Resource.of(foreign("registry.redhat.io", "mirror.example:5000", name="hub-redhat-operators"))
    narrow = mirror_rules(name="hub-b", web="other/web")
    first = merge_rules([wide, narrow], []).write
    assert merge_rules([wide, narrow], [each.body for each in first]).write == first


@pytest.mark.parametrize("where", [IDMS, ITMS])
@pytest.mark.parametrize("own", [IDMS, ITMS])
def test_one_policy_for_a_source_over_all_kinds(where, own):
    live = foreign(SOURCE, "other.example/ubi", kind=where, policy=NEVER)
    assert written([mirror_rules(own, ubi="ubi")], live)[own, SOURCE] == ([MIRROR], NEVER)


@pytest.mark.parametrize("where", [IDMS, ITMS])
@pytest.mark.parametrize("policy", [NEVER, ""])
def test_a_foreign_rule_without_mirrors_has_a_policy_too(where, policy):
    bare = foreign(SOURCE, kind=where, policy=policy)
    broad = foreign("registry.redhat.io", "cache.example", name="broad", policy=NEVER)
    assert written([mirror_rules(ubi="ubi")], bare)[IDMS, SOURCE] == ([MIRROR], policy)
    assert written([mirror_rules(ubi="ubi")], bare, broad)[IDMS, SOURCE][1] == policy


def test_a_cluster_gets_one_policy_and_the_second_apply_writes_nothing(start):
    cluster, client = start("4.18")
    cluster.put(foreign(SOURCE, "other.example/ubi", policy=NEVER), "another-manager")
    release = release_of(running_version(client))
    for _ in range(2):
        result = apply(client, [mirror_rules(ITMS, ubi="ubi")], release=release, dry_run=False, tell=str)
    assert result.changed == ()
    (rule,) = cluster.get(ITMS, "hub-redhat-operators")["spec"]["imageTagMirrors"]
    assert rule == {"source": SOURCE, "mirrors": [MIRROR], "mirrorSourcePolicy": NEVER}


def test_a_policy_for_tags_counts_for_digests_that_are_wanted_with_them():
    live = foreign(SOURCE, "other.example/ubi", kind=ITMS, policy=NEVER)
    found = written([mirror_rules(ubi="ubi"), mirror_rules(ITMS, ubi="ubi")], live)
    assert {policy for _, policy in found.values()} == {NEVER}


def test_a_broader_policy_is_not_loosened():
    live = foreign("registry.redhat.io", "cache.example", policy=NEVER)
    assert written([mirror_rules(ubi="ubi")], live) == {(IDMS, SOURCE): ([MIRROR, "cache.example/ubi"], NEVER)}


def test_a_foreign_icsp_allows_contact_with_the_source():
    live = [foreign(SOURCE, "other.example/ubi", kind=ICSP), foreign("registry.redhat.io", "cache.example", policy=NEVER)]
    assert written([mirror_rules(ubi="ubi")], *live) == {(IDMS, SOURCE): ([MIRROR], "")}


def test_two_policies_that_an_earlier_import_wrote_become_one():
    earlier = mirror_rules(ITMS, ubi="ubi").body
    live = foreign(SOURCE, "other.example/ubi", policy=NEVER)
    (corrected,) = merge_rules([mirror_rules(ITMS, ubi="ubi")], [earlier, live]).write
    assert corrected.body["spec"]["imageTagMirrors"] == [{"source": SOURCE, "mirrors": [MIRROR], "mirrorSourcePolicy": NEVER}]
    assert merge_rules([mirror_rules(ITMS, ubi="ubi")], [corrected.body, live]).write == (corrected,)


def test_a_policy_that_an_icsp_cannot_have_is_refused_by_the_name_of_the_object():
    live = foreign(SOURCE, "other.example/ubi", policy=NEVER)
    with pytest.raises(ClusterError, match=f"ImageDigestMirrorSet foreign has NeverContactSource for {SOURCE}") as caught:
        merge_rules([mirror_rules(ICSP, ubi="ubi")], [live])
    assert "oc adm migrate icsp" in caught.value.hint
    with pytest.raises(ClusterError, match="ImageDigestMirrorSet foreign"):
        merge_rules([mirror_rules(ICSP, ubi="ubi")], [foreign(SOURCE, policy=NEVER)])
    broad = foreign("registry.redhat.io", "cache.example", policy=NEVER)
    assert written([mirror_rules(ICSP, ubi="ubi")], broad) == {(ICSP, SOURCE): ([MIRROR, "cache.example/ubi"], "")}


names = st.sampled_from(["r.io", "r.io/a", "r.io/a/b", "r.io/a/b/c", "q.r.io", "q.r.io/a", "*.r.io", "*.io"])
existing = st.builds(
    lambda number, source, mirror, kind, policy: foreign(
        source, mirror, kind=kind, name=f"foreign-{number}", policy="" if kind == ICSP else policy
    ),
    st.integers(0, 99),
    names,
    st.sampled_from(["c.example", "d.example/x"]),
    st.sampled_from([ICSP, IDMS, ITMS]),
    st.sampled_from(["", NEVER]),
)
repositories = st.sampled_from(["r.io/a", "r.io/a/b", "r.io/a/b/c", "q.r.io/a", "q.r.io/a/b"])


def followed(bodies, name, *, by_tag):
    """Return where nodes look for a repository, and whether they may not ask its source: by the longest prefix, in order."""
    rules = [
        (rule["source"], mirror, body["kind"] == ITMS, rule.get("mirrorSourcePolicy"))
        for body in bodies
        for rule in next(iter(body["spec"].values()))
        for mirror in rule["mirrors"]
    ]
    host = name.partition("/")[0]

    def rest(source):
        if source.startswith("*."):
            return name[len(host) :] if host.endswith(source[1:]) else None
        return name[len(source) :] if f"{name}/".startswith(f"{source}/") else None

    chosen = max(sorted(source for source, *_ in rules if rest(source) is not None), key=len, default=None)
    found = [each for each in rules if each[0] == chosen]
    places = {mirror + rest(chosen) for _, mirror, tag, _ in found if tag is by_tag}
    return places, any(policy == NEVER for *_, policy in found)


@given(
    st.lists(existing, max_size=4, unique_by=lambda body: body["metadata"]["name"]),
    st.lists(repositories, max_size=3, unique=True),
    st.sampled_from([IDMS, ITMS]),
)
def test_every_repository_keeps_its_mirrors_and_a_second_merge_changes_nothing(live, sources, kind):
    wanted = [
        Resource.of(foreign(source, f"m.example/{source}", kind=kind, name=f"hub-{n}")) for n, source in enumerate(sources)
    ]
    merged = {(each.kind, each.name): each.body for each in merge_rules(wanted, live).write}
    after = [*live, *merged.values()]
    for name in ["r.io/a", "r.io/a/b", "r.io/a/b/c", "r.io/z", "q.r.io/a", "q.r.io/a/b", "q.r.io/z"]:
        for by_tag in (False, True):
            before, blocked = followed(live, name, by_tag=by_tag)
            places, still_blocked = followed(after, name, by_tag=by_tag)
            assert before <= places
            assert still_blocked or not blocked
            if name in sources and by_tag is (kind == ITMS):
                assert f"m.example/{name}" in places
    again = {(each.kind, each.name): each.body for each in merge_rules(wanted, after).write}
    assert again == {key: body for key, body in merged.items() if key in again}


# machine-config-operator, container-runtime-config/helpers.go, validateRegistriesConfScopes: no policy is AllowContactingSource.
REFUSED = {
    "two policies of one kind": [
        foreign(SOURCE, MIRROR, policy=NEVER),
        foreign(SOURCE, MIRROR, policy="AllowContactingSource"),
    ],
    "over kinds": [foreign(SOURCE, MIRROR, policy=NEVER), foreign(SOURCE, "m.example/b", kind=ITMS)],
    "an ICSP has no policy": [foreign(SOURCE, MIRROR, policy=NEVER), foreign(SOURCE, MIRROR, kind=ICSP)],
    "without mirrors": [foreign(SOURCE, policy=NEVER), foreign(SOURCE, MIRROR)],
    "forbids its own mirror": [foreign(SOURCE, SOURCE, MIRROR, policy=NEVER)],
}
ACCEPTED = {
    "none": [],
    "written and not written": [foreign(SOURCE, MIRROR, policy="AllowContactingSource"), foreign(SOURCE, MIRROR, kind=ICSP)],
    "twice the same": [foreign(SOURCE, MIRROR, policy=NEVER), foreign(SOURCE, MIRROR, kind=ITMS, policy=NEVER)],
    "other sources": [foreign(SOURCE, MIRROR, policy=NEVER), foreign(f"{SOURCE}/b", MIRROR)],
    "its own mirror, allowed": [foreign(SOURCE, SOURCE, MIRROR)],
}


@pytest.mark.parametrize(
    ("live", "refused"),
    [(each, [SOURCE]) for each in REFUSED.values()] + [(each, []) for each in ACCEPTED.values()],
    ids=[*REFUSED, *ACCEPTED],
)
def test_sources_that_stop_the_machine_config_operator(live, refused):
    assert list(refused_sources(each for body in live for each in listed(body))) == refused
