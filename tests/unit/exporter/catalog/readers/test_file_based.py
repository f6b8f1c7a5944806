"""Reading file-based catalogs: real ones, streams of every shape, and files that are none."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.errors import CatalogError, NotACatalogError
from exporter.catalog.model import Catalog
from exporter.catalog.readers import file_based
from exporter.catalog.readers.file_based import Limits
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.update_graph import UpdateGraph
from tests.fakes.catalogs import CATALOGS, bundle_blob, catalog_of, channel_blob, entry, expected, package_blob, real, stream

FBC = ["fbc/bundle-object-v4.16", "fbc/community-v4.20", "fbc/malformed", "fbc/malformed-bundle-object", "fbc/redhat"]
FOO = [package_blob(), channel_blob("stable", [entry("foo.v1.0.0")]), bundle_blob("foo.v1.0.0")]


def load(**files: bytes | str) -> Catalog:
    return file_based.load(
        (name.replace("__", "/"), raw.encode() if isinstance(raw, str) else raw) for name, raw in files.items()
    )


@pytest.mark.parametrize("name", FBC)
def test_real_catalogs_have_what_opm_counts(name: str) -> None:
    catalog = real(name)
    counts = expected("counts.json")[name]
    related = [image for bundle in catalog.bundles for image in bundle.related_images]
    assert catalog.problems == ()
    assert {
        "packages": len(catalog.packages),
        "channels": sum(len(package.channels) for package in catalog.packages.values()),
        "channel_entries": sum(len(list(package.entries)) for package in catalog.packages.values()),
        "bundles": len(list(catalog.bundles)),
        "related_images": len(related),
        "empty_related_images": sum(not image.image for image in related),
    }.items() <= counts.items()


@pytest.mark.parametrize("name", FBC)
def test_real_catalogs_have_the_heads_that_opm_lists(name: str) -> None:
    lines = (CATALOGS / "expected" / name / "channels.txt").read_text().splitlines()[1:]
    ours = [
        [package.name, channel.name, UpdateGraph.of(channel.entries, "x").head]
        for package in real(name).packages.values()
        for channel in package.channels.values()
    ]
    if lines:  # opm lists nothing of a catalog that it refuses
        assert ours == sorted(line.split() for line in lines)


@pytest.mark.parametrize("name", FBC)
def test_real_bundles_have_the_images_that_opm_shows(name: str) -> None:
    theirs = json.loads(lzma.decompress((CATALOGS / "expected" / name / "images.json.xz").read_bytes()))
    ours = {bundle.name: sorted(one.image for one in bundle.related_images) for bundle in real(name).bundles}
    assert ours == shown(theirs)


def shown(theirs: Any) -> dict[str, list[str]]:
    bundles = {name: one for package in theirs.values() for name, one in package.items()}
    return {name: sorted(image["image"] for image in one.get("relatedImages") or []) for name, one in bundles.items()}


@pytest.mark.parametrize("name", FBC)
def test_every_value_survives_a_round_trip(name: str) -> None:
    def values(catalog: Catalog) -> list[Any]:
        packages = catalog.packages.values()
        blobs = [
            *(one.blob for package in packages for one in (package, *package.channels.values(), *package.bundles.values())),
            *(package.deprecations.blob for package in packages if package.deprecations),
        ]
        return [msgspec.json.decode(blob.raw) for blob in blobs]

    catalog = real(name)
    written = file_based.load(catalog_files(catalog).items())
    assert values(written) == values(catalog)
    assert catalog_files(written) == catalog_files(catalog)


@pytest.mark.parametrize(
    "raw",
    [
        stream(*FOO),
        b"".join(json.dumps(blob).encode() for blob in FOO),
        b"\n\n  ".join(json.dumps(blob).encode() for blob in FOO),
        b"\r\n".join(json.dumps(blob, indent=1).replace("\n", "\r\n").encode() for blob in FOO),
        b"   \n" + stream(*FOO) + b"\n \n",
        b"---\n".join(json.dumps(blob, indent=1).encode() + b"\n" for blob in [{}, *FOO])[3:],
    ],
    ids=["pretty", "one line", "spaced", "CRLF", "blank around", "YAML documents of JSON"],
)
def test_streams_of_every_shape(raw: bytes) -> None:
    catalog = load(a=raw)
    assert [list(package.bundles) for package in catalog.packages.values()] == [["foo.v1.0.0"]]
    assert catalog.problems == ()


def test_braces_and_quotes_in_strings_are_no_boundaries() -> None:
    nasty = '}{ \\" "}{" \\\\'
    blobs = [*FOO, {"schema": "example", "text": nasty, "more": "}\n{"}]
    catalog = load(a=b"".join(json.dumps(blob).encode() for blob in blobs))
    assert json.loads(catalog.others[0].raw)["text"] == nasty


def test_numbers_keep_their_digits() -> None:
    raw = stream(*FOO) + b'{"schema":"example","big":123456789012345678901234567890,"dec":1.10,"e":1E300}\n'
    assert b'"big":123456789012345678901234567890,"dec":1.10,"e":1E300' in catalog_files(load(a=raw))["catalog.json"]


def test_yaml_dates_and_keys_become_what_json_has() -> None:
    text = "schema: example\ndate: 2024-01-02\n1: one\nfalse: two\n---\n---\nschema: other\n"
    catalog = load(a=text)
    assert [json.loads(blob.raw) for blob in catalog.others] == [
        {"schema": "example", "date": "2024-01-02", "1": "one", "false": "two"},
        {"schema": "other"},
    ]


def test_a_package_is_known_by_its_blob_not_its_folder() -> None:
    catalog = load(wrong__a=stream(FOO[0]), other__b=stream(*FOO[1:]))
    assert list(catalog.packages["foo"].bundles) == ["foo.v1.0.0"]


def test_field_names_are_known_in_any_case() -> None:
    blobs = [
        {"Schema": "olm.package", "NAME": "foo", "DefaultChannel": "stable"},
        {"SCHEMA": "olm.channel", "Package": "foo", "Name": "stable", "Entries": [{"name": "foo.v1.0.0"}]},
        FOO[2],
    ]
    package = load(a=stream(*blobs)).packages["foo"]
    assert (package.default_channel, list(package.channels)) == ("stable", ["stable"])


def test_nulls_stand_for_nothing() -> None:
    blobs = [
        FOO[0],
        {"schema": "olm.channel", "package": "foo", "name": "stable", "properties": None, "entries": [
            {"name": "foo.v1.0.0", "replaces": None, "skips": None, "skipRange": None}]},
        bundle_blob("foo.v1.0.0", relatedImages=None),
        {"schema": "olm.bundle", "package": "foo", "name": "bare", "image": None, "properties": None},
    ]  # fmt: skip
    catalog = load(a=stream(*blobs))
    assert catalog.problems == ()
    assert catalog.packages["foo"].channels["stable"].entries == (entry("foo.v1.0.0"),)
    assert catalog.packages["foo"].bundles["bare"].image == ""


BROKEN = {
    "README": (b"# A catalog\n", "a:? ?.*not a catalog blob: a NoneType|no such"),
    "text": (b"just words\n", "a: document 1: not a catalog blob: a str, wanted an object"),
    "an array": (b'[{"schema": "olm.package"}]', "a: document 1: not a catalog blob: a list"),
    "no schema": (b'{"name": "x"}', "a:1: not a catalog blob: an object without 'schema'"),
    "schema null": (b'{"schema": null}', "a:1: .*without 'schema'"),
    "schema of another kind": (b'{"schema": 5}', "a:1: .*'schema' is not text"),
    "same field twice in two cases": (b'{"schema": "x", "Schema": "y"}', "a:1: .*differ in case"),
    "broken in the third line": (b'{"schema": "x"}\n{"schema": "y",\n "z": }\n{"schema": "x"}\n', "a:3: not a catalog blob"),
    "cut off": (b'{"schema": "x"}\n{"schema": "y", "z": [1, 2', "a:2: not a catalog blob"),
    "cut off in a string": (b'{"schema": "x"}\n{"schema": "y", "z": "\\"\\"\\"', "a:2: not a catalog blob"),
    "something between": (b'{"schema": "x"}\n null {"schema": "y"}', "a:2: not a catalog blob"),
    "closing twice": (b'{"schema": "x"}}', "a:1: not a catalog blob"),
    "deep JSON": (b'{"schema": "x", "y": ' + b"[" * 300_000, "a:1: not a catalog blob"),
    "no text": (b'{"schema": "\xff\xfe"}', "a:1: not a catalog blob"),
    "YAML tab": (b"schema: x\n\tname: y\n", "a:2:1: not YAML"),
    "YAML infinity": (b"schema: x\nname: z\nsize: .inf\n", "a:3:7: not YAML: JSON has no infinity"),
    "YAML key null": (b"schema: x\nname: z\n~: z\n", "a:3:1: not YAML: a key must be text"),
    "YAML number for text": (b"schema: x\nname: 4.12\n", "a: document 1: not a catalog blob: 'name' is not text"),
    "a document without a marker": (b"schema: x\n...\nschema: z\n", "a:3:1: not YAML"),
    "UTF-16 cut": (b"\xff\xfes\0c", "a: not text"),
    "deep YAML": (b"schema: x\ny: " + b"[" * 100_000, "a:2: nested deeper than 200"),
    "YAML aliases": (
        b"schema: x\na: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 98 + 12)),
        "a",
    ),
}


@pytest.mark.parametrize(("raw", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_catalog_file_is_named_with_its_line(raw: bytes, message: str) -> None:
    if raw.startswith(b"#"):
        assert load(a=raw).packages == {}  # nothing but a comment: an empty YAML stream
        return
    with pytest.raises(CatalogError, match=message) as caught:
        load(a=raw)
    assert ".indexignore" in caught.value.hint


AS_YAML = "\n---\n".join(json.dumps(blob, indent=1) for blob in FOO)
SHAPES = {
    "JSON with a mark": b"\xef\xbb\xbf" + stream(*FOO),
    "JSON on one line, with a mark": b"\xef\xbb\xbf" + b"".join(json.dumps(blob).encode() for blob in FOO),
    "JSON after blanks": b" " * 4000 + stream(*FOO),
    "JSON with tabs": b"".join(json.dumps(blob, indent="\t").encode() for blob in FOO),
    "JSON in documents": AS_YAML.encode(),
    "JSON in documents, with a mark each": AS_YAML.replace("---\n", "---\n\ufeff").encode("utf-8-sig"),
    "UTF-16": AS_YAML.encode("utf-16"),
    "UTF-16, JSON": ("\ufeff" + stream(*FOO).decode()).encode("utf-16-be"),
    "braces of YAML": AS_YAML.replace('"schema"', "schema", 1).encode(),
    "a comment first": b"# c\n--- # d\n" + AS_YAML.encode() + b"\n...\n---\n",
    "line breaks of Windows": AS_YAML.replace("\n", "\r\n").encode(),
    "a key twice, the last counts": AS_YAML.replace('"schema"', 'schema: x, "schema"', 1).encode(),
    "a local tag": AS_YAML.replace('"olm.package"', '!foo "olm.package"', 1).encode(),
}


@pytest.mark.parametrize("raw", SHAPES.values(), ids=SHAPES)
def test_streams_are_read_as_opm_reads_them(raw: bytes) -> None:
    """k8s.io/apimachinery, pkg/util/yaml/decoder.go; of JSON with a mark opm has the first blob alone."""
    catalog = load(a=raw)
    assert catalog.problems == ()
    assert list(catalog.packages["foo"].bundles) == ["foo.v1.0.0"]


ODD: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "no olm.package": ([FOO[1]], "foo", "no olm.package"),
    "two packages": ([*FOO, FOO[0]], "foo", "2 olm.package blobs"),
    "two channels": ([*FOO, channel_blob("stable", [])], "foo", "second olm.channel"),
    "two bundles": ([*FOO, bundle_blob("foo.v1.0.0", "2.0.0")], "foo/foo.v1.0.0", "second olm.bundle"),
    "a bundle without a package": ([*FOO, bundle_blob("x", "1.0.0", "")], "", "names no package"),
    "entries of another kind": (
        [*FOO, {"schema": "olm.channel", "package": "foo", "name": "x", "entries": 5}],
        "foo",
        "entries|int",
    ),
    "an image of another kind": ([*FOO, bundle_blob("x", "1.1.0", image=5)], "foo/x", "'image' is not text"),
    "related images of another kind": ([*FOO, bundle_blob("x", "1.1.0", relatedImages=[5])], "foo/x", "cannot be read"),
}


@pytest.mark.parametrize(("blobs", "subject", "message"), ODD.values(), ids=ODD)
def test_what_is_wrong_inside_becomes_a_problem(blobs: list[dict[str, Any]], subject: str, message: str) -> None:
    catalog = load(a=stream(*blobs))
    assert [one.subject for one in catalog.problems] == [subject]
    if "|" not in message:
        assert message in catalog.problems[0].message
    if len(blobs) > 1:
        assert catalog.packages["foo"].bundles["foo.v1.0.0"].version_text == "1.0.0"


def test_limits() -> None:
    files = [("a", stream(FOO[0])), ("b", stream(*FOO[1:]))]
    size = sum(len(raw) for _, raw in files)
    assert file_based.load(files, Limits(files=2, size=size, blobs=3)).packages
    for limits, message in (
        (Limits(files=1), "2 files; the limit is 1"),
        (Limits(size=size - 1), "the limit is"),
        (Limits(blobs=2), "more than 2 blobs"),
    ):
        with pytest.raises(CatalogError, match=message):
            file_based.load(files, limits)


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "foo").mkdir()
    (tmp_path / "foo" / "catalog.json").write_bytes(stream(*FOO))
    (tmp_path / "README.md").write_text("words")
    with pytest.raises(CatalogError, match=r"README\.md: document 1"):
        file_based.load_directory(tmp_path)
    (tmp_path / ".indexignore").write_text("*.md\n")
    assert list(file_based.load_directory(tmp_path).packages) == ["foo"]
    with pytest.raises(NotACatalogError, match="no such directory"):
        file_based.load_directory(tmp_path / "README.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotACatalogError, match="is empty"):
        file_based.load_directory(tmp_path / "empty")


def test_a_catalog_is_in_memory_once() -> None:
    """Blobs are parts of the file that was read, not copies of it."""
    raw = stream(*FOO)
    package = load(a=raw).packages["foo"]
    assert all(one.blob.view.obj is raw for one in (package, *package.channels.values(), *package.bundles.values()))


MISSHAPEN: dict[str, dict[str, Any]] = {
    "relatedImages": bundle_blob("foo.v1.0.0", relatedImages=["x"]),
    "properties": bundle_blob("foo.v1.0.0", properties=[{"type": 3}]),
    "entries": {"schema": "olm.channel", "package": "foo", "name": "beta", "entries": ["foo.v1.0.0"]},
}


@pytest.mark.parametrize("field", MISSHAPEN)
def test_a_blob_that_cannot_be_read_is_named_with_its_field(field: str) -> None:
    (problem,) = catalog_of(package_blob(), MISSHAPEN[field]).problems
    assert f"blob cannot be read and is left out: '{field}': '1': " in problem.message
