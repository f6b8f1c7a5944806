"""What each release knows (docs/facts/openshift.md §3.3, §5.3, §10)."""

import pytest

from common.errors import UsageError
from importer.cluster.kinds import ICSP, IDMS, ITMS
from importer.cluster.release import Release

FIRST_POD_FIELDS = {"nodeSelector", "tolerations", "priorityClassName"}


@pytest.mark.parametrize(
    ("text", "release"), [("4.18", "4.18"), (" v4.18.3 ", "4.18"), ("4.3.10", "4.3"), ("4.20.0-rc.1", "4.20"), ("5.0", "5.0")]
)
def test_a_release_is_read_with_or_without_its_patch_version(text, release):
    assert str(Release.parse(text)) == release


@pytest.mark.parametrize(
    "text", ["", "4", "5", " ", "four", "4.18.3x", "4.18 ,", "4.x", "4.18.", "4.1234", "4.18\n4.19", "٤.١٨"]
)
def test_a_text_that_is_not_a_release_is_refused(text):
    with pytest.raises(UsageError, match="not an OpenShift release") as caught:
        Release.parse(text)
    assert "4.18" in caught.value.hint


@pytest.mark.parametrize("text", ["4.2", "3.11", "0.0"])
def test_a_release_that_is_too_old_is_refused_by_name(text):
    with pytest.raises(UsageError, match=f"OpenShift {text} is older than 4.3"):
        Release.parse(text)


def test_a_long_text_is_not_repeated_whole():
    with pytest.raises(UsageError) as caught:
        Release.parse("x" * 10_000)
    assert len(caught.value.message) < 100


def test_releases_compare_as_numbers():
    assert Release.parse("4.3") < Release.parse("4.9") < Release.parse("4.18") < Release.parse("4.20") < Release.parse("5.0")


@pytest.mark.parametrize(
    ("property_name", "last_without", "first_with"),
    [
        ("server_side_apply", "4.5", "4.6"),
        ("has_priority", "4.5", "4.6"),
        ("serves_file_based", "4.8", "4.9"),
        ("has_cluster_catalog", "4.17", "4.18"),
        ("extracts_without_cache", "4.19", "4.20"),
    ],
)
def test_each_ability_begins_with_its_release(property_name, last_without, first_with):
    assert getattr(Release.parse(last_without), property_name) is False
    assert getattr(Release.parse(first_with), property_name) is True
    assert getattr(Release.parse("5.0"), property_name) is True


@pytest.mark.parametrize(
    ("release", "fields"),
    [
        ("4.9", set()),
        ("4.10", FIRST_POD_FIELDS),
        ("4.11", FIRST_POD_FIELDS),
        ("4.12", FIRST_POD_FIELDS | {"securityContextConfig"}),
        ("4.14", FIRST_POD_FIELDS | {"securityContextConfig", "affinity", "memoryTarget"}),
        ("4.15", FIRST_POD_FIELDS | {"securityContextConfig", "affinity", "memoryTarget", "extractContent"}),
        ("5.0", FIRST_POD_FIELDS | {"securityContextConfig", "affinity", "memoryTarget", "extractContent"}),
    ],
)
def test_the_fields_of_grpc_pod_config_grow_by_release(release, fields):
    assert Release.parse(release).pod_config_fields == fields


@pytest.mark.parametrize(
    ("release", "existing_icsp", "by_digest", "by_tag"),
    [
        ("4.3", False, ICSP, None),
        ("4.12", False, ICSP, None),
        ("4.13", False, IDMS, ITMS),
        ("4.13", True, ICSP, None),
        ("4.14", True, ICSP, None),
        ("4.15", True, IDMS, ITMS),
        ("4.20", False, IDMS, ITMS),
        ("5.0", True, IDMS, ITMS),
    ],
)
def test_the_kinds_of_mirror_rules_are_never_combined_before_4_15(release, existing_icsp, by_digest, by_tag):
    known = Release.parse(release)
    assert known.digest_rules(existing_icsp=existing_icsp) is by_digest
    assert known.tag_rules(existing_icsp=existing_icsp) is by_tag
