"""Catalog templates, empty catalogs, single files: named for what they are, with what to do (operator-registry, alpha/template)."""

from __future__ import annotations

import codecs
import json

import pytest

from common.errors import CatalogError, NotACatalogError, UsageError
from exporter.catalog.readers import file_based
from exporter.catalog.readers.opening import CatalogOpener
from exporter.catalog.selection import select
from exporter.cli import listing
from exporter.imageset.model import OperatorRequest, PackageRequest
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, stream
from tests.samples import more

FOO = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0")]
BAR = [package_blob("bar"), channel_blob("stable", [entry("bar.v1.0.0")], "bar"), bundle_blob("bar.v1.0.0", package="bar")]
SEMVER = "schema: olm.semver\ngenerateMajorChannels: true\nstable: {bundles: [{image: quay.io/example/foo:v1}]}\n"


def opened(path):
    return CatalogOpener(None, None).open(str(path)).catalog  # type: ignore[arg-type] - nothing is fetched or stored


@pytest.mark.parametrize(
    "case",
    [
        ("olm.semver", "render-template semver"),
        ("olm.template.basic", "render-template basic"),
        ("olm.composite", "render-template composite --composite-config"),
        *more(
            [
                ("olm.template.substitutes", "render-template substitutes"),
                ("olm.composite.catalogs", "render-template composite"),
                ("olm.builder.custom", "render-template composite"),
                ("olm.template.later", "render-template later"),
            ]
        ),
    ],
)
def test_a_template_is_no_catalog(case, tmp_path):
    """A template says which command renders it, as YAML and JSON, in a directory, and as a file."""
    schema, command = case
    document = {"schema": schema, "entries": []}
    for name, raw in (("t.yaml", f"---\nSchema: {schema}\n".encode()), ("t.json", codecs.BOM_UTF8 + stream(document))):
        with pytest.raises(NotACatalogError, match=rf"{name}: a \w+ template") as caught:
            file_based.load([(name, raw)])
        assert command in caught.value.hint
        (tmp_path / "deep").mkdir(exist_ok=True)
        (tmp_path / "deep" / name).write_bytes(raw)
        for path in (tmp_path, tmp_path / "deep" / name):
            with pytest.raises(NotACatalogError, match="template"):
                opened(path)


def test_a_template_beside_packages_is_named_and_they_are_read():
    """opm serves a blob of a schema that it does not know (declcfg.go, `Others`)."""
    catalog = file_based.load([("foo/catalog.json", stream(*FOO)), ("t.yaml", SEMVER.encode())])
    assert list(catalog.packages) == ["foo"]
    (problem,) = catalog.problems
    assert (problem.severity, problem.subject) == ("warning", "t.yaml")
    assert "render-template semver t.yaml" in problem.message


def test_bundles_of_an_image_alone_are_those_of_a_basic_template():
    """Basic templates were plain streams before they had a schema of their own (alpha/template/basic, isBundleTemplate)."""
    catalog = catalog_of(package_blob(), FOO[1], {"schema": "olm.bundle", "image": "quay.io/example/foo:v1"})
    assert any("opm alpha render-template basic" in problem.message for problem in catalog.problems)


def test_an_empty_catalog_says_that_it_is_empty(tmp_path):
    empty = catalog_of({"schema": "vendor.extra", "value": 1})
    whole = select(empty, OperatorRequest("registry.example/a/b:v1", full=True))
    assert [(one.severity, one.message) for one in whole.problems] == [("warning", "the catalog has no packages")]
    with pytest.raises(
        CatalogError, match=r"nothing of catalog registry\.example/a/b:v1 could be served: the catalog has no packages"
    ):
        select(empty, OperatorRequest("registry.example/a/b:v1"))
    with pytest.raises(UsageError, match="has no package 'foo'") as caught:
        select(empty, OperatorRequest("registry.example/a/b:v1", packages=(PackageRequest("foo"),)))
    assert caught.value.hint == "It has no packages."
    assert listing.channel_lines([]) == ["no packages"]


def test_a_file_of_blobs_is_a_catalog_and_another_file_is_none(tmp_path):
    path = tmp_path / "foo.json"
    path.write_bytes(stream(*FOO))
    assert list(opened(path).packages) == ["foo"]
    path.write_text("words")
    with pytest.raises(NotACatalogError, match=r"no catalog: foo\.json: document 1"):
        opened(path)
    with pytest.raises(NotACatalogError, match="neither a file nor a directory"):
        opened("/dev/null")


@pytest.mark.parametrize(
    "raw", [stream(*FOO), b"".join(json.dumps(one).encode() for one in FOO), *more([b"\n" + stream(*FOO)])]
)
def test_a_byte_order_mark_before_json_is_ignored(raw):
    """RFC 8259, 8.1: a parser may ignore it."""
    assert list(file_based.load([("a", codecs.BOM_UTF8 + raw)]).packages) == ["foo"]


BROKEN = [b'{"schema": "olm.package", "name": }', b"schema: [", b"\xff\xfe\x00", *more([b"words", b"- a\n", b"{}", b'{"a":'])]


@pytest.mark.parametrize("raw", BROKEN)
def test_a_broken_file_of_no_wanted_package_costs_itself(raw):
    files = [("foo/catalog.json", stream(*FOO)), ("zoo/catalog.yaml", raw), ("bar/catalog.json", stream(*BAR))]
    with pytest.raises(CatalogError, match="zoo/catalog"):
        file_based.load(files)
    catalog = file_based.load(files, partial=True)
    chosen = select(catalog, OperatorRequest("c", packages=(PackageRequest("foo"),)))
    assert list(chosen.catalog.packages) == ["foo"]
    assert [(one.severity, one.subject) for one in chosen.problems] == [("error", "zoo/catalog.yaml")]


@pytest.mark.parametrize(
    "raw",
    [
        stream(bundle_blob("foo.v2.0.0")) + b"{",
        b"schema: olm.channel\npackage: 'foo'\nname: [\n",
        *more([b'{"schema":"olm.bundle","package":"foo","name":', b"{a: [, package : foo }"]),
    ],
)
def test_a_package_with_blobs_in_a_broken_file_is_left_out(raw):
    """Half of a package is another package than was published."""
    files = [("foo/catalog.json", stream(*FOO)), ("more.json", raw), ("bar/catalog.json", stream(*BAR))]
    catalog = file_based.load(files, partial=True)
    request = OperatorRequest("c", packages=(PackageRequest("foo"), PackageRequest("bar"), PackageRequest("bra")))
    chosen = select(catalog, request)
    assert list(chosen.catalog.packages) == ["bar"]
    told = {one.subject: one.message for one in chosen.problems}
    assert told["foo"] == "left out: more.json, which has blobs of it, cannot be read"
    assert told["bra"] == "left out: not in the files that can be read. Near it: bar"
    with pytest.raises(CatalogError, match="nothing of catalog c"):
        select(catalog, OperatorRequest("c", packages=(PackageRequest("foo"),)))


def test_without_a_readable_package_the_broken_file_is_the_error():
    files = [("a.json", b"{"), ("b.json", b"{"), ("c.json", stream({"schema": "vendor.extra"}))]
    with pytest.raises(CatalogError, match=r"a\.json:1"):
        file_based.load(files, partial=True)


def test_many_broken_files_are_counted():
    files = [("foo.json", stream(*FOO)), *((f"x{number:03}.json", b"{") for number in range(25))]
    catalog = file_based.load(files, partial=True)
    assert len(catalog.unread) == 21
    assert catalog.unread[-1].message == "5 more files cannot be read"
