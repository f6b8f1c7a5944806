"""Blobs and properties are decoded as opm decodes them: a package that opm would refuse is left out, with the reason.

Sources: operator-framework/operator-registry, alpha/property/property.go (Parse), alpha/declcfg/declcfg.go (Meta), load.go
(readBundleObjects); Go, package encoding/json.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from common.errors import CatalogError, UsageError
from common.version import try_parse
from exporter.catalog.model import Catalog, Property
from exporter.catalog.properties import fault
from exporter.catalog.readers import file_based, sqlite
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.related_images import inline_csvs
from exporter.catalog.requirements import NeedsApi, NeedsPackage, Unclear, provided, required
from exporter.catalog.selection import select
from exporter.catalog.validation import validate
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes import opm
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, stream
from tests.samples import more


def data(text: bytes) -> bytes:
    return json.dumps({"data": base64.b64encode(text).decode()}).encode()


REFUSED: list[tuple[str, bytes, str]] = [
    ("olm.gvk", b'"text"', "text, wanted an object"),
    ("olm.gvk", b'{"group":"a","kind":"K","version":1}', "'version': a number, wanted text"),
    ("olm.gvk.required", b'{"KIND":[]}', "'kind': a list, wanted text"),
    ("olm.package", b'{"packageName":"foo","version":1.0}', "'version': a number"),
    ("olm.package.required", b'{"packageName":"a","versionRange":{}}', "'versionRange': an object"),
    ("olm.bundle.object", b'{"data":"e30"}', "not base64"),
    ("olm.bundle.object", data(b"kind: ["), "neither JSON nor YAML"),
    ("olm.bundle.object", b'{"ref":"objects/csv.yaml"}', "a filtered catalog does not have it"),
    ("olm.csv.metadata", b'{"annotations":{"a":1}}', "'annotations': 'a': a number, wanted text"),
    ("olm.csv.metadata", b'{"provider":"Example"}', "'provider': text, wanted an object"),
    ("olm.channel", b'{"priority":"1"}', "'priority': text, wanted a number"),
    ("olm.search.metadata", b'[{"name":"a","type":"String","value":""}]', "its value is no 'String'"),
    ("example.other", b"", "has no value"),
]
FURTHER = [
    ("olm.bundle.object", b'{"data":[256]}', "wanted an integer from 0 to 255"),
    ("olm.bundle.object", data(b"{\xff}"), "neither JSON nor YAML"),
    ("olm.bundle.object", b'{"ref":"a","data":"e30="}', "data as well"),
    ("olm.csv.metadata", b'{"installModes":[{"type":"a","supported":"yes"}]}', "'supported': text, wanted true or false"),
    ("olm.csv.metadata", b'{"keywords":"a"}', "'keywords': text, wanted a list"),
    ("olm.csv.metadata", b'{"apiServiceDefinitions":{"owned":[{"containerPort":2147483648}]}}', "'containerPort': the number"),
    ("olm.csv.metadata", b'{"crdDescriptions":{"owned":[{"specDescriptors":[{"x-descriptors":[1]}]}]}}', "'x-descriptors'"),
    ("olm.csv.metadata", b'{"nativeAPIs":[{"kind":{}}]}', "'kind': an object"),
    ("olm.channel", b'{"priority":1.5}', "the number 1.5"),
    ("olm.channel", b'{"priority":9223372036854775807}', "the number 9223372036854775807"),
    ("olm.search.metadata", b'{"a":1}', "an object, wanted a list"),
    (
        "olm.search.metadata",
        b'[{"name":"a","type":"String","value":"x"},{"name":"a","type":"String","value":"x"}]',
        "two items",
    ),
    ("olm.search.metadata", b'[{"name":"a","type":"ListString","value":["x",1]}]', "no 'ListString'"),
    ("olm.search.metadata", b'[{"name":"a","type":"Other","value":1}]', "no 'Other'"),
    ("olm.search.metadata", b'[{"type":"String","value":"x"}]', "no name, type or value"),
]
TAKEN: list[tuple[str, bytes]] = [
    ("olm.gvk", b"null"),
    ("olm.gvk", b'{"Group":"a","KIND":"K","ver\xc5\xbfion":"v1","more":1}'),  # U+017F folds to `s`
    ("olm.gvk", b'{"kind":null}'),
    ("olm.gvk", b'{"kind":"\xff\\ud800"}'),
    ("olm.bundle.object", b"{}"),
    ("olm.bundle.object", b'{"data":"e3\\r\\n0="}'),
    ("olm.bundle.object", data(b"{not JSON, which opm does not read")),
    ("olm.bundle.object", data(b"kind: ConfigMap\n")),
    ("olm.csv.metadata", b'{"annotations":{"a":null},"provider":null,"more":{"a":1}}'),
    ("olm.csv.metadata", b'{"apiServiceDefinitions":{"owned":[{"containerPort":8.443e3}]}}'),
    ("olm.channel", b'{"priority":1e2}'),
    ("olm.search.metadata", b'[{"name":"a","type":"MapStringBoolean","value":{"x":true}}]'),
    ("olm.constraint", b'"anything"'),
    ("olm.maxOpenShiftVersion", b"4.12"),
    ("example.other", b"null"),
]


@pytest.mark.parametrize(("kind", "value", "why"), [*REFUSED, *(pytest.param(*one, marks=pytest.mark.more) for one in FURTHER)])
def test_a_property_that_opm_cannot_decode_is_named(kind: str, value: bytes, why: str) -> None:
    assert why in fault(Property(kind, msgspec.Raw(value)))


@pytest.mark.parametrize(("kind", "value"), TAKEN)
def test_a_property_that_opm_decodes_is_taken(kind: str, value: bytes) -> None:
    assert fault(Property(kind, msgspec.Raw(value))) == ""


def broken(**properties: Any) -> list[dict[str, Any]]:
    """Return the blobs of a package `bad`, whose one bundle has a further property."""
    bundle = bundle_blob("bad.v1.0.0", package="bad")
    bundle["properties"].append({"type": "olm.package", **properties})
    return [package_blob("bad"), channel_blob("stable", [entry("bad.v1.0.0")], "bad"), bundle]


GOOD = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0")]
REQUEST = OperatorRequest("catalog", packages=(PackageRequest("foo"), PackageRequest("bad")))


def left_out(*blobs: dict[str, Any]) -> str:
    """Select everything of a good package and a bad one; return why the bad one is left out."""
    selection = select(catalog_of(*GOOD, *blobs), REQUEST)
    assert list(catalog_files(selection.catalog)) == ["foo/catalog.json"]
    (problem,) = [one for one in selection.problems if one.subject.startswith("bad")]
    assert (problem.severity, problem.code) == ("error", "catalog-invalid")
    assert "left out, for OLM would refuse it" in problem.message
    return problem.message


def test_an_olm_package_property_that_is_null_counts() -> None:
    """operator-framework/operator-registry#966: such a property makes opm refuse the whole index."""
    assert "has 2 readable olm.package properties" in left_out(*broken(value=None))
    assert "property 3 (olm.package): has no value" in left_out(*broken())
    with pytest.raises(CatalogError, match="2 readable"):
        catalog_files(catalog_of(*broken(value={})))


