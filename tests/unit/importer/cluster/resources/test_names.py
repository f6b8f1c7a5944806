"""Names of CatalogSources: from repository, tag and release, never from the order of the file (ADR 0051).

3 of 152 public image sets list two releases of one index, for an update of the cluster, as in openshift/oc-mirror#820.
"""

import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.olm.catalog_names import distinct, identities_of, label, release_of_tag
from importer.cluster.release import Release
from importer.cluster.resources.catalog_source import service_name
from importer.cluster.resources.names import ServedCatalog, name_catalogs
from tests.fakes.inventories import A, B, C, catalog, inventory
from tests.samples import more

MIRROR = "mirror.example:5000/ocp"


def index(tag, repository="registry.example/redhat/my-index", *, image=B, name="", **fields):
    source = f"{repository}{'@' if tag.startswith('sha256:') else ':'}{tag}" if tag else repository
    return catalog(name or repository.rpartition("/")[2], source, image=image, **fields)


def carried(*catalogs):
    """Return an inventory of catalogs with the names that the exporter gives them."""
    made = inventory(catalogs=catalogs)
    names = distinct(identities_of(made), [False] * len(catalogs))
    return inventory(
        catalogs=tuple(
            catalog(
                name,
                one.source,
                digest=one.digest,
                image=one.image,
                target_repository=one.target_repository,
                target_tag=one.target_tag,
            )
            for name, one in zip(names, catalogs, strict=True)
        )
    )


def names(*catalogs, release="4.18", served=(), wanted=None):
    """Return source → name, the same for every order of the catalogs."""
    known = Release.parse(release) if release else None
    found = []
    for order in permutations(catalogs):
        named = name_catalogs(carried(*order), known, wanted or {}, served)
        found.append({each.catalog.source.removeprefix("registry.example/redhat/my-index"): each.name for each in named})
    assert all(each == found[0] for each in found), found
    return found[0]


def recorded(**served):
    return [ServedCatalog(name.replace("_", "-"), text, f"{MIRROR}/x@{C}") for name, text in served.items()]


OLD, NOW, NEXT = index("v4.17"), index("v4.18", image=A), index("v4.19", image=C)


@pytest.mark.parametrize(
    ("catalogs", "release", "expected"),
    [
        ([NOW], "4.18", {":v4.18": "my-index"}),
        ([NOW, NEXT], "4.18", {":v4.18": "my-index", ":v4.19": "my-index-v4-19"}),
        ([OLD, NOW, NEXT], "4.18", {":v4.17": "my-index-v4-17", ":v4.18": "my-index", ":v4.19": "my-index-v4-19"}),
        ([NEXT], "4.18", {":v4.19": "my-index-v4-19"}),
        ([NOW, NEXT], "4.19", {":v4.18": "my-index-v4-18", ":v4.19": "my-index"}),
        ([index("latest")], "4.18", {":latest": "my-index"}),
        ([index("")], "4.18", {"": "my-index"}),
        ([index("latest"), index("stable", image=A)], "4.18", {":latest": "my-index-latest", ":stable": "my-index-stable"}),
        ([NOW, index("latest")], "4.18", {":v4.18": "my-index", ":latest": "my-index-latest"}),
        # A version of the catalog's own, which changes more often than the release.
        ([index("4.5.6")], "4.18", {":4.5.6": "my-index"}),
        ([index("stable-4.19")], "4.18", {":stable-4.19": "my-index-stable-4-19"}),
        ([index("prod", target_tag="v4.19")], "4.18", {":prod": "my-index-v4-19"}),
        ([index(A)], "4.18", {f"@{A}": "my-index"}),
        ([index(A), index(C, image=A)], "4.18", {f"@{A}": "my-index-aaaaaaaa", f"@{C}": "my-index-cccccccc"}),
        # A Kubernetes with OLM has no release.
        ([NOW], None, {":v4.18": "my-index"}),
        ([NOW, NEXT], None, {":v4.18": "my-index-v4-18", ":v4.19": "my-index-v4-19"}),
    ],
)
def test_the_bare_name_is_that_of_the_clusters_release_in_every_order(catalogs, release, expected):
    assert names(*catalogs, release=release) == expected


ACME = index("v4.18", "quay.example/acme/my-index", image=C)
OTHER_HOST = index("v4.18", "quay.example/redhat/my-index", image=C)


def test_repositories_of_one_last_component_are_all_told_apart():
    assert names(NOW, ACME) == {":v4.18": "redhat-my-index", ACME.source: "acme-my-index"}
    assert names(NOW, OTHER_HOST) == {
        ":v4.18": "registry-example-redhat-my-index",
        OTHER_HOST.source: "quay-example-redhat-my-index",
    }
    assert names(NEXT, OLD, ACME) == {
        ":v4.17": "my-index-v4-17",
        ":v4.19": "my-index-v4-19",
        ACME.source: "my-index",
    }


