"""What `diff` says of OpenShift releases."""

import time

from common.archive.inventory import ComponentRecord, ReleaseRecord
from common.oci.image import Digest
from exporter.plan import release_diff


def release(version, architecture="amd64", digest="a", **components):
    listed = tuple(ComponentRecord(name, f"quay.io/x@{source}") for name, source in components.items())
    return ReleaseRecord(version, architecture, f"quay.io/p:{version}", Digest(f"sha256:{digest * 64}"), components=listed)


def test_the_next_release_names_the_components_that_changed():
    old = [release("4.18.3", cli="1", installer="1", pod="1")]
    new = [*old, release("4.18.10", digest="b", cli="2", installer="1", tests="1"), release("4.18.10", "arm64", cli="9")]
    found = release_diff.between(old, new)
    changes = {"since": "4.18.3", "added": ["tests"], "removed": ["pod"], "changed": ["cli"]}
    assert found == {
        "added": [
            {"version": "4.18.10", "architecture": "amd64", "components": changes},
            {"version": "4.18.10", "architecture": "arm64"},  # there is no other one of this architecture
        ],
        "removed": [],
        "changed": [],
    }
    assert release_diff.rows(found) == [
        ("+", "amd64", "4.18.10", "since 4.18.3: cli, +tests, -pod"),
        ("+", "arm64", "4.18.10", "new"),
    ]


def test_the_one_before_may_be_in_the_same_archive():
    new = [release("4.18.9", cli="1"), release("4.18.10", cli="1")]
    found = release_diff.between([release("4.18.3", cli="0")], new)
    assert [each["components"]["since"] for each in found["added"]] == ["4.18.3", "4.18.9"]
    assert release_diff.rows(found)[1][3] == "the same components as 4.18.9"


def test_releases_that_are_gone_and_those_with_another_payload():
    found = release_diff.between([release("4.18.3"), release("4.18.4", cli="1")], [release("4.18.4", digest="b", cli="2")])
    assert found["removed"] == [{"version": "4.18.3", "architecture": "amd64"}]
    (changed,) = found["changed"]
    assert (changed["from"], changed["to"]) == (f"sha256:{'a' * 64}", f"sha256:{'b' * 64}")
    assert changed["components"]["changed"] == ["cli"]
    assert release_diff.rows(found)[0] == ("-", "amd64", "4.18.3", "gone")


def test_a_version_that_is_none_has_no_predecessor():
    found = release_diff.between([release("4.18.3")], [release("nightly")])
    assert found["added"] == [{"version": "nightly", "architecture": "amd64"}]


def test_an_inventory_may_have_thousands_of_releases():
    old, new = ([release(f"4.{minor}.{patch}") for patch in range(2_000)] for minor in (18, 19))
    began = time.process_time()
    found = release_diff.between(old, new)
    assert time.process_time() - began < 5  # each with each: half a minute
    assert [found["added"][place]["components"]["since"] for place in (0, 1)] == ["4.18.1999", "4.19.0"]
