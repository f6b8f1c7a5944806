"""Operators that are not for the cluster's release: what heads state, where, and what both programs make of it.

Sources: OLM, pkg/controller/operators/openshift/helpers.go and pkg/controller/operators/olm/requirements.go.
"""

from __future__ import annotations

import base64
import codecs
import json
from typing import Any

import pytest

from common.archive.inventory import ChannelRecord, PackageRecord
from common.openshift.supported_releases import kubernetes_of, unsupported, version_of
from exporter.catalog.readers import file_based
from exporter.catalog.readers.opening import CatalogOpener
from exporter.catalog.records import package_records
from exporter.catalog.stated import stated
from exporter.plan import installed
from importer.cluster.preflight import Intent, circumstances
from importer.cluster.release import Release
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, package_of, real
from tests.fakes.commands import run
from tests.samples import more

MAXIMUM = "olm.maxOpenShiftVersion"


def head(*properties: dict[str, Any]) -> Any:
    """Return a bundle with these properties, and none of its own metadata."""
    own = {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}
    blob = bundle_blob("foo.v1.0.0", properties=[own, *properties])
    return catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob).packages["foo"].bundles["foo.v1.0.0"]


def maximum(value: Any) -> dict[str, Any]:
    return {"type": MAXIMUM, "value": value}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"type": "olm.csv.metadata", "value": fields}


def csv(document: dict[str, Any]) -> dict[str, Any]:
    raw = json.dumps({"kind": "ClusterServiceVersion", **document}).encode()
    return {"type": "olm.bundle.object", "value": {"data": base64.b64encode(raw).decode()}}


ANNOTATED = {"olm.properties": json.dumps([{"type": "x"}, {"type": MAXIMUM, "value": "4.9"}])}
STATED = [
    ([maximum("4.12")], ("4.12", None)),
    ([metadata(minKubeVersion="1.33.0")], (None, "1.33.0")),
    ([csv({"metadata": {"annotations": ANNOTATED}, "spec": {"minKubeVersion": "1.20.0"}})], ("4.9", "1.20.0")),
    ([maximum("4.9"), maximum("4.11"), maximum("4.10")], ("4.11", None)),
    ([metadata(annotations={"olm.properties": "["}, minKubeVersion=[1]), maximum(None)], (None, None)),
    *more(
        [
            ([metadata(annotations=ANNOTATED)], ("4.9", None)),
            ([maximum({"a": [1]})], ('{ "a": [ 1 ] }', None)),  # indented in the file
            ([maximum(4.1), maximum(["4.9"]), maximum("")], ("4.1", None)),
            ([csv({"metadata": 1, "spec": []}), csv({})], (None, None)),
            ([metadata(annotations=3, minKubeVersion=" ")], (None, None)),
            ([metadata(annotations={"olm.properties": json.dumps([{"type": MAXIMUM}, 3])})], (None, None)),
        ]
    ),
]


@pytest.mark.parametrize("case", STATED)
def test_what_a_bundle_states_is_found_where_olm_finds_it(case):
    properties, wanted = case
    found = stated(head(*properties))
    assert (found.max_open_shift_version, found.min_kube_version) == wanted


def test_a_number_stays_as_it_was_written():
    """4.10 is no 4.1; OLM looks at the text of the number too (ToAllowedSemver)."""
    blob = json.dumps(bundle_blob("foo.v1.0.0", properties=[maximum("@")])).replace('"@"', "4.10")
    parts = [json.dumps(package_blob()), json.dumps(channel_blob("stable", [entry("foo.v1.0.0")])), blob]
    bundle = file_based.load([("a", "\n".join(parts).encode())]).packages["foo"].bundles["foo.v1.0.0"]
    assert stated(bundle).max_open_shift_version == "4.10"


def package(*channels: tuple[str, str, str | None, str | None], name: str = "foo") -> PackageRecord:
    listed = tuple(ChannelRecord(channel, head, (), above, below) for channel, head, above, below in channels)
    return PackageRecord(name, "stable", listed)