def test_a_target_tells_apart_what_has_one_source():
    one, two = (index("v4.18", image=image, target_repository=f"mine/{name}") for image, name in ((A, "one"), (C, "two")))
    named = name_catalogs(carried(one, two), Release(4, 18), {})
    assert [each.name for each in named] == ["mine-one", "mine-two"]
    assert [each.name for each in name_catalogs(carried(two), Release(4, 18), {})] == ["my-index"]


def test_directories_of_one_name_are_told_apart_by_their_paths():
    folders = [catalog("configs", f"{place}/configs", digest=None, image=B) for place in ("prod", "/srv/test")]
    assert names(*folders) == {"prod/configs": "prod-configs", "/srv/test/configs": "srv-test-configs"}
    assert names(folders[0]) == {"prod/configs": "configs"}


@pytest.mark.parametrize("order", [(NOW, OLD), (OLD, NOW)])
def test_an_archive_of_an_older_version_gets_its_names_from_the_sources(order):
    """Older versions called the second catalog of a name `my-index-2`, whichever it was."""
    first, second = order
    old = inventory(catalogs=(first, catalog("my-index-2", second.source, image=second.image)))
    named = {each.catalog.source[-4:]: each.name for each in name_catalogs(old, Release(4, 18), {})}
    assert named == {"4.18": "my-index", "4.17": "my-index-v4-17"}


def test_an_archive_of_a_part_gets_the_same_names():
    """An archive for a re-request has the catalogs of the first one that it completes, under the names that they have there."""
    whole = carried(OLD, NOW, ACME)
    assert [each.name for each in whole.catalogs] == ["redhat-my-index-v4-17", "redhat-my-index-v4-18", "acme-my-index"]
    part = inventory(catalogs=whole.catalogs[1:2])
    assert [each.name for each in name_catalogs(part, Release(4, 18), {})] == ["my-index"]


# What the cluster has from earlier imports.


def test_a_catalog_keeps_the_name_that_the_cluster_has_for_it():
    served = recorded(redhat_operators="redhat/my-index:v4.18")
    assert names(NOW, served=served) == {":v4.18": "redhat-operators"}
    # The next release continues it, in the file alone: Subscriptions name it.
    assert names(NEXT, release="4.19", served=served) == {":v4.19": "redhat-operators"}
    assert names(NOW, ACME, served=recorded(my_index="redhat/my-index:v4.18")) == {
        ":v4.18": "my-index",
        ACME.source: "acme-my-index",
    }


def test_names_of_an_older_version_stay_with_their_catalogs():
    """Before this, `my-index-2` moved to the other release when two lines of the file were swapped."""
    by_image = [ServedCatalog("my-index", "", f"{MIRROR}/redhat/my-index@{B}")]
    by_image.append(ServedCatalog("my-index-2", "", f"{MIRROR}/redhat/my-index@{A}"))
    expected = {":v4.17": "my-index", ":v4.18": "my-index-2"}
    assert names(OLD, NOW, served=by_image) == expected
    told = recorded(my_index="redhat/my-index:v4.17", my_index_2="redhat/my-index:v4.18")
    assert names(OLD, NOW, served=told) == expected
    assert names(OLD, NOW, NEXT, served=told) == expected | {":v4.19": "my-index-v4-19"}
    # Without the catalog of the old release, its Subscriptions follow the cluster.
    assert names(NOW, served=told) == {":v4.18": "my-index"}


def test_after_an_update_the_bare_name_is_that_of_the_new_release():
    served = recorded(my_index="redhat/my-index:v4.17", my_index_v4_18="redhat/my-index:v4.18")
    assert names(OLD, NOW, release="4.17", served=served) == {":v4.17": "my-index", ":v4.18": "my-index-v4-18"}
    assert names(OLD, NOW, served=served) == {":v4.17": "my-index-v4-17", ":v4.18": "my-index"}
    assert names(NOW, served=served) == {":v4.18": "my-index"}
    after = recorded(my_index="redhat/my-index:v4.18", my_index_v4_18="redhat/my-index:v4.18")
    assert names(NOW, served=after) == {":v4.18": "my-index"}


@pytest.mark.parametrize("release", ["4.17", "4.18", "4.19", None])
def test_the_only_catalog_of_an_older_version_keeps_its_name(release):
    """Its tag is not recorded, and the site's Subscriptions name it."""
    served = [ServedCatalog("my-index", "", f"{MIRROR}/redhat/my-index@{C}")]
    assert names(NOW, release=release, served=served) == {":v4.18": "my-index"}


def test_a_catalog_for_the_next_release_does_not_replace_that_of_the_cluster():
    served = recorded(my_index="redhat/my-index:v4.18")
    assert names(NEXT, served=served) == {":v4.19": "my-index-v4-19"}
    assert names(NEXT, release="4.19", served=served) == {":v4.19": "my-index"}


def test_tags_that_do_not_follow_the_cluster_stay_with_their_name():
    """A catalog whose own versions look like releases: 4.4, then 4.5, on a cluster of 4.18."""
    served = recorded(my_index="redhat/my-index:4.4")
    assert names(index("4.5"), served=served) == {":4.5": "my-index"}
    assert names(index("4.4", image=A), index("4.5"), served=served) == {":4.4": "my-index", ":4.5": "my-index-4-5"}


