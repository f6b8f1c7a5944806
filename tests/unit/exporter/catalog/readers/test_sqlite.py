"""SQLite catalogs: every schema gives the same catalog, real ones that of `opm render`, broken ones an error with the fault."""

from __future__ import annotations

import base64
import json
import lzma
import random

import pytest

from common.errors import CatalogError, UsageError
from exporter.catalog import rebuild
from exporter.catalog.model import BUNDLE_OBJECT
from exporter.catalog.readers import file_based, sqlite
from exporter.catalog.readers.opening import CatalogOpener
from exporter.catalog.related_images import images_of
from exporter.catalog.selection import select
from exporter.catalog.update_graph import UpdateGraph
from exporter.catalog.validation import validate
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes import databases
from tests.fakes.catalogs import CATALOGS
from tests.fakes.databases import changed
from tests.samples import more

REAL = ("community", "schema-05", "schema-10")


def catalog(content, name="test.db"):
    return sqlite.catalog_of(sqlite.read(content, name))


def rendered(name):
    return file_based.load(
        [("catalog.json", lzma.decompress((CATALOGS / f"expected/sqlite/{name}/render.json.xz").read_bytes()))]
    )


def shape(found):
    """Return packages, channels, heads and edges."""
    return {
        package.name: (
            package.default_channel,
            {
                channel.name: (
                    UpdateGraph.of(channel.entries, "").head,
                    {e.name: (e.replaces, frozenset(e.skips), e.skip_range) for e in channel.entries},
                )
                for channel in package.channels.values()
            },
            {bundle.name: (bundle.version_text, bundle.image) for bundle in package.bundles.values()},
        )
        for package in found.packages.values()
    }


def images(found):
    return {bundle.name: {str(image.reference) for image in images_of(bundle)[0]} for bundle in found.bundles}


def properties(bundle):
    found = []
    for one in bundle.properties:
        value = json.loads(bytes(one.value))
        if one.type == BUNDLE_OBJECT:
            value = json.loads(base64.b64decode(value["data"]))
        found.append((one.type, json.dumps(value, sort_keys=True)))
    return sorted(found)


@pytest.mark.parametrize("name", REAL)
def test_real_databases_say_what_opm_renders(name):
    ours, theirs = catalog(databases.real(name)), rendered(name)
    assert shape(ours) == shape(theirs)
    assert images(ours) == images(theirs)
    for package in theirs.packages.values():
        for bundle in package.bundles.values():
            mine = ours.packages[package.name].bundles[bundle.name]
            assert properties(mine) == properties(bundle), bundle.name
            assert sorted(one.image for one in mine.related_images) == sorted(one.image for one in bundle.related_images)


@pytest.mark.parametrize("name", ["schema-05", "schema-10"])
def test_real_databases_have_the_listings_of_opm(name):
    lines = (CATALOGS / f"expected/sqlite/{name}/channels.txt").read_text().splitlines()[1:]
    ours = catalog(databases.real(name))
    listed = {(p.name, c.name, UpdateGraph.of(c.entries, "").head) for p in ours.packages.values() for c in p.channels.values()}
    assert listed == {tuple(line.split()) for line in lines}


def test_stranded_bundles_are_left_out_by_name():
    found = catalog(databases.real("community"))
    stranded = [one.subject for one in found.problems if "in no channel" in one.message]
    assert len(stranded) == 29
    assert not set(stranded) & {bundle.name for bundle in found.bundles}


def test_images_under_value_are_recovered_where_the_database_has_none():
    found = catalog(databases.real("community"))
    codes = {problem.code for b in found.bundles if b.package == "3scale-community-operator" for problem in images_of(b)[1]}
    assert "related-image-recovered" in codes