@pytest.mark.parametrize(
    "case",
    [
        ("4.12", None, (4, 18), "is for releases up to 4.12"),
        (None, "1.33.0", (4, 18), "needs Kubernetes 1.33.0, and there is 1.31"),
        ("4.18", "1.31.9", (4, 18), ""),
        ("v4.12.3", None, (4, 13), "is for releases up to 4.12"),
        (None, "1.31", (4, 18), "has the minKubeVersion '1.31', which OLM cannot read"),
        ('["4.12"]', None, (4, 3), f"has the {MAXIMUM} '[\"4.12\"]', which OLM cannot read"),
        ("4.9", "1.40.0-0", (4, 10), "is for releases up to 4.9 and needs Kubernetes 1.40.0-0, and there is 1.23"),
        *more(
            [
                ("4.23", "1.36.0", (5, 0), ""),
                ("5.0", None, (4, 23), ""),
                ("4.22", "1.37.0", (5, 0), "is for releases up to 4.22 and needs Kubernetes 1.37.0, and there is 1.36"),
                ("5.0", None, (5, 1), "is for releases up to 5.0"),
                (">=4.12", None, (4, 3), f"has the {MAXIMUM} '>=4.12'"),
                ("4.9", None, (4, 10), "is for releases up to 4.9"),
                (None, "v1.19.0", (4, 6), ""),
                (None, "2.0.0", (4, 20), "needs Kubernetes 2.0.0"),
                (None, "1.99.0", (4, 2), ""),
                ("", "", (4, 18), ""),
            ]
        ),
    ],
)
def test_a_head_is_for_a_release_or_is_named(case):
    above, below, release, why = case
    found = list(unsupported([package(("stable", "foo.v1", above, below))], release))
    wanted = f"on OpenShift {release[0]}.{release[1]}: foo.v1 (stable) {why}"
    assert [one for _, one in found] == [] if not why else found[0][1].startswith(wanted)


def test_releases_have_the_kubernetes_of_their_release_notes():
    known = {
        (4, 3): (1, 16),
        (4, 6): (1, 19),
        (4, 12): (1, 25),
        (4, 18): (1, 31),
        (4, 20): (1, 33),
        (4, 2): None,
        (3, 11): None,
    }
    assert {release: kubernetes_of(release) for release in known} == known


def test_the_heads_of_a_package_are_one_short_problem():
    same = [(f"stable-{number}", "foo.v1", "4.8", None) for number in range(9)]
    others = [(f"old-{number}", f"foo.v0.{number}", "4.8", None) for number in range(5)]
    (problem,) = installed.unsupported([package(*same, *others), package(("a", "b", None, None), name="bar")], (4, 18))
    assert (problem.severity, problem.code, problem.subject) == ("warning", "release-unsupported", "foo")
    assert "foo.v1 (stable-0, stable-1, stable-2, …) is for releases up to 4.8; foo.v0.0 (old-0)" in problem.message
    assert problem.message.endswith("; 3 more heads")
    assert installed.unsupported([package(*same)], None) == []


def test_only_heads_are_looked_at():
    graph = {"stable": [entry("foo.v2.0.0", "foo.v1.0.0"), entry("foo.v1.0.0")]}
    catalog = package_of(graph)
    (record,) = package_records(catalog)
    assert (record.channels[0].head, record.channels[0].max_open_shift_version) == ("foo.v2.0.0", None)


def test_real_heads_state_their_releases():
    records = package_records(real("fbc/bundle-object-v4.16"))
    found = {(channel.max_open_shift_version, channel.min_kube_version) for one in records for channel in one.channels}
    assert found - {(None, None)}, "the heads of this catalog state one"


def test_package_manifests_state_them_too_and_may_begin_with_a_byte_order_mark(tmp_path):
    csv = "kind: ClusterServiceVersion\nmetadata: {name: foo.v1.0.0}\nspec: {version: 1.0.0, minKubeVersion: 1.33.0}\n"
    package = codecs.BOM_UTF8 + b"packageName: foo\nchannels: [{name: stable, currentCSV: foo.v1.0.0}]\n"
    (tmp_path / "foo.clusterserviceversion.yaml").write_text(csv)
    (tmp_path / "foo.package.yaml").write_bytes(package)
    opened = CatalogOpener(None, None).open(str(tmp_path))  # type: ignore[arg-type] - nothing is fetched or stored
    (record,) = package_records(opened.catalog)
    assert (record.channels[0].head, record.channels[0].min_kube_version) == ("foo.v1.0.0", "1.33.0")


