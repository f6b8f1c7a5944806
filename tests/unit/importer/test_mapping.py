import contextlib

import msgspec
import pytest

from common.archive.inventory import CatalogRecord, ComponentRecord, ImageKind, ImageRecord, Inventory, ReleaseRecord
from common.errors import ArchiveDamagedError, UsageError
from common.oci.image import Digest
from common.oci.reference import Reference
from importer.mapping import Mirror, map_catalog, map_images, mapping_lines, stable_tag

A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
OCI = "application/vnd.oci.image.manifest.v1+json"


def image(source, digest=A, kind=ImageKind.RELATED, **fields):
    return ImageRecord(source, digest, OCI, kind, (), complete=True, needed_by=(), size=1, **fields)


def inventory(*images, catalogs=()):
    return Inventory("", "", "", {}, (), tuple(catalogs), images, {}, {}, (), ())


def catalog(source, digest, image_digest, name="operators"):
    return CatalogRecord(source, digest, image_digest, name, "file-based", filtered=True, packages=())


@pytest.mark.parametrize(
    ("mirror", "options", "source", "place"),
    [
        ("reg:5000", {}, "quay.io/a/b", "reg:5000/a/b"),
        ("reg:5000/ocp/x", {}, "quay.io/a/b", "reg:5000/ocp/x/a/b"),
        ("reg:5000/", {}, "quay.io/a", "reg:5000/a"),
        ("reg", {"keep_source_host": True}, "quay.io:8443/a/b", "reg/quay.io-8443/a/b"),
        ("reg/x", {"max_path_components": 2}, "quay.io/a/b/c", "reg/x/a-b-c"),
        ("reg/x", {"max_path_components": 3}, "quay.io/a/b/c", "reg/x/a/b-c"),
        ("reg", {"max_path_components": 1}, "quay.io/a/b", "reg/a-b"),
        ("[::1]:5000", {}, "quay.io/a", "[::1]:5000/a"),
        ("reg", {"keep_source_host": True}, "[::1]:5000/a", "reg/ipv6_0-0-0-0-0-0-0-1_5000/a"),
        ("reg/x", {"keep_source_host": True}, "[FD00::]/a", "reg/x/ipv6_fd00-0-0-0-0-0-0-0/a"),
        ("reg", {"keep_source_host": True}, "quay.io.:443/a", "reg/fqdn_quay.io_443/a"),
        # As they were: images on mirrors have these names.
        ("reg", {"keep_source_host": True}, "[fd00::1]/a", "reg/fd00--1/a"),
        ("reg", {"keep_source_host": True}, "QUAY.io/a", "reg/quay.io/a"),
        ("reg", {"keep_source_host": True}, "10.0.0.1:5000/a", "reg/10.0.0.1-5000/a"),
    ],
)
def test_places(mirror, options, source, place):
    assert Mirror.parse(mirror, **options).repository(Reference.parse(source)).name == place


@pytest.mark.parametrize("text", ["", "BAD HOST", "reg:99999", "reg//x", "https://reg", "reg/UPPER", "reg/x/"[:5] + "/../y"])
def test_no_registry(text):
    with pytest.raises(UsageError, match="not a registry"):
        Mirror.parse(text)


@pytest.mark.parametrize("keep", [True, False])
def test_a_path_that_is_too_long_is_refused_with_the_limit(keep):
    """RepositoryNameTotalLengthMax in distribution/reference."""
    mirror = Mirror.parse("reg/" + "p" * 20, keep_source_host=keep)
    with pytest.raises(UsageError, match="characters; a repository path has at most 255") as caught:
        mirror.repository(Reference.parse(f"quay.io/{'a' * 240}"))
    assert ("--keep-source-host" in caught.value.hint) is keep


def test_a_host_that_is_no_address_is_refused():
    with pytest.raises(UsageError, match="no repository path"):
        Mirror.parse("reg", keep_source_host=True).repository(Reference.parse("[:1:]:5000/a"))


def test_a_prefix_as_long_as_the_limit_is_refused():
    with pytest.raises(UsageError, match="leaves no room"):
        Mirror.parse("reg/a/b", max_path_components=2)


def test_tags_and_targets():
    mapped = map_images(
        inventory(
            image(f"quay.io/a/b@{A}", tag="v1"),
            image("quay.io/a/c:v2", tag="v2"),
            image("quay.io/a/d:v3", tag="v3", target_repository="x/y", target_tag="z"),
            image(f"quay.io/a/e@{B}", None),
        ),
        Mirror.parse("reg/ocp"),
    )
    assert [(each.repository.name, each.tags) for each in mapped] == [
        ("reg/ocp/a/b", ("v1", stable_tag(A))),
        ("reg/ocp/a/c", ("v2", stable_tag(A))),
        ("reg/ocp/x/y", ("z", stable_tag(A))),
    ]
    assert str(mapped[0].pinned) == f"reg/ocp/a/b@{A}"