@pytest.mark.parametrize("version", databases.VERSIONS)
def test_every_schema_says_the_same(version):
    found = catalog(databases.database(version))
    (package,) = found.packages.values()
    entries = {e.name: (e.replaces, e.skips, e.skip_range) for e in package.channels["stable"].entries}
    assert entries == {
        "foo.v1": ("", (), "<1.0.0"),
        "foo.v2": ("foo.v1", (), "<1.0.0"),
        "foo.v3": ("foo.v2", ("foo.v2-bad",), "<1.0.0"),
    }
    assert [b.version_text for b in package.bundles.values()] == ["1.0.0", "2.0.0", "3.0.0"]
    head = package.bundles["foo.v3"]
    assert head.image == ("quay.io/example/foo:3.0.0" if version >= 2 else "")
    assert "quay.io/example/operand:3.0.0" in {str(image.reference) for image in images_of(head)[0]}
    values = list(head.values("olm.gvk"))
    assert values == [{"group": "example.com", "kind": "Foo", "version": "v1"}]
    if version >= 3:
        assert list(head.values("olm.gvk.required")) == [{"group": "example.com", "kind": "Bar", "version": "v1"}]
    if version >= 8:
        assert list(head.values("olm.package.required")) == [{"packageName": "bar", "versionRange": ">=1.0.0"}]
    kinds = [json.loads(base64.b64decode(one["data"]))["kind"] for one in head.values(BUNDLE_OBJECT)]
    assert kinds == ["ClusterServiceVersion", "CustomResourceDefinition"]


def test_known_defects_of_databases():
    base = databases.database(13)
    nameless = changed(base, "INSERT INTO operatorbundle (name, version) VALUES (NULL, '1.0.0')")
    assert shape(catalog(nameless)) == shape(catalog(base))
    binary = changed(base, "UPDATE properties SET type = CAST(type AS BLOB), value = CAST(value AS BLOB)")
    assert shape(catalog(binary)) == shape(catalog(base))
    deprecated = catalog(changed(base, "INSERT INTO deprecated VALUES ('foo.v1')"))
    assert [e.name for e in deprecated.packages["foo"].channels["stable"].entries] == ["foo.v2", "foo.v3"]
    gone = catalog(changed(base, "UPDATE operatorbundle SET csv = NULL, bundle = NULL WHERE name = 'foo.v1'"))
    assert not gone.packages["foo"].bundles["foo.v1"].has(BUNDLE_OBJECT)
    unreadable = catalog(
        changed(base, "UPDATE properties SET value = '{' WHERE operatorbundle_name = 'foo.v2' AND type = 'olm.gvk'")
    )
    assert [one.subject for one in unreadable.problems] == ["foo/foo.v2"]
    csv_alone = catalog(changed(base, "UPDATE operatorbundle SET bundle = NULL"))
    assert all(b.has(BUNDLE_OBJECT) for b in csv_alone.bundles)


def test_requirements_that_a_migration_overwrote_come_from_elsewhere():
    one = '{"group": "x", "kind": "First", "version": "v1"}'
    content = changed(
        databases.database(9),
        f"UPDATE dependencies SET type = 'olm.gvk', value = '{one}'",
        "UPDATE api_requirer SET kind = 'Other' WHERE operatorbundle_name = 'foo.v1'",
    )
    found = {b.name: [v["kind"] for v in b.values("olm.gvk.required")] for b in catalog(content).bundles}
    assert found == {"foo.v1": ["Other"], "foo.v2": ["Bar"], "foo.v3": ["Bar"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (databases.database(13)[:5000], "an SQLite file that cannot be read"),
        (sqlite.MAGIC + bytes(4080), "cannot be read|no catalog"),
        (changed(databases.database(13), "DROP TABLE package"), "no catalog: it has no table package"),
        (
            changed(
                databases.database(13),
                "DROP TABLE package",
                "CREATE VIEW package AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, x FROM n",
            ),
            "package is a view",
        ),
    ],
)
def test_files_that_are_none_or_not_whole(content, message):
    with pytest.raises(CatalogError, match=message) as caught:
        catalog(content, "catalog.db")
    assert caught.value.message.startswith("catalog.db: ")


def test_no_damage_of_the_file_breaks_the_reader():
    whole = databases.database(13)
    for seed in range(300):
        chance = random.Random(seed)
        content = bytearray(whole)
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            catalog(bytes(content[: len(content) - chance.choice([0, 0, 700])]))
        except CatalogError:
            continue


def test_a_file_is_opened_as_a_catalog_and_never_changed(tmp_path):
    path = tmp_path / "community.db"
    path.write_bytes(databases.real("schema-05"))
    path.chmod(0o444)
    opened = CatalogOpener(None, None).open(str(path))
    assert (opened.name, opened.location.format, len(opened.catalog.packages)) == ("community", "sqlite", 3)
    assert path.read_bytes() == databases.real("schema-05")
    assert [one.name for one in tmp_path.iterdir()] == ["community.db"]