def bad(package: dict[str, Any] | None = None, channel: dict[str, Any] | None = None, **bundle: Any) -> list[dict[str, Any]]:
    """Return the blobs of a package `bad` with further fields."""
    entries = [entry("bad.v1.0.0")]
    return [
        package_blob("bad") | (package or {}),
        channel_blob("stable", entries, "bad") | (channel or {}),
        bundle_blob("bad.v1.0.0", package="bad") | bundle,
    ]


OTHERS = {
    "icon": (bad(package={"icon": {"base64data": "no base64", "mediatype": "image/png"}}), "'icon': 'base64data': not base64"),
    "description": (bad(package={"Description": 5}), "'description': a number"),
    "properties of a channel": (bad(channel={"properties": [{"type": 5}]}), "'properties': '1': 'type': a number"),
    "package of a package": (bad(package={"package": None}), "its package is no text"),
    "properties of a package": (bad(package={"properties": {}}), "'properties': an object"),
    "large integer": (bad(Extra=[1, {"a": 10**400}]), "a number is too large"),
    "name of deprecations": (
        [*bad(), {"schema": "olm.deprecations", "package": "bad", "name": None, "entries": []}],
        "its name is no text",
    ),
    "name of another blob": ([*bad(), {"schema": "example", "package": "bad", "name": None}], "its name is no text"),
}


@pytest.mark.parametrize("name", [*list(OTHERS)[:3], *more(list(OTHERS)[3:])])
def test_what_opm_decodes_of_other_blobs_is_checked(name: str) -> None:
    """alpha/declcfg/declcfg.go: the types Package, Channel, Icon and Meta."""
    blobs, why = OTHERS[name]
    assert why in left_out(*blobs)


def test_a_number_beyond_a_float64_costs_its_package() -> None:
    """Meta.UnmarshalJSON decodes all of a blob, and Go has no number for 1e400."""
    text = stream(*GOOD, *bad(more="HERE")).replace(b'"HERE"', b"1e400")
    selection = select(file_based.load([("catalog.json", text)]), REQUEST)
    assert list(selection.catalog.packages) == ["foo"]
    assert "a number is too large" in selection.problems[0].message


