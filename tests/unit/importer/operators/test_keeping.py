"""Names of defaults that catalogs take by themselves, and Subscriptions that name another catalog."""

from __future__ import annotations

import pytest

from importer.cluster.resources.permissions import repointing, roles
from importer.operators.installed import Installed, Sources, Subscribed
from importer.operators.keeping import default_names, leaves_names

HERE = "openshift-marketplace"


def wants(*pairs, there=()):
    """Return a cluster whose Subscriptions want `package@catalog`; the CatalogSources `there` exist."""
    found = []
    for number, pair in enumerate(pairs):
        package, _, source = pair.partition("@")
        found.append(Subscribed("team", f"s{number}", package, (HERE, source)))
    return Installed(found, Sources({(HERE, name): {"metadata": {"name": name}} for name in there}, HERE))


RED, COMMUNITY = "redhat-operators", "community-operators"


@pytest.mark.parametrize(
    ("seen", "catalogs", "names"),
    [
        (wants(f"a@{RED}"), {0: {"a"}}, {0: RED}),
        (wants(f"a@{RED}", f"x@{RED}"), {0: {"a"}}, {0: RED}),
        (wants(f"x@{RED}"), {0: {"a"}}, {}),
        (wants("a@mirrored"), {0: {"a"}}, {}),  # no default: somebody's name
        (wants(f"a@{RED}", there=[RED]), {0: {"a"}}, {}),  # a CatalogSource of others, or of an earlier import, that stays
        (wants(f"a@{RED}", f"b@{RED}"), {0: {"a"}, 1: {"a", "b"}}, {1: RED}),
        (wants(f"a@{RED}"), {0: {"a"}, 1: {"a"}}, {}),
        (wants(f"a@{RED}", f"b@{COMMUNITY}"), {0: {"a"}, 1: {"b"}}, {0: RED, 1: COMMUNITY}),
        (wants(f"a@{RED}", f"a@{COMMUNITY}", f"b@{COMMUNITY}"), {0: {"a", "b"}}, {0: COMMUNITY}),
    ],
)
def test_the_only_catalog_that_fits_takes_the_name(seen, catalogs, names):
    assert default_names(seen, catalogs, ()) == names


def test_a_default_that_goes_is_as_good_as_missing():
    assert default_names(wants(f"a@{RED}", there=[RED]), {0: {"a"}}, {(HERE, RED)}) == {0: RED}


@pytest.mark.parametrize(
    ("version", "leaves"),
    [
        ("4.6.15", False),
        ("4.6.16", True),
        ("4.6", False),
        ("4.6.0-rc.1", False),
        ("4.5.1", True),
        ("4.18.3", True),
        (None, True),
    ],
)
def test_releases_whose_marketplace_deletes_such_names(version, leaves):
    assert leaves_names(version) is leaves


def test_the_permission_to_change_subscriptions_is_given_only_where_it_is_asked_for():
    (role,) = roles(repointing())
    assert role["rules"] == [{"apiGroups": ["operators.coreos.com"], "resources": ["subscriptions"], "verbs": ["get", "patch"]}]