def requests(found, chance):
    """Give random requests: packages, channels, ranges."""
    for package in chance.sample(sorted(found.packages), min(3, len(found.packages))):
        versions = sorted((b.version for b in found.packages[package].bundles.values() if b.version), key=lambda v: v.key)
        channels = sorted(found.packages[package].channels)
        kind = chance.randrange(4)
        if kind == 0:
            yield PackageRequest(package)
        elif kind == 1:
            yield PackageRequest(package, channels=(ChannelRequest(found.packages[package].default_channel),))
        elif kind == 2:
            low = chance.choice(versions)
            yield PackageRequest(package, min_version=str(low))
        else:
            low, high = sorted(chance.sample(versions, 2), key=lambda v: v.key) if len(versions) > 1 else (versions[0],) * 2
            channel = chance.choice(channels)
            yield PackageRequest(
                package,
                default_channel=channel,
                channels=(ChannelRequest(channel, min_version=str(low), max_version=str(high)),),
            )


def shape_without_tails(again, kept):
    """Return the shape of a filtered database without the entries that only keep an edge.

    A database cannot name a bundle that it has without having it in the channel: where a kept entry replaces a bundle that
    another channel keeps, the edge is worth more than the difference.
    """
    found = shape(again)
    for name, (_, channels, _) in found.items():
        for channel, (_, entries) in channels.items():
            mine = kept.packages[name].channels[channel].entries
            targets = {one for e in mine for one in (e.replaces, *e.skips)}
            for extra in entries.keys() - {e.name for e in mine}:
                assert extra in targets
                assert extra in kept.packages[name].bundles
                del entries[extra]
    return found


@pytest.mark.parametrize("seeds", [range(8), *more([range(8, 25)])], ids=["few", "further"])
@pytest.mark.parametrize("name", REAL)
def test_a_filtered_database_has_exactly_the_selection(name, seeds):
    whole = databases.real(name)
    found, done = catalog(whole), 0
    for seed in seeds:
        chance = random.Random(seed)
        wanted = tuple(requests(found, chance))
        try:
            kept = select(found, OperatorRequest("x", packages=wanted)).catalog
        except UsageError:
            continue  # nothing in range, or the default channel lost: refused before anything is filtered
        small = rebuild.filtered(whole, kept, "x.db")
        again = catalog(small)
        assert shape_without_tails(again, kept) == shape(kept), wanted
        assert images(again) == images(kept)
        assert small == rebuild.filtered(whole, kept, "x.db"), "same input, same bytes"
        assert len(small) <= len(whole)
        assert [f for f in validate(again) if f.fatal] == [f for f in validate(kept) if f.fatal]
        assert databases.rows(small, "PRAGMA integrity_check") == [("ok",)]
        assert databases.rows(small, "PRAGMA foreign_key_check") == []
        done += 1
    assert done > len(seeds) // 5


def test_pruning_leaves_what_opm_leaves():
    name = "community--kuadrant-operator+authorino-operator"
    raw = lzma.decompress((CATALOGS / f"expected/sqlite-prune/{name}/images.json.xz").read_bytes())
    expected = json.loads(raw)
    found = catalog(databases.real("community"))
    wanted = tuple(PackageRequest(package) for package in ("authorino-operator", "kuadrant-operator"))
    kept = select(found, OperatorRequest("x", full=True, packages=wanted)).catalog
    again = catalog(rebuild.filtered(databases.real("community"), kept, "x.db"))
    assert {p: set(b) for p, b in expected.items()} == {p.name: set(p.bundles) for p in again.packages.values()}
    for package, bundles in expected.items():
        for bundle, has in bundles.items():
            mine = again.packages[package].bundles[bundle]
            assert mine.image == has["image"]
            assert {one.image for one in mine.related_images} == {one["image"] for one in has["relatedImages"]}


@pytest.mark.parametrize("version", databases.VERSIONS)
def test_every_schema_can_be_filtered_and_keeps_its_version(version):
    whole = databases.database(version)
    found = catalog(whole)
    request = OperatorRequest("x", packages=(PackageRequest("foo", min_version="2.0.0"),))
    kept = select(found, request).catalog
    small = rebuild.filtered(whole, kept, "x.db")
    assert shape(catalog(small)) == shape(kept)
    assert databases.rows(small, "SELECT name FROM operatorbundle ORDER BY name") == [("foo.v2",), ("foo.v3",)]
    if version:
        assert databases.rows(small, "SELECT version FROM schema_migrations") == [(version,)]