class Cluster:
    """A cluster that has nothing."""

    def get(self, *_: Any) -> None:
        return None

    def list(self, *_: Any) -> list[Any]:
        return []


def test_the_preflight_compares_with_the_release_of_the_cluster():
    packages = [package(("stable", "foo.v1", "4.17", None)), package(("stable", "bar.v1", None, None), name="bar")]
    for release, wanted in (
        (Release(4, 18), ["foo: on OpenShift 4.18: foo.v1 (stable) is for releases up to 4.17"]),
        (None, []),
    ):
        intent = Intent((), release, "mirror.example.com", packages=packages)
        found = [one for one in circumstances(Cluster(), intent) if one.code == "release-unsupported"]  # type: ignore[arg-type]
        assert [line for one in found for line in one.evidence] == wanted
    many = Intent((), Release(4, 18), "mirror.example.com", packages=[packages[0]] * 30)
    (finding,) = circumstances(Cluster(), many)  # type: ignore[arg-type] - the methods that are called
    assert len(finding.evidence) == 21
    assert (finding.severity, finding.evidence[-1]) == ("warning", "and 10 more")


@pytest.mark.parametrize(
    ("reported", "minimum", "why"),
    [
        ("v1.31.2", "1.31.2", ""),
        ("v1.31.2+k3s1", "1.31.3", "needs Kubernetes 1.31.3, and there is 1.31.2"),
        ("v1.29.9-eks-a737599", "1.30.0", "needs Kubernetes 1.30.0, and there is 1.29.9"),
        ("v1.33.0-rc.1", "1.33.0", ""),
        ("v1.9.1", "1.10.0", "needs Kubernetes 1.10.0, and there is 1.9.1"),
        ("1.31", "9.0.0", ""),
        ("", "1.16.0", ""),
        ("", "1.16", "has the minKubeVersion '1.16', which OLM cannot read, and so never installs it"),
    ],
)
def test_a_cluster_is_asked_for_its_own_version(reported, minimum, why):
    """OLM compares all three numbers of /version (requirements.go, minKubeVersionStatus), on every Kubernetes.

    Seen before: nothing was said on a Kubernetes that is no OpenShift.
    """
    packages, has = [package(("stable", "foo.v1", "4.17", minimum))], version_of(reported)
    where = f"Kubernetes {'.'.join(map(str, has))}" if has else "this cluster"
    wanted = [f"foo: on {where}: foo.v1 (stable) {why}"] if why else []
    found = circumstances(Cluster(), Intent((), None, "mirror.example.com", packages=packages, kubernetes=has))  # type: ignore[arg-type]
    assert [line for one in found if one.code == "release-unsupported" for line in one.evidence] == wanted
    # Neighbour: the patch version counts on OpenShift too, whose release does not say it.
    assert not has or [why in line for _, line in unsupported(packages, (4, 16), has)] == ([True] if why else [])


def test_list_says_it_for_the_release_that_is_named(tmp_path):
    blobs = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")])]
    own = {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}
    blobs.append(bundle_blob("foo.v1.0.0", properties=[own, metadata(minKubeVersion="1.33.0"), maximum("4.12")]))
    (tmp_path / "catalog.json").write_text("\n".join(map(json.dumps, blobs)))
    done = run("hub-export", "list", "--catalog", tmp_path, "--openshift-release", "4.18", "--format", "json")
    assert done.status == 0, done.stderr
    (problem,) = done.json["problems"]
    assert (problem["code"], problem["subject"]) == ("release-unsupported", "foo")
    (channel,) = done.json["catalogs"][0]["packages"][0]["channels"]
    assert (channel["maxOpenShiftVersion"], channel["minKubeVersion"]) == ("4.12", "1.33.0")
    assert run("hub-export", "list", "--catalog", tmp_path, "--format", "json").json["problems"] == []