def test_a_blob_of_no_package_that_opm_refuses_is_left_out() -> None:
    catalog = catalog_of(*GOOD, {"schema": "example", "name": None}, {"schema": "example", "name": "x"})
    selection = select(catalog, OperatorRequest("catalog"))
    assert [one.name for one in selection.catalog.others] == ["x"]
    assert "the example blob is left out" in selection.problems[0].message
    with pytest.raises(CatalogError, match="its name is no text"):
        catalog_files(catalog)


def test_fields_are_found_in_any_case() -> None:
    """Go, package encoding/json: a related image or an edge under another spelling is one for opm as well."""
    entries = [{"name": "foo.v2.0.0", "Replaces": "foo.v1.0.0"}, {"NAME": "foo.v1.0.0"}]
    images = [{"Name": "a", "IMAGE": "quay.io/example/a:v1", "value": 5}, None]
    second = bundle_blob("foo.v2.0.0", relatedImages=images)
    second["properties"][0] = {"Type": "olm.package", "VALUE": {"PackageName": "foo", "Version": "2.0.0"}}
    catalog = catalog_of(package_blob(), channel_blob("stable", []) | {"entries": entries}, second, GOOD[2])
    assert (validate(catalog), catalog.problems) == ([], ())
    bundle = catalog.packages["foo"].bundles["foo.v2.0.0"]
    assert [one.image for one in bundle.related_images] == ["quay.io/example/a:v1", ""]


def test_requirements_are_read_as_go_reads_them() -> None:
    """operator-framework/api, pkg/constraints/constraint.go: unknown fields of a constraint are an error, `none` is `not`."""
    values: list[tuple[str, Any]] = [
        ("olm.gvk", {"Kind": "K", "VERSION": "v1", "group": None}),
        ("olm.gvk.required", {"KIND": "R", "version": "v1"}),
        ("olm.package.required", {"packagename": "bar", "versionRange": ">=1.0.0"}),
        ("olm.constraint", {"Package": {"packageName": "baz", "versionRange": "1.x", "other": 1}}),
        ("olm.constraint", {"all": {"constraints": [{"GVK": {"kind": "A", "version": "v1"}, "any": None}]}}),
        ("olm.constraint", {"none": {"constraints": []}, "failureMessage": "never"}),
    ]
    blob = bundle_blob("foo.v1.0.0")
    blob["properties"] += [{"type": kind, "value": value} for kind, value in values]
    (bundle,) = catalog_of(*GOOD[:2], blob).bundles
    assert {str(one) for one in provided(bundle)} == {"API /v1 K"}
    found = required(bundle)
    assert [str(one) for one in found if isinstance(one, (NeedsApi, NeedsPackage))] == [
        *("package bar >=1.0.0", "API /v1 R", "API /v1 A"),
    ]
    assert [str(one) for one in found if isinstance(one, Unclear)] == [
        "a constraint that OLM would not read: 'package': unknown field 'other'",
        "a constraint `none`, which only the cluster can decide: never",
    ]


def test_numbers_of_versions_have_64_bits() -> None:
    """blang/semver v4, semver.go, Parse."""
    assert try_parse("18446744073709551615.0.0-18446744073709551615") is not None
    assert try_parse("18446744073709551616.0.0") is None
    assert try_parse("1.0.0-a.18446744073709551616") is None


CSV = b"kind: ClusterServiceVersion\nmetadata: {name: foo.v1.0.0}\n"


def by_reference(*names: str) -> list[dict[str, Any]]:
    blob = bundle_blob("foo.v1.0.0", image="")
    blob["properties"] += [{"type": "olm.bundle.object", "value": {"ref": name}} for name in names]
    return [*GOOD[:2], blob]


def load(*names: str, path: str = "foo/index.json") -> Any:
    files = {path: stream(*by_reference(*names)), "foo/objects/csv.yaml": CSV, ".indexignore": b"**/objects/*\n"}
    return file_based.load(files.items())


@pytest.mark.parametrize("name", ["objects/csv.yaml", *more(["./objects/../objects/csv.yaml", "../foo/objects/csv.yaml"])])
def test_an_object_by_reference_is_inside_of_the_filtered_catalog(name: str) -> None:
    """Catalogs of earlier opm have objects in files (alpha/property/property.go, File), which a filtered catalog has not."""
    catalog = load(name)
    (bundle,) = catalog.bundles
    assert [csv["metadata"]["name"] for csv in inline_csvs(bundle)] == ["foo.v1.0.0"]
    assert b"ref" not in catalog_files(catalog)["foo/catalog.json"]