def test_collisions_are_refused_unless_the_content_is_the_same():
    same = inventory(image("quay.io/a/b:v1", tag="v1"), image("docker.io/a/b:v1", tag="v1"))
    assert len(map_images(same, Mirror.parse("reg"))) == 2
    other = inventory(image("quay.io/a/b:v1", tag="v1"), image("docker.io/a/b:v1", B, tag="v1"))
    with pytest.raises(UsageError, match=r"quay.io/a/b:v1 and docker.io/a/b:v1 would both become reg/a/b:v1") as caught:
        map_images(other, Mirror.parse("reg"))
    assert "--keep-source-host" in caught.value.hint
    assert len(map_images(other, Mirror.parse("reg", keep_source_host=True))) == 2


def test_a_tag_that_moved_stays_with_the_image_that_is_pulled_by_it():
    moved = inventory(image("quay.io/a/b:v1", tag="v1"), image(f"quay.io/a/b@{B}", B, tag="v1"))
    assert [one.tags[0] for one in map_images(moved, Mirror.parse("reg"))] == ["v1", stable_tag(B)]


@pytest.mark.parametrize(
    ("one", "other", "options", "hint"),
    [
        ({}, {}, {}, "Add --keep-source-host, or give one of them another targetRepo or targetTag."),
        ({}, {}, {"max_path_components": 2}, "Add --keep-source-host, or give --max-path-components more, or give one of"),
        (
            dict.fromkeys(["target_repository"], "x/y"),
            dict.fromkeys(["target_repository"], "x/y"),
            {},
            "Give one of them another t",
        ),
    ],
)
def test_the_hint_for_a_collision_resolves_it(one, other, options, hint):
    images = [
        image("quay.io/a/b:v1", A, ImageKind.ADDITIONAL, tag="v1", **one),
        image("docker.io/a/b:v1", B, ImageKind.ADDITIONAL, tag="v1", **other),
    ]
    with pytest.raises(UsageError) as caught:
        map_images(inventory(*images), Mirror.parse("reg", **options))
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("fields", [{"tag": "../../other/manifests/x"}, {"tag": "v1", "target_tag": "a b"}])
def test_a_tag_of_a_hostile_inventory_leads_nowhere_else(fields):
    with pytest.raises(ArchiveDamagedError, match="which is none"):
        map_images(inventory(image(f"quay.io/a/b@{A}", **fields)), Mirror.parse("reg"))


@pytest.mark.parametrize("where", ["../../etc", "a/../b", "/a", "A"])
def test_a_repository_of_a_hostile_inventory_leads_nowhere_else(where):
    with pytest.raises(UsageError, match="no repository path") if where != "A" else contextlib.nullcontext():
        (mapped,) = map_images(inventory(image(f"quay.io/a/b@{A}", target_repository=where)), Mirror.parse("reg"))
        assert mapped.repository.name == "reg/a"


def test_a_tag_that_moved_between_two_versions_is_dropped():
    carried = inventory(image(f"quay.io/a/b@{A}", tag="latest"), image(f"quay.io/a/b@{B}", B, tag="latest"))
    assert [each.tags for each in map_images(carried, Mirror.parse("reg"))] == [(stable_tag(A),), (stable_tag(B),)]


def test_an_incomplete_image_has_no_line():
    gone = ImageRecord(f"quay.io/a/b@{A}", A, None, ImageKind.RELATED, (), complete=False, needed_by=(), size=0)
    assert mapping_lines(map_images(inventory(gone), Mirror.parse("reg"))) == []


def test_a_directory_catalog_gets_a_fixed_path():
    record = catalog("catalogs/mine", None, B, "mine")
    carried = inventory(image("catalogs/mine", B, ImageKind.CATALOG), catalogs=[record])
    (mapped,) = map_images(carried, Mirror.parse("reg/ocp"))
    assert mapped.repository.name == "reg/ocp/hub-airgap/mine"
    assert mapped.source is None
    assert map_catalog(record, [mapped]) is mapped
    with pytest.raises(UsageError, match="no image for it"):
        map_catalog(record, [])


def test_lines_for_oc_image_mirror_are_sorted_and_leave_out_what_exists_nowhere_else():
    index = "registry.redhat.io/redhat/index:v4.18"
    carried = inventory(
        image(index, B, ImageKind.CATALOG, tag="v4.18"),
        image(f"quay.io/z/b@{A}"),
        image("quay.io/a/c:v2", tag="v2"),
        catalogs=[catalog(index, A, B)],
    )
    assert mapping_lines(map_images(carried, Mirror.parse("reg"))) == [
        f"quay.io/a/c@{A}=reg/a/c:{stable_tag(A)}",
        f"quay.io/a/c@{A}=reg/a/c:v2",
        f"quay.io/z/b@{A}=reg/z/b:{stable_tag(A)}",
    ]


