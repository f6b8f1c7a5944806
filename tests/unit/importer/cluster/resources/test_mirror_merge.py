"""Merge of mirror rules: only missing ones are added, none are removed, no object grows too large."""

from __future__ import annotations

import json

import pytest

from common.errors import ClusterError
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.kinds import Resource
from importer.cluster.resources.mirror_rules import MAX_OBJECT_SIZE, merge_rules
from tests.fakes.wanted import mirror_rules


def sources(resource: Resource) -> dict[str, list[str]]:
    (rules,) = resource.body["spec"].values()
    return {rule["source"].rpartition("/")[2]: [each.partition("/")[2] for each in rule["mirrors"]] for rule in rules}


def test_on_an_empty_cluster_all_is_written_as_wanted():
    wanted = mirror_rules(ubi="a", web="b")
    assert merge_rules([wanted], []).write == (wanted,)


def test_a_later_archive_extends_and_never_shrinks():
    live = mirror_rules(ubi="ubi", old="old").body
    merged = merge_rules([mirror_rules(ubi="ubi", new="new")], [live])
    assert [sources(each) for each in merged.write] == [{"ubi": ["ubi"], "old": ["old"], "new": ["new"]}]


def test_existing_rules_stay_unchanged():
    live = mirror_rules(ubi="ubi", old="old")
    assert merge_rules([mirror_rules(ubi="ubi")], [live.body]).write == (live,)


@pytest.mark.parametrize("kind", ["ImageDigestMirrorSet", "ImageContentSourcePolicy"])
def test_foreign_rules_of_any_kind_count(kind):
    theirs = mirror_rules(kind, "theirs", ubi="ubi").body
    merged = merge_rules([mirror_rules(ubi="ubi", new="new")], [theirs])
    assert [sources(each) for each in merged.write] == [{"new": ["new"]}]


def test_rules_for_tags_do_not_count_for_digests():
    tags = mirror_rules("ImageTagMirrorSet", "theirs", ubi="ubi").body
    wanted = mirror_rules(ubi="ubi")
    assert merge_rules([wanted], [tags]).write == (wanted,)
    assert merge_rules([mirror_rules("ImageTagMirrorSet", ubi="ubi")], [tags]).write == ()


def test_an_object_whose_rules_are_all_in_force_elsewhere_is_not_created():
    wanted = mirror_rules(ubi="ubi")
    merged = merge_rules([wanted], [mirror_rules(name="theirs", ubi="ubi", more="more").body])
    assert merged.write == ()
    assert merged.satisfied == (wanted,)


def test_another_mirror_for_a_source_comes_before_the_old_one():
    merged = merge_rules([mirror_rules(ubi="new/ubi")], [mirror_rules(ubi="old/ubi").body])
    assert [sources(each) for each in merged.write] == [{"ubi": ["new/ubi", "old/ubi"]}]


def test_the_policy_of_a_source_is_kept_everywhere():
    live = mirror_rules(name="theirs", ubi="other").body
    live["spec"]["imageDigestMirrors"][0]["mirrorSourcePolicy"] = "NeverContactSource"
    (written,) = merge_rules([mirror_rules(ubi="ubi")], [live]).write
    assert written.body["spec"]["imageDigestMirrors"][0]["mirrorSourcePolicy"] == "NeverContactSource"


def test_two_wanted_objects_do_not_repeat_each_other():
    merged = merge_rules([mirror_rules(name="hub-a", ubi="ubi"), mirror_rules(name="hub-b", ubi="ubi", web="web")], [])
    assert {each.name: sources(each) for each in merged.write} == {"hub-a": {"ubi": ["ubi"]}, "hub-b": {"web": ["web"]}}


@pytest.mark.parametrize("number", ["418", "1", "02"])
def test_the_object_of_another_catalog_is_no_part_of_a_series(number):
    """Catalogs may be called index and index-418; a series has the numbers from 2 to 100."""
    live = mirror_rules(name=f"hub-index-{number}", ubi="old/ubi").body
    merged = merge_rules([mirror_rules(name="hub-index", ubi="new/ubi")], [live])
    assert [(each.name, sources(each)) for each in merged.write] == [("hub-index", {"ubi": ["new/ubi"]})]