@pytest.mark.parametrize("name", ["objects/gone.yaml", *more(["/foo/objects/csv.yaml", "../../etc/passwd", "csv.yaml"])])
def test_an_object_whose_file_is_missing_costs_its_package(name: str) -> None:
    (finding,) = validate(load("objects/csv.yaml", name))
    assert f"refers to the file {name!r}" in finding.message
    assert finding.fatal


def test_objects_by_reference_are_bounded_together() -> None:
    limits = file_based.Limits(size=2000)
    with pytest.raises(CatalogError, match="objects by reference: more than 2"):
        file_based.load([("a.json", stream(*by_reference(*["b"] * 3))), ("b", b"x" * 800), (".indexignore", b"b\n")], limits)
    found = file_based.load(
        [("a.json", stream(*by_reference(*["b"] * 2))), ("b", b"x" * 800), (".indexignore", b"b\n")], limits
    )
    assert found.packages


def prioritized(**priorities: Any) -> Any:
    """Return the selection of all channels but the default one, `stable`."""
    channels = [
        channel_blob(name, [entry("foo.v1.0.0")]) | ({} if value is None else {"properties": value})
        for name, value in priorities.items()
    ]
    catalog = catalog_of(*GOOD, *channels)
    wanted = tuple(ChannelRequest(name) for name in priorities)
    return select(catalog, OperatorRequest("catalog", packages=(PackageRequest("foo", channels=wanted),)))


def priority(number: Any) -> list[dict[str, Any]]:
    return [{"type": "olm.channel", "value": {"channelName": "any", "priority": number}}]


def test_the_publisher_decides_by_priorities_which_channel_follows_a_dropped_default() -> None:
    """ibm-mas/ansible-devops#1288, openshift/oc-mirror#453: there the channel of the highest priority becomes the default."""
    selection = prioritized(alpha=priority(1), beta=priority(3), gamma=None)
    assert selection.catalog.packages["foo"].default_channel == "beta"
    assert selection.notes == ("foo: beta becomes the default channel, for 'stable' is not kept and its priority 3 is highest",)
    assert b'"defaultChannel":"beta"' in catalog_files(selection.catalog)["foo/catalog.json"]


@pytest.mark.parametrize(
    "priorities",
    [
        {"alpha": None, "beta": None},
        {"alpha": priority(2), "beta": priority(2)},
        *more(
            [{"alpha": [{"type": "olm.channel"}], "beta": None}, {"alpha": priority("9"), "beta": [{"type": "x", "value": 1}]}]
        ),
    ],
)
def test_without_a_single_highest_priority_the_user_decides(priorities: Any) -> None:
    with pytest.raises(UsageError, match="drops its default channel 'stable'") as error:
        prioritized(**priorities)
    assert "set defaultChannel to one of: alpha, beta" in error.value.hint


def rows(*properties: tuple[str, str], csv: str = "") -> Catalog:
    """Return the catalog of a database with the packages `foo` and `bad`; the bundle of `bad` has these rows."""
    bundles = {
        f"{name}.v1": sqlite.BundleRow(f"{name}.v1", csv, image=f"quay.io/example/{name}:v1", version="1.0.0")
        for name in ("foo", "bad")
    }
    bundles["bad.v1"].properties = list(properties)
    edges = {(name, "stable"): [sqlite.EdgeRow(f"{name}.v1", "", 0)] for name in ("foo", "bad")}
    return sqlite.catalog_of(sqlite.Database({"foo": "stable", "bad": "stable"}, list(edges), edges, bundles))


ROWS = [
    (("olm.package", "null"), "has 2 readable olm.package properties"),
    (("olm.gvk", '{"group":"a","kind":"K","version":1}'), "(olm.gvk): 'version': a number, wanted text"),
    (("olm.package", '"text"'), "(olm.package): text, wanted an object"),
    (("olm.gvk", "{"), "(olm.gvk): has no value"),
    (("olm.gvk.required", "null "), ""),
]


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_a_row_of_a_database_that_opm_refuses_costs_its_package(row: int) -> None:
    """operator-registry renders the rows as properties (pkg/sqlite/conversion.go), and refuses the index that it made."""
    properties, why = ROWS[row]
    selection = select(rows(properties), REQUEST)
    files = catalog_files(selection.catalog)
    opm.load(files)
    assert ("bad/catalog.json" not in files) is bool(why)
    assert not why or any(why in one.message for one in selection.problems)


def test_an_icon_that_opm_cannot_decode_is_left_out_of_a_converted_catalog() -> None:
    csv = {"kind": "ClusterServiceVersion", "spec": {"icon": [{"base64data": "no base64", "mediatype": "image/png"}]}}
    catalog = rows(("olm.package", '{"packageName":"bad","version":"1.0.0"}'), csv=json.dumps(csv))
    assert validate(catalog) == []
    assert b"icon" not in catalog.packages["bad"].blob.raw