def test_another_repository_does_not_take_the_name_of_an_earlier_import():
    served = recorded(my_index="redhat/my-index:v4.18")
    assert names(ACME, served=served) == {ACME.source: "acme-my-index"}
    assert names(index("latest", "quay.example/acme/my-index"), served=served) == {
        "quay.example/acme/my-index:latest": "acme-my-index"
    }


# What a person says.


@pytest.mark.parametrize(
    ("text", "catalogs"),
    [
        ("my-index", [NOW]),
        ("registry.example/redhat/my-index:v4.18", [NOW, NEXT]),
        ("redhat/my-index:v4.18", [NOW, NEXT]),
        ("my-index-v4-18", [NOW, NEXT]),
        ("my-index", [NOW, index("v1", "quay.example/other/index", image=C)]),
    ],
)
def test_a_name_is_given_by_name_or_source(text, catalogs):
    assert names(*catalogs, wanted={text: "chosen"})[":v4.18"] == "chosen"


def test_a_name_that_fits_several_is_refused_with_theirs():
    with pytest.raises(UsageError, match="'my-index' is the name of 2 catalogs") as caught:
        names(NOW, NEXT, wanted={"my-index": "chosen"})
    assert caught.value.hint == "Name one of: my-index-v4-18, my-index-v4-19"
    with pytest.raises(UsageError, match="has no catalog 'my-index-2'"):
        names(NOW, NEXT, wanted={"my-index-2": "chosen"})


def test_a_given_name_is_not_given_to_another():
    assert names(NOW, NEXT, wanted={"my-index-v4-19": "my-index"}) == {":v4.18": "my-index-v4-18", ":v4.19": "my-index"}
    served = recorded(my_index="redhat/my-index:v4.18")
    assert names(NOW, NEXT, wanted={"my-index-v4-19": "my-index"}, served=served)[":v4.18"] == "my-index-v4-18"


@pytest.mark.parametrize(
    ("catalogs", "titles"),
    [
        ([NOW, NEXT], ["my-index v4.18", "my-index v4.19"]),
        ([NOW, ACME], ["redhat/my-index v4.18", "acme/my-index v4.18"]),
        ([NOW, OTHER_HOST], ["registry.example/redhat/my-index v4.18", "quay.example/redhat/my-index v4.18"]),
        ([index("prod", target_tag="v4.18")], ["my-index v4.18"]),
        ([catalog("configs", f"{place}/configs", digest=None) for place in ("a", "b")], ["a-configs", "b-configs"]),
        ([index("")], ["my-index"]),
        ([index("x" * 128)], [f"my-index {'x' * 49}…"]),
    ],
)
def test_people_are_shown_name_and_tag(catalogs, titles):
    assert [each.title for each in name_catalogs(carried(*catalogs), Release(4, 18), {})] == titles


# For any catalogs.

_PARTS = st.text("ab-.4", min_size=1, max_size=4) | st.text("x", min_size=40, max_size=60)
_SOURCES = st.builds("{}.example/{}/{}:{}".format, st.sampled_from("pq"), _PARTS, _PARTS, _PARTS | st.just("v4.18"))


@given(st.lists(_SOURCES, min_size=1, max_size=5, unique=True), st.randoms())
def test_names_are_valid_distinct_and_without_order(sources, random):
    catalogs = [catalog(each.rpartition("/")[2].partition(":")[0] or "x", each) for each in sources]
    first = {each.catalog.source: each.name for each in name_catalogs(carried(*catalogs), Release(4, 18), {})}
    random.shuffle(catalogs)
    assert {each.catalog.source: each.name for each in name_catalogs(carried(*catalogs), Release(4, 18), {})} == first
    assert len({service_name(name) for name in first.values()}) == len(sources)
    assert all(name == label(name) for name in first.values())


@pytest.mark.parametrize(
    ("tag", "release"),
    [
        *((tag, (4, 18)) for tag in ("v4.18", "4.18", "V4.18", "stable-4.18", "ocp-v4.18", "v4.18-20260101", "v4.18_1.2")),
        *((tag, None) for tag in ("latest", "v1.2", "4.18.3", "2024.10", "v4", "v4.18.", "10.4", "")),
        ("v5.0", (5, 0)),
    ],
)
def test_tags_that_name_a_release(tag, release):
    assert release_of_tag(tag) == release


@pytest.mark.parametrize("source", ["r.example/p{}/x:v4.18", *more(["r.example/p/x:t{}", "r{}.example/p/x:v4.18"])])
def test_thousands_of_catalogs_are_named_in_linear_time(source):
    many = tuple(catalog("x", source.format(number)) for number in range(5000))
    before = time.process_time()
    assert len({each.name for each in name_catalogs(inventory(catalogs=many), Release(4, 18), {})}) == 5000
    assert time.process_time() - before < 5  # 0.2 s; the product of all pairs took a minute