def full_series(rules: int = 2000) -> tuple[dict[str, str], list[dict[str, object]]]:
    """Return rules, and the objects of a cluster that got them one after the other: all but the last one are full."""
    many = {f"repository-{n:05}": "m" * 200 for n in range(rules)}
    live: dict[str, dict[str, object]] = {"hub-redhat-operators": dict(mirror_rules(**dict(list(many.items())[:1])).body)}
    live |= {each.name: dict(each.body) for each in merge_rules([mirror_rules(**many)], list(live.values())).write}
    return many, list(live.values())


def test_objects_stay_below_their_size_and_the_rest_begins_another():
    many, live = full_series()
    assert [each["metadata"]["name"] for each in live] == [
        "hub-redhat-operators",
        "hub-redhat-operators-2",
        "hub-redhat-operators-3",
    ]
    assert all(len(json.dumps(each)) <= MAX_OBJECT_SIZE for each in live)
    assert {source for each in live for source in sources(Resource.of(each))} == many.keys()


def test_a_full_object_is_left_and_the_next_extended():
    many, live = full_series()
    (written,) = merge_rules([mirror_rules(**many, new="n" * 1000)], live).write
    assert written.name == "hub-redhat-operators-3"
    assert sources(written)["new"] == ["n" * 1000]
    assert len(sources(written)) == len(live[2]["spec"]["imageDigestMirrors"]) + 1


def test_room_in_the_first_object_is_used():
    many, live = full_series()
    assert [each.name for each in merge_rules([mirror_rules(**many, new="n")], live).write] == ["hub-redhat-operators"]


def test_a_changed_rule_without_room_moves_and_is_never_missing():
    """Two policies of one source stop machine-config-operator (helpers.go, validateRegistriesConfScopes)."""
    many, live = full_series(1700)
    never = {"source": "registry.redhat.io", "mirrors": ["cache.example"], "mirrorSourcePolicy": "NeverContactSource"}
    broad = mirror_rules(name="theirs", ubi="ubi").body | {"spec": {"imageDigestMirrors": [never]}}
    written = merge_rules([mirror_rules(**many)], [*live, broad]).write
    assert [each.name for each in written] == ["hub-redhat-operators-3", "hub-redhat-operators-2", "hub-redhat-operators"]
    cluster = {each["metadata"]["name"]: each for each in live}
    for each in written:
        cluster[each.name] = each.body
        assert {source for body in cluster.values() for source in sources(Resource.of(body))} == many.keys()
    rules = [rule for body in cluster.values() for rule in body["spec"]["imageDigestMirrors"]]
    assert {rule["mirrorSourcePolicy"] for rule in rules} == {"NeverContactSource"}
    assert len(rules) == len(many)
    assert all(len(json.dumps(each)) <= MAX_OBJECT_SIZE for each in cluster.values())


def test_a_rule_larger_than_an_object_is_refused():
    with pytest.raises(ClusterError, match="one mirror rule alone is larger than 250000 bytes"):
        merge_rules([mirror_rules(ubi="m" * MAX_OBJECT_SIZE)], [])


def test_more_objects_than_a_hundred_are_refused():
    large = {f"repository-{n:03}": "m" * (MAX_OBJECT_SIZE - 1000) for n in range(101)}
    *_, last = merge_rules([mirror_rules(**dict(list(large.items())[:100]))], []).write
    assert last.name == "hub-redhat-operators-100"
    with pytest.raises(ClusterError, match="hub-redhat-operators: more than 100 objects"):
        merge_rules([mirror_rules(**large)], [])


def test_the_cluster_gets_what_was_merged_and_nothing_twice(start):
    cluster, client = start("4.15")
    theirs = mirror_rules("ImageContentSourcePolicy", "theirs", ubi="ubi").body
    cluster.put(dict(theirs))
    release = release_of(running_version(client))
    for _ in range(2):
        apply(client, [mirror_rules(ubi="ubi", web="web")], release=release, dry_run=False, tell=lambda _line: None)
    assert cluster.get("ImageContentSourcePolicy", "theirs")["spec"] == theirs["spec"]
    (rule,) = cluster.get("ImageDigestMirrorSet", "hub-redhat-operators")["spec"]["imageDigestMirrors"]
    assert rule["source"] == "registry.redhat.io/web"
    assert cluster.get("ImageDigestMirrorSet", "hub-redhat-operators")["metadata"]["generation"] == 1
