"""What the head of a channel states about namespace, install modes and disconnected clusters, and the graph in records.

The annotations are those of openshift/console, operator-hub-types.ts, OLMAnnotation; install modes those of
operator-framework/api, pkg/operators/v1alpha1/clusterserviceversion_types.go.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter

import msgspec
import pytest

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord
from exporter.catalog.readers import sqlite
from exporter.catalog.records import package_records
from exporter.catalog.stated import MAX_NAMESPACE, MAX_TEMPLATE, Stated, stated
from tests.fakes import databases, inventories
from tests.fakes.catalogs import CATALOGS, bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more

NAMESPACE = "operatorframework.io/suggested-namespace"
TEMPLATE = "operatorframework.io/suggested-namespace-template"
NEW = "features.operators.openshift.io/disconnected"
OLD = "operators.openshift.io/infrastructure-features"


def said(*properties):
    """Return what a bundle with these properties states."""
    own = {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}
    blob = bundle_blob("foo.v1.0.0", properties=[own, *properties])
    catalog = catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob)
    return stated(catalog.packages["foo"].bundles["foo.v1.0.0"])


def metadata(annotations=None, **fields):
    return {"type": "olm.csv.metadata", "value": {"annotations": annotations or {}, **fields}}


def csv(annotations=None, **spec):
    document = {"kind": "ClusterServiceVersion", "metadata": {"annotations": annotations or {}}, "spec": spec}
    data = base64.b64encode(json.dumps(document).encode()).decode()
    return {"type": "olm.bundle.object", "value": {"data": data}}


def test_names_of_fields_match_in_any_case_as_in_go():
    """Go, encoding/json, *Unmarshal*: opm and the package server decode the property; a CSV goes to the API server as it is."""
    modes = [{"Type": "AllNamespaces", "SUPPORTED": True}, {"type": "OwnNamespace", "supported": True}]
    value = {"MINKUBEVERSION": "1.20.0", "InstallModes": modes, "Annotations": {NAMESPACE: "foo-system"}, "other": 1}
    found = said({"type": "olm.csv.metadata", "value": value})
    assert (found.min_kube_version, found.install_modes) == ("1.20.0", ("OwnNamespace", "AllNamespaces"))
    assert found.suggested_namespace == "foo-system"
    assert said(metadata(minKubeVersion="1.20.0", minkubeversion="1.21.0")).min_kube_version == "1.21.0"
    annotated = json.dumps([{"TYPE": "olm.maxOpenShiftVersion", "Value": "4.17"}])
    assert said(metadata({"olm.properties": annotated})).max_open_shift_version == "4.17"
    assert said(csv(MINKUBEVERSION="1.20.0")).min_kube_version is None


@pytest.mark.parametrize("where", [metadata, csv])
def test_all_is_found_in_metadata_and_in_csvs(where):
    modes = [{"type": "AllNamespaces", "supported": True}, {"type": "OwnNamespace", "supported": True}]
    modes += [{"type": "SingleNamespace", "supported": False}, {"type": "Other", "supported": True}]
    annotations = {NAMESPACE: "foo-system", TEMPLATE: '{"kind":"Namespace"}', NEW: "true"}
    found = said(where(annotations, installModes=modes, minKubeVersion="1.20.0"))
    assert found == Stated(
        None, "1.20.0", ("OwnNamespace", "AllNamespaces"), "foo-system", '{"kind":"Namespace"}', disconnected=True
    )


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({NEW: "true"}, True),
        ({NEW: "false"}, False),
        ({OLD: '["disconnected", "proxy-aware"]'}, True),
        ({OLD: '["Disconnected"]'}, True),
        ({OLD: '["proxy-aware"]'}, None),
        ({NEW: "false", OLD: '["disconnected"]'}, False),  # the newer spelling counts
        ({NEW: "", OLD: "[disconnected]"}, None),
        ({OLD: "[]"}, None),
        ({OLD: "[1]"}, None),
        ({OLD: "[" * 100_000}, None),
        ({}, None),
    ],
)
def test_both_spellings_of_disconnected(annotations, expected):
    assert said(metadata(annotations)).disconnected is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"installModes": {"a": 1}},
        {"installModes": [1, {"type": [1], "supported": True}, {"type": "OwnNamespace", "supported": "true"}]},
        {"annotations": []},
        {"annotations": {NAMESPACE: "", TEMPLATE: " "}},
        {"annotations": {NAMESPACE: "x" * (MAX_NAMESPACE + 1), TEMPLATE: "x" * (MAX_TEMPLATE + 1)}},
    ],
)
def test_what_is_no_statement_is_none(fields):
    """Of an annotation that is too long a part would mean something else."""
    assert said(csv(fields.pop("annotations", None), **fields)) == Stated()


def test_texts_at_their_limits_are_kept():
    found = said(metadata({NAMESPACE: "x" * MAX_NAMESPACE, TEMPLATE: "x" * MAX_TEMPLATE}))
    assert (len(found.suggested_namespace or ""), len(found.suggested_namespace_template or "")) == (63, 16384)


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("True", False), ("false", False)])
def test_the_monitoring_annotation_is_compared_as_the_console_does(text, expected):
    """openshift/console, operator-hub-subscribe.tsx: `=== 'true'`."""
    assert said(metadata({"operatorframework.io/cluster-monitoring": text})).cluster_monitoring is expected


def record_of(*properties):
    own = {"type": "olm.package", "value": {"packageName": "foo", "version": "1.0.0"}}
    blob = bundle_blob("foo.v1.0.0", properties=[own, *properties])
    (package,) = package_records(catalog_of(package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), blob))
    return package.channels[0]


def test_what_a_head_provides_and_requires_is_in_its_record():
    """`Kind.version.group`: operator-registry, pkg/registry/types.go, APIKey.String."""
    api = {"group": "example.com", "version": "v1", "kind": "Foo"}
    other = {"group": "other.com", "version": "v1beta1", "kind": "Bar"}
    found = record_of(
        {"type": "olm.gvk", "value": api},
        {"type": "olm.gvk.required", "value": other},
        {"type": "olm.package.required", "value": {"packageName": "bar", "versionRange": ">=1.0.0"}},
        {"type": "olm.constraint", "value": {"failureMessage": "x", "not": {"constraints": []}}},
    )
    assert found.provided_apis == ("Foo.v1.example.com",)
    assert found.required_apis == ("Bar.v1beta1.other.com",)
    assert [(one.package, one.range) for one in found.required_packages] == [("bar", ">=1.0.0")]
    assert found.constraints
    assert not record_of().constraints


def test_the_apis_of_a_csv_count_where_there_are_no_properties():
    owned = {"owned": [{"name": "foos.example.com", "version": "v1", "kind": "Foo"}]}
    assert record_of(csv(customresourcedefinitions=owned)).provided_apis == ("Foo.v1.example.com",)


def test_a_bundle_without_metadata_states_nothing():
    assert said() == Stated()


def _listing(name):
    """Return the edges that `opm alpha list bundles` prints, by the columns of its header."""
    header, *lines = (CATALOGS / "expected" / name / "bundles.txt").read_text().splitlines()
    names = ["PACKAGE", "CHANNEL", "BUNDLE", "REPLACES", "SKIPS", "SKIP RANGE", "IMAGE"]
    starts = [header.index(each) for each in names]
    for line in lines:
        package, channel, bundle, replaces, skips, skip_range = (
            line[start:end].strip() for start, end in itertools.pairwise(starts)
        )
        yield package, channel, bundle, replaces, tuple(sorted(skips.split(","))) if skips else (), skip_range


@pytest.mark.parametrize(
    "name", ["fbc/redhat", *more(["fbc/community-v4.20", "fbc/bundle-object-v4.16", "sqlite/schema-10", "sqlite/schema-05"])]
)
def test_the_graph_is_that_of_opm(name):
    kind, _, base = name.partition("/")
    catalog = sqlite.catalog_of(sqlite.read(databases.real(base), "x")) if kind == "sqlite" else real(name)
    found = Counter(
        (package.name, channel.name, one.name, one.replaces, tuple(sorted(one.skips)), one.skip_range)
        for package in package_records(catalog)
        for channel in package.channels
        for one in channel.bundles
    )
    assert found == Counter(_listing(name))


def test_real_heads_state_their_modes():
    heads = [channel for package in package_records(real("fbc/redhat")) for channel in package.channels]
    assert all(channel.install_modes for channel in heads)
    assert {channel.suggested_namespace for channel in heads} == {None, "cert-manager-operator"}
    assert True in {channel.disconnected for channel in heads}


def test_records_survive_the_inventory_and_older_ones_are_read():
    record = inventories.catalog(packages=package_records(real("fbc/redhat")), update_graph=True)
    raw = msgspec.json.encode(record)
    assert msgspec.json.decode(raw, type=CatalogRecord) == record
    document = json.loads(raw)
    for package in document["packages"]:
        for channel in package["channels"]:
            channel["bundles"] = [{"name": one["name"], "version": one["version"]} for one in channel["bundles"]]
            for key in (
                "installModes",
                "suggestedNamespace",
                "suggestedNamespaceTemplate",
                "disconnected",
                "clusterMonitoring",
            ):
                channel.pop(key, None)
            for key in ("providedApis", "requiredApis", "requiredPackages", "constraints"):
                channel.pop(key, None)
    del document["updateGraph"]
    older = msgspec.json.decode(json.dumps(document).encode(), type=CatalogRecord)
    assert not older.update_graph
    assert [p.name for p in older.packages] == [p.name for p in record.packages]
    assert older.packages[0].channels[0].bundles[0].replaces == ""


def test_empty_fields_are_absent():
    channel = ChannelRecord("stable", "a.v1", (BundleRecord("a.v1", "1.0.0"),))
    assert json.loads(msgspec.json.encode(channel)) == {
        "name": "stable",
        "head": "a.v1",
        "bundles": [{"name": "a.v1", "version": "1.0.0"}],
    }


def test_deprecated_bundles_are_marked():
    """Of olm.deprecations, by bundle; deprecations of a channel or package mark none (operator-controller, compare.go)."""
    (package,) = (each for each in package_records(real("fbc/redhat")) if each.name == "rhtpa-operator")
    marked = {channel.name: [one.name for one in channel.bundles if one.deprecated] for channel in package.channels}
    old = [f"rhtpa-operator.v1.0.{patch}" for patch in (2, 1, 0)]
    assert {name: names for name, names in marked.items() if names} == {"stable": old, "stable-v1.0": old}
    assert msgspec.json.encode(BundleRecord("a", "1.0.0")) == b'{"name":"a","version":"1.0.0"}'