def test_a_catalog_carried_as_it_was_pulled_has_its_lines():
    index = "registry.redhat.io/redhat/index:v4.18"
    carried = inventory(image(index, A, ImageKind.CATALOG, tag="v4.18"), catalogs=[catalog(index, A, A)])
    assert mapping_lines(map_images(carried, Mirror.parse("reg"))) == [
        f"registry.redhat.io/redhat/index@{A}=reg/redhat/index:{stable_tag(A)}",
        f"registry.redhat.io/redhat/index@{A}=reg/redhat/index:v4.18",
    ]


PAYLOAD = f"quay.io/openshift-release-dev/ocp-release@{A}"
CLI = f"quay.io/openshift-release-dev/ocp-v4.0-art-dev@{B}"
PROXY = Digest("sha256:" + "c" * 64)
SIGNED = f"quay.io/openshift-release-dev/ocp-release:sha256-{'a' * 64}.sig"


def release(version="4.18.3", architecture="amd64", source=PAYLOAD, digest=A, components=(("cli", CLI), ("tools", CLI))):
    listed = tuple(ComponentRecord(*one) for one in components)
    return ReleaseRecord(version, architecture, source, digest, components=listed)


RELEASE = release()


def placed(mirror, *images, releases=(RELEASE,), **options):
    found = map_images(msgspec.structs.replace(inventory(*images), releases=releases), Mirror.parse(mirror, **options))
    return [(image.repository.name, *image.tags) for image in found]


RELEASED = (
    image(PAYLOAD, A, ImageKind.RELEASE),
    image(CLI, B, ImageKind.COMPONENT),
    image(SIGNED, PROXY, ImageKind.SIGNATURE, tag=f"sha256-{'a' * 64}.sig"),
    image(f"quay.io/openshift-release-dev/ocp-v4.0-art-dev@{PROXY}", PROXY),  # of an operator
)


@pytest.mark.parametrize("options", [{}, {"keep_source_host": True}])
def test_releases_are_where_the_update_service_and_oc_look_for_them(options):
    """openshift/oc-mirror, internal/pkg/release/local_stored_collector.go; openshift/cincinnati-operator, docs."""
    assert placed("reg/ocp", *RELEASED, **options) == [
        ("reg/ocp/openshift/release-images", "4.18.3-x86_64"),
        ("reg/ocp/openshift/release", "4.18.3-x86_64-cli", "4.18.3-x86_64-tools"),
        ("reg/ocp/openshift/release-images", f"sha256-{'a' * 64}.sig"),
        ("reg/ocp/openshift/release", stable_tag(PROXY)),
    ]


def test_a_component_has_a_tag_for_each_release_and_architecture():
    two = (release(), release("4.18.4", "arm64", PAYLOAD.replace("a" * 64, "c" * 64), PROXY))
    found = placed("reg", RELEASED[1], releases=two)
    assert found == [
        ("reg/openshift/release", "4.18.3-x86_64-cli", "4.18.3-x86_64-tools", "4.18.4-aarch64-cli", "4.18.4-aarch64-tools")
    ]


def test_releases_by_source_have_the_paths_of_other_images():
    repository, *tags = placed("reg", RELEASED[0], releases_by_source=True)[0]
    assert (repository, tags) == ("reg/openshift-release-dev/ocp-release", [stable_tag(A)])


def test_paths_of_releases_are_joined_for_registries_without_nesting():
    assert placed("reg", RELEASED[0], max_path_components=1) == [("reg/openshift-release-images", "4.18.3-x86_64")]


def test_a_payload_and_its_components_in_one_repository_are_found_by_the_update_service():
    component = f"reg.test/okd@{B}"
    one = release(source=f"reg.test/okd@{A}", components=(("cli", component),))
    images = image(one.source, A, ImageKind.RELEASE), image(component, B, ImageKind.COMPONENT)
    assert [place for place, *_ in placed("reg", *images, releases=(one,))] == ["reg/openshift/release-images"] * 2


def test_two_releases_of_one_version_do_not_meet_under_one_tag():
    other = f"quay.io/openshift-release-dev/ocp-release@{B}"
    both = release(), release(source=other, digest=B, components=())
    images = RELEASED[0], image(other, B, ImageKind.RELEASE)
    with pytest.raises(UsageError, match=r"would both become reg/openshift/release-images:4\.18\.3-x86_64"):
        placed("reg", *images, releases=both, keep_source_host=True)


@pytest.mark.parametrize("version", ["4.18.3/../x", "4.18 3", "x" * 200, ""])
def test_a_version_that_makes_no_tag_is_refused(version):
    with pytest.raises(ArchiveDamagedError, match="which is none"):
        placed("reg", RELEASED[0], releases=(release(version, ""),))


def test_graph_data_is_made_here_and_has_no_source():
    found = map_images(inventory(image("openshift/graph-image", A, ImageKind.GRAPH_DATA, tag="latest")), Mirror.parse("reg/x"))
    assert [(each.source, each.repository.name, each.tags) for each in found] == [
        (None, "reg/x/openshift/graph-image", ("latest", stable_tag(A)))
    ]
    assert mapping_lines(found) == []
