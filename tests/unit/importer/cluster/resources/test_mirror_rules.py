"""Rules lead every image to its mirror, as a node reads them: the most specific source alone counts."""

import pytest

from common.archive.inventory import ImageKind
from importer.cluster.resources.mirror_rules import Scope, rules_for
from importer.mapping import Mirror, map_images
from tests.fakes.inventories import A, B, image, inventory

MIRROR = Mirror.parse("mirror.example:5000/hub")


def rules(*images, scope=Scope.REPOSITORY, mirror=MIRROR):
    found = rules_for(map_images(inventory(*images), mirror), scope)
    return {(each.rule.source, each.rule.mirror.partition("/")[2], each.rule.by_digest) for each in found}


@pytest.mark.parametrize(
    ("scope", "source", "mirror"),
    [
        (Scope.REPOSITORY, "quay.io/x/y/z", "hub/x/y/z"),
        (Scope.NAMESPACE, "quay.io/x/y", "hub/x/y"),
        (Scope.REGISTRY, "quay.io", "hub"),
    ],
)
def test_a_scope_names_as_much_as_it_says(scope, source, mirror):
    assert rules(image(f"quay.io/x/y/z@{A}"), scope=scope) == {(source, mirror, True)}


def test_a_repository_without_namespace_has_a_rule_for_its_registry():
    assert rules(image(f"quay.io/z@{A}"), scope=Scope.NAMESPACE) == {("quay.io", "hub", True)}


def test_the_scope_of_a_host_that_is_kept_is_below_it():
    mirror = Mirror.parse("mirror.example", keep_source_host=True)
    assert rules(image(f"quay.io:8443/x/y@{A}"), scope=Scope.REGISTRY, mirror=mirror) == {
        ("quay.io:8443", "quay.io-8443", True)
    }
    assert rules(image(f"[::1]:8443/x/y@{A}"), scope=Scope.REGISTRY, mirror=mirror) == {
        ("[::1]:8443", "ipv6_0-0-0-0-0-0-0-1_8443", True)
    }


def test_pulls_by_tag_and_by_digest_have_rules_of_their_own():
    found = rules(image(f"quay.io/x/y@{A}"), image("quay.io/x/y:v1", tag="v1"), image(f"quay.io/x/z:v2@{B}", B, tag="v2"))
    assert found == {
        ("quay.io/x/y", "hub/x/y", True),
        ("quay.io/x/y", "hub/x/y", False),
        ("quay.io/x/z", "hub/x/z", True),
    }


@pytest.mark.parametrize("kind", [ImageKind.CATALOG, ImageKind.SIGNATURE, ImageKind.ATTACHMENT])
def test_an_image_that_nodes_do_not_pull_by_its_name_has_no_rule(kind):
    assert rules(image("quay.io/x/y:sha256-1.sig", kind=kind)) == set()


def test_an_image_from_the_mirror_itself_has_no_rule():
    assert rules(image(f"mirror.example/x/y@{A}"), mirror=Mirror.parse("mirror.example")) == set()


def test_where_the_mirrors_path_differs_the_repository_is_named():
    found = rules(image(f"quay.io/x/y@{A}", target_repository="elsewhere/y2"), scope=Scope.REGISTRY)
    assert found == {("quay.io/x/y", "hub/elsewhere/y2", True)}


def test_an_image_below_a_moved_repository_is_not_misdirected():
    moved, below, beside = f"quay.io/x/y@{A}", f"quay.io/x/y/deep/z@{B}", f"quay.io/x/other@{B}"
    carried = [image(moved, target_repository="elsewhere"), image(below, B), image(beside, B)]
    assert rules(*carried, scope=Scope.REGISTRY) == {
        ("quay.io/x/y", "hub/elsewhere", True),
        ("quay.io/x/y/deep/z", "hub/x/y/deep/z", True),
        ("quay.io", "hub", True),
    }


def test_a_more_specific_rule_for_tags_does_not_hide_the_one_for_digests():
    by_tag = image("quay.io/x/y:v1", tag="v1", target_repository="elsewhere")
    assert rules(by_tag, image(f"quay.io/x/y/deep/z@{B}", B), scope=Scope.REGISTRY) == {
        ("quay.io/x/y", "hub/elsewhere", False),
        ("quay.io/x/y/deep/z", "hub/x/y/deep/z", True),
    }
