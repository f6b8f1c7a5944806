"""Catalogs of strangers: time and memory by their bytes, limits near real catalogs, and one error for each reader."""

import contextlib
import gzip
import lzma
import sqlite3
import tarfile

import msgspec
import pytest

from common.errors import CatalogError, HubError, NotACatalogError, UsageError
from common.oci.image import Descriptor
from exporter.catalog import requirements, validation
from exporter.catalog.readers import assembly, file_based, oci_layout, package_manifests, sqlite
from exporter.catalog.readers.assembly import MAX_BLOB
from exporter.catalog.readers.catalog_image import read_configs, read_database
from exporter.catalog.readers.file_based import IgnoreRules
from exporter.catalog.readers.layer_tree import MAX_DEPTH, MAX_LINKS, MAX_NAME, TreeLimits
from exporter.catalog.readers.opening import CatalogOpener
from exporter.catalog.readers.sqlite import BundleRow, Database, EdgeRow
from exporter.catalog.related_images import images_in_csv, images_of, inline_objects, unreadable_objects
from tests.samples import more
from tests.spent import spent

END = bytes(1024)
PACKAGE = b'{"schema":"olm.package","name":"p","defaultChannel":"c"}\n'
CHANNEL = b'{"schema":"olm.channel","package":"p","name":"c","entries":[{"name":"p.v1"}]}\n'
BUNDLE = (
    b'{"schema":"olm.bundle","package":"p","name":"p.v1","image":"quay.io/a/b:1","properties":'
    b'[{"type":"olm.package","value":{"packageName":"p","version":"1.0.0"}},{"type":"%s","value":%s}]}\n'
)


def entry(kind: bytes, name: str, content: bytes = b"") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


FILE = entry(b"0", "configs/a.json", b"content")


def test_layers_are_bounded_together():
    """The largest catalog images have 2.5 GB (operator-registry#259); a manifest may name one layer thousands of times."""
    layer = FILE + END
    limits = TreeLimits(unpacked=len(layer) * 2)
    assert read_configs([[layer]] * 2, "/configs", limits) == {"a.json": b"content"}
    with pytest.raises(CatalogError, match="its layers have more than"):
        read_configs([[layer]] * 3, "/configs", limits)


def test_entries_and_the_directories_above_them_are_bounded():
    """An entry of 512 bytes with a path of 120 directories would take 30 KB in memory."""
    deep = [entry(b"0", f"configs/{n}" + "/d" * 10 + "/a") for n in range(10)]
    made = 10 * 12 + 1  # entries, their directories, and configs
    assert len(read_configs([[*deep, END]], "/configs", TreeLimits(entries=made))) == 10
    for read in (lambda: read_configs([[*deep, END]], "/configs", TreeLimits(entries=made - 1)),):
        with pytest.raises(CatalogError, match=f"more than {made - 1} files and directories"):
            read()
    many = b"".join(entry(b"0", f"configs/{n}" + "/d" * 80) for n in range(200))
    took = spent(lambda: read_configs([[many] * 1000], "/configs", TreeLimits(entries=15_000)))
    assert "more than 15000 files and directories" in took.error
    assert took.memory < 32 << 20


def test_names_and_links_are_bounded():
    """path_resolution(7): 40 links in a row; a path of 4,096 bytes."""
    deep = MAX_DEPTH - 2
    assert read_configs([[long("configs/" + "d/" * deep + "a")]], "/configs") == {"d/" * deep + "a": b"x"}
    for name in ("configs/" + "d/" * (deep + 1) + "a", "configs/" + "n" * (MAX_NAME - 7)):
        with pytest.raises(CatalogError, match="has a name of"):
            read_configs([[long(name)]], "/configs")
    assert len(read_configs([[long("configs/" + "n" * (MAX_NAME - 8))]], "/configs")) == 1
    links = [link(f"configs/{n}", str(n + 1)) for n in range(MAX_LINKS)]
    last = entry(b"0", f"configs/{MAX_LINKS - 1}", b"x")
    assert len(read_configs([[*links[:-1], last]], "/configs")) == MAX_LINKS
    with pytest.raises(CatalogError, match="leads to itself"):
        read_configs([[*links, entry(b"0", f"configs/{MAX_LINKS}", b"x")]], "/configs")


def long(name: str) -> bytes:
    return entry(b"L", "././@LongLink", name.encode() + b"\0") + entry(b"0", "cut", b"x")


def link(name: str, target: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member.tobuf(tarfile.GNU_FORMAT)


def test_headers_are_bounded_over_all_layers():
    """Each costs some microseconds, and none has to have content."""
    layer = entry(b"x", "header") * 15 + entry(b"x", "header", b"5 a=\n" * 4) + FILE  # 17 headers, four records
    limits = TreeLimits(headers=(17 + 4) * 3)
    assert read_configs([[layer * 2], [layer]], "/configs", limits)
    with pytest.raises(CatalogError, match="no readable tar: more headers than any real image has"):
        read_configs([[layer * 2], [layer, FILE]], "/configs", limits)


def test_a_large_file_is_held_once():
    """Blanks of a layer of kilobytes; real catalogs have one file of 132 MB."""
    size = 64 << 20

    def chunks():
        yield entry(b"0", "configs/a.yaml", b"")[:0] + header("configs/a.yaml", size)
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield END

    took = spent(lambda: read_configs([chunks()], "/configs"))
    assert took.error == ""
    assert took.memory < size * 1.6  # twice before


def header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def blob(size: int, schema: str = "x") -> bytes:
    raw = f'{{"schema":"{schema}","package":"p","name":"n","a":""}}'
    return (raw[:-2] + "x" * (size - len(raw)) + raw[-2:]).encode()


@pytest.mark.parametrize("tail", [b"", b"{}"])
def test_a_blob_at_the_limit_is_read_and_one_beyond_is_refused_with_its_line(tail):
    assert len(file_based.load([("a", blob(MAX_BLOB))]).problems) == 1  # no olm.package
    took = spent(lambda: file_based.load([("a", PACKAGE + blob(MAX_BLOB + 1) + tail)]))
    assert took.error.startswith("CatalogError: a:2: not a catalog blob: 16.0 MiB; the limit of a blob is 16.0 MiB")
    assert took.cpu < 2


@pytest.mark.parametrize("content", [b"{" * (20 << 20), *more([b'{"a":"' * (3 << 20), b'"a"' * (6 << 20), b"{}" * (10 << 20)])])
def test_braces_without_an_end_are_given_up(content):
    took = spent(lambda: file_based.load([("a", b'{"schema"' + content)]))
    assert took.error.startswith("CatalogError: a:1: not a catalog blob")
    assert took.cpu < 10


def test_a_blob_of_too_many_values_takes_little_memory():
    """`{},` is an object of sixty bytes in memory; lists of real blobs have 32 bytes and more for a value."""
    dense = b'{"schema":"olm.bundle","package":"p","name":"n","relatedImages":[' + b"{}," * (1 << 20) + b"{}]}"
    took = spent(lambda: file_based.load([("a", PACKAGE + dense)]))
    assert "more than any real document has" in took.error
    assert took.memory < 32 << 20


def test_objects_of_all_blobs_are_bounded_together():
    """The largest real catalog has 81,256 of them."""
    channel = b'{"schema":"olm.channel","package":"p","name":"c","entries":[{"name":"a","skips":["b","c"]}]}'
    bundle = b'{"schema":"olm.bundle","package":"p","name":"b","properties":[{"type":"x"}],"relatedImages":[{},{}]}'
    deprecations = b'{"schema":"olm.deprecations","package":"p","entries":[{"reference":{"schema":"olm.package"}}]}'
    blobs = [assembly.blob_of(memoryview(one)) for one in (channel, bundle, deprecations)]
    for limit in (7, 6):
        collected = assembly.Assembly(objects=limit)
        for one in blobs[:-1]:
            collected.add(*one)
        if limit == 7:
            collected.add(*blobs[-1])
        else:
            with pytest.raises(CatalogError, match="more than 6 entries"):
                collected.add(*blobs[-1])


NUMBERS = [
    b"1e999",
    b"9" * 5000,
    *more([b"-1e999", b'{"data":1e999}', b'{"group":"a","version":"b","kind":' + b"9" * 5000 + b"}"]),
]


@pytest.mark.parametrize("value", [*NUMBERS, b'"\xff"'])
@pytest.mark.parametrize(
    "kind", [b"olm.gvk.required", *more([b"olm.bundle.object", b"olm.gvk", b"olm.package.required", b"x"])]
)
def test_a_value_that_cannot_be_decoded_harms_no_other(kind, value):
    """Syntax is checked when a blob is read, numbers and texts when a value is asked for (msgspec, *Raw Messages*)."""
    catalog = file_based.load([("a", PACKAGE + CHANNEL + BUNDLE % (kind, value))])
    bundle = catalog.packages["p"].bundles["p.v1"]
    assert [image.source for image in images_of(bundle)[0]] == ["quay.io/a/b:1"]
    list(unreadable_objects(bundle, filtered=True))
    list(inline_objects(bundle))
    requirements.provided(bundle)
    requirements.required(bundle)
    validation.validate(catalog)


@pytest.mark.parametrize(
    "field",
    [
        b'"image":5',
        *more([b'"image":"\xff"', b'"relatedImages":[{"name":' + b"9" * 5000 + b"}]", b'"properties":[{"type":[]}]']),
    ],
)
def test_a_bundle_that_opm_cannot_decode_is_left_out_with_a_problem(field):
    other = b'{"schema":"olm.bundle","package":"p","name":"bad",%s}\n' % field
    catalog = file_based.load([("a", PACKAGE + CHANNEL + BUNDLE % (b"x", b"1") + other)])
    assert list(catalog.packages["p"].bundles) == ["p.v1"]
    assert [one.subject for one in catalog.problems] == ["p/bad"]
    assert "cannot be read and is left out" in catalog.problems[0].message


@pytest.mark.parametrize(
    "field",
    [
        b'"relatedImages":[{"name":"\xff"}]',
        *more([b'"relatedImages":[{"name":null,"image":"\xff"}]', b'"properties":[{"type":"\xff"}]']),
        b'"properties":[{"type":"olm.package","value":{"version":"\xff"}}]',
    ],
)
def test_text_that_is_not_utf_8_is_read_as_go_reads_it(field):
    """Go, package encoding/json, Unmarshal: U+FFFD in place of it. The rest of the catalog stays, and the rules of opm hold."""
    other = b'{"schema":"olm.bundle","package":"p","name":"bad",%s}\n' % field
    catalog = file_based.load([("a", PACKAGE + CHANNEL + BUNDLE % (b"x", b"1") + other)])
    bad = catalog.packages["p"].bundles["bad"]
    read = [bad.image, bad.version_text, *(one.type for one in bad.properties), *(one.name for one in bad.related_images)]
    assert "\ufffd" in [*read, *(one.image for one in bad.related_images)]
    assert [one for one in validation.validate(catalog) if one.subject == "p/bad" and one.fatal]


def test_lines_and_files_are_bounded_together():
    """9,000 lines took 0.05 s of CPU for each of up to 200,000 files."""
    rules = "\n".join(f"**/x{n}*/**/y" for n in range(10)).encode()
    steps = 10 * (3 + 3 + 5)  # for the directory of two components, for the one above it, and for the file
    matcher = IgnoreRules({".indexignore": rules}, steps * 2)
    assert not matcher.ignores("p/a/catalog.json")
    with pytest.raises(CatalogError, match="more lines and wildcards than can be matched"):
        any(matcher.ignores(f"p/a/{n}.json") for n in range(10))


@pytest.mark.more
def test_lines_and_files_at_the_limits_take_seconds():
    matcher = IgnoreRules({".indexignore": "\n".join(f"**/x{n}*/**/y" for n in range(9000)).encode()})
    took = spent(lambda: [matcher.ignores(f"p{n}/a/catalog.json") for n in range(300)])
    assert "more lines and wildcards" in took.error
    assert took.cpu < 10


def test_real_lines_are_far_below_the_bound():
    """Ten lines for as many files as a catalog may have at a bundle each."""
    matcher = IgnoreRules({".indexignore": b"*.md\n/OWNERS\n**/tmp/\n!keep.md\n*.txt\n" * 2})
    assert not any(matcher.ignores(f"p{n % 300}/bundle-{n}.json") for n in range(7000))


# SQLite


def database(*statements: str, values=()) -> bytes:
    with sqlite3.connect(":memory:") as made:
        for table, columns in {
            "package": "name, default_channel",
            "channel": "name, package_name, head_operatorbundle_name",
            "channel_entry": "entry_id INTEGER PRIMARY KEY, channel_name, package_name, operatorbundle_name, replaces, depth",
            "operatorbundle": "name, csv, bundle, bundlepath, version, skiprange",
            "properties": "type, value, operatorbundle_name",
        }.items():
            made.execute(f"CREATE TABLE {table} ({columns})")
        made.execute("INSERT INTO package VALUES ('p', 'c')")
        made.execute("INSERT INTO channel VALUES ('c', 'p', 'p.v1')")
        made.execute("INSERT INTO channel_entry VALUES (1, 'c', 'p', 'p.v1', NULL, 0)")
        made.execute("INSERT INTO operatorbundle VALUES ('p.v1', NULL, NULL, 'quay.io/a/b:1', '1.0.0', NULL)")
        for statement in statements:
            made.execute(statement, values)
        made.commit()
        return made.serialize()


ODD = [
    b"\xff\xfe",
    "\0",
    *more([b"", 1.5, -(2**63), None, "[" * 5000, "9" * 5000, "9" * 4300, '{"a":1e999}', b"{" * 3000, '"' * 10_001]),
]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("column", ["csv", *more(["bundle", "bundlepath", "version", "skiprange", "name"])])
def test_a_column_of_any_value_harms_no_other_bundle(column, value):
    rows = "INSERT INTO operatorbundle VALUES ('p.v0', NULL, NULL, 'quay.io/a/b:0', '0.1.0', NULL)"
    edge = "INSERT INTO channel_entry VALUES (2, 'c', 'p', 'p.v0', NULL, 1)"
    content = database(f"UPDATE operatorbundle SET {column} = ?", values=(value,))
    with sqlite3.connect(":memory:") as made:
        made.deserialize(content)
        made.execute(rows)
        made.execute(edge)
        made.execute("INSERT INTO properties VALUES (?, ?, 'p.v0')", (value, value))
        made.commit()
        content = made.serialize()
    catalog = sqlite.catalog_of(sqlite.read(content, "db"))
    assert "p.v0" in catalog.packages["p"].bundles


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE TABLE "\ud7ff\n" (x)',
        "UPDATE channel_entry SET depth = 1e300, replaces = 'x'",
        *more(
            [
                "UPDATE package SET name = x'ff00'",
                "UPDATE channel SET name = 9223372036854775807",
                "UPDATE channel_entry SET depth = 'deep'",
                "CREATE TRIGGER t AFTER DELETE ON package BEGIN SELECT 1; END",
            ]
        ),
    ],
)
def test_odd_databases_are_read_or_refused(statement):
    with contextlib.suppress(CatalogError):
        sqlite.catalog_of(sqlite.read(database(statement), "db"))


def test_a_bundle_in_many_packages_is_rendered_up_to_a_bound_and_decoded_once():
    """A row of some bytes adds a bundle of megabytes to a package; entries, icons and objects came from its decoded text."""
    csv = msgspec.json.encode({"spec": {"x": [[]] * 200_000}}).decode()
    names = [f"p{n}" for n in range(200)]
    edges = {(name, "c"): [EdgeRow("b", "", 0)] for name in names}

    def rows(objects: str) -> Database:
        return Database(dict.fromkeys(names, "c"), [(name, "c") for name in names], edges, {"b": BundleRow("b", csv, objects)})

    took = spent(lambda: sqlite.catalog_of(rows("{}")))
    assert took.error == ""
    assert took.cpu < 5  # more than a minute before
    size = sum(len(one.blob.view) for one in sqlite.catalog_of(rows("{}")).bundles)
    with pytest.raises(CatalogError, match="a few bundles are in too many packages"):
        sqlite.catalog_of(rows("{}"), size)


@pytest.mark.parametrize("value", ["a." * 20_000, *more(["." * 40_000, "a.b/" + "c/" * 20_000, "a.b/c:" + "x." * 20_000])])
def test_a_variable_of_any_length_is_recognized_in_linear_time(value):
    csv = {"containers": [{"env": [{"name": "AN_IMAGE", "value": value}, {"name": "IMAGE", "value": "quay.io/a/b:1"}]}]}
    csv = {"spec": {"install": {"spec": {"deployments": [{"spec": {"template": {"spec": csv}}}]}}}}
    took = spent(lambda: list(images_in_csv(csv)))
    assert took.cpu < 1  # 17 s before
    assert [one.text for one in images_in_csv(csv)][-1] == "quay.io/a/b:1"


def test_a_bundle_too_large_for_a_blob_is_a_problem_of_its_own():
    text = msgspec.json.encode({"kind": "ConfigMap", "data": "x" * MAX_BLOB}).decode()
    content = database("UPDATE operatorbundle SET bundle = ?", values=(text,))
    catalog = sqlite.catalog_of(sqlite.read(content, "db"))
    assert [one.subject for one in catalog.problems] == ["p/p.v1"]
    assert "the limit of a blob is 16.0 MiB" in catalog.problems[0].message


def test_a_database_without_end_takes_memory_by_its_size():
    size = 64 << 20

    def chunks():
        yield header("db", size) + sqlite.MAGIC
        yield bytes(size - len(sqlite.MAGIC))
        yield END

    took = spent(lambda: read_database([chunks()], None))
    assert took.memory < size * 3.5


def test_a_database_beyond_the_limit_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "index.db"
    with path.open("wb") as file:
        file.write(sqlite.MAGIC)
        file.truncate(sqlite.MAX_SIZE + 1)
    took = spent(lambda: CatalogOpener(None, None).open(str(path)))
    assert took.error == f"CatalogError: {path}: {sqlite.MAX_SIZE + 1} bytes; the limit is {sqlite.MAX_SIZE}"
    assert took.memory < 16 << 20


# Package manifests

PM = {
    "p/p.package.yaml": b"packageName: p\nchannels: [{name: c, currentCSV: p.v1}]\n",
    "p/csv.yaml": b"kind: ClusterServiceVersion\nmetadata: {name: p.v1}\nspec: {%s}\n",
}


def manifests(more_of_spec: bytes = b"a: 1", **files: bytes):
    return {**PM, "p/csv.yaml": PM["p/csv.yaml"] % more_of_spec, **{f"p/{name}.yaml": raw for name, raw in files.items()}}


@pytest.mark.parametrize(
    "spec",
    [
        b"1: {2: 3, .inf: x, yes: y}",
        b"x: " + b"9" * 300,
        *more([b"x: 0x" + b"f" * 250, b"x: 1e400", b'x: "\\0"', b"replaces: 1, skips: [1, [a]], version: 2"]),
    ],
)
def test_keys_that_are_no_text_and_long_integers_are_read(spec):
    found = package_manifests.read(manifests(spec), "here")
    assert not found.problems
    assert sqlite.read(package_manifests.sqlite_database(found.database), "db").bundles["p.v1"].csv


MANIFESTS = {
    "numbers": (
        b"packageName: 1\nchannels: [{name: 4.6, currentCSV: p.v1}, {name: 4.10, currentCSV: p.v1}]\ndefaultChannel: 4.6\n",
        "1",
    ),
    "JSON with tabs and a mark": (
        (
            b'\xef\xbb\xbf{\n\t"packageName": "p", "defaultChannel": "4.6",\n'
            b'\t"channels": [{"name": "4.6", "currentCSV": "p.v1"}, {"name": "4.1", "currentCSV": "p.v1"}]}'
        ),
        "p",
    ),
    "a key twice": (
        b"packageName: q\npackageName: p\ndefaultChannel: &a 4.6\nchannels: [{name: *a, currentCSV: p.v1}, {name: 4.1, currentCSV: p.v1}]",
        "p",
    ),
}


@pytest.mark.parametrize(("raw", "package"), MANIFESTS.values(), ids=MANIFESTS)
def test_fields_of_a_package_manifest_are_text(raw, package):
    """operator-registry, pkg/registry/decode.go, into a type with texts, to which sigs.k8s.io/yaml converts numbers (yaml.go)."""
    found = package_manifests.read(manifests() | {"p/p.package.yaml": raw}, "here")
    assert not found.problems
    assert found.database.channels == [(package, "4.1"), (package, "4.6")]
    assert found.database.default_channels == {package: "4.6"}


WITHOUT_CHANNELS = {
    b"channels: []": "the package has no channels",
    b"defaultChannel: c": "the package has no channels",
    b"channels: {name: c, currentCSV: p.v1}": "the package has no channels",
    b"channels: [{currentCSV: p.v1}]": "a channel without a name, with the head 'p.v1'",
}


@pytest.mark.parametrize(("fields", "why"), WITHOUT_CHANNELS.items())
def test_a_package_manifest_without_channels_is_a_problem(fields, why):
    found = package_manifests.read(manifests() | {"q/q.package.yaml": b"packageName: q\n" + fields}, "here")
    assert [(one.subject, one.message) for one in found.problems] == [("q", f"q/q.package.yaml: {why}; left out")]
    assert found.database.channels == [("p", "c")]


@pytest.mark.more
def test_channels_that_share_bundles_are_bounded():
    """A thousand channels over a thousand bundles are a million entries."""
    heads = ", ".join(f"{{name: c{n}, currentCSV: p.v1}}" for n in range(600))
    skips = ", ".join(f"s{n}" for n in range(900))
    files = manifests(f"skips: [{skips}]".encode()) | {"p/p.package.yaml": f"packageName: p\nchannels: [{heads}]".encode()}
    took = spent(lambda: package_manifests.read(files, "here"))
    assert "CatalogError: the channels of the package manifests have more than 1000000 entries in all" in took.error
    few = ", ".join(f"{{name: c{n}, currentCSV: p.v1}}" for n in range(50))
    files["p/p.package.yaml"] = f"packageName: p\nchannels: [{few}]".encode()
    assert len(package_manifests.read(files, "here").database.channels) == 50


def test_files_that_cannot_be_read_take_linear_time():
    """Each was compared with the folder of every package."""
    packages = {f"q{n}/q.package.yaml": b"packageName: q%d" % n for n in range(1500)}
    unread = {f"q{n}/deep/er/bad.yaml": b"a: [" for n in range(1500)}
    took = spent(lambda: package_manifests.read({**manifests(), **packages, **unread}, "here"))
    assert took.error == ""
    assert took.cpu < 4
    found = package_manifests.read({**manifests(), "p/deep/bad.yaml": b"a: ["}, "here")
    assert [one.subject for one in found.problems] == ["p/deep/bad.yaml"]


def test_all_package_manifests_are_bounded_together():
    size = package_manifests.MAX_SIZE - sum(map(len, manifests().values()))
    assert package_manifests.read({**manifests(), "p/big.txt": bytes(size)}, "here").database.bundles
    with pytest.raises(CatalogError, match=r"128\.0 MiB"):
        package_manifests.read({**manifests(), "p/big.txt": bytes(size + 1)}, "here")
    others = {f"p/{number}.txt": b"" for number in range(package_manifests.MAX_FILES - len(manifests()))}
    assert package_manifests.read({**manifests(), **others}, "here").database.bundles
    with pytest.raises(CatalogError, match="package manifests of 100001 files"):
        package_manifests.read({**manifests(), **others, "p/more.txt": b""}, "here")


def test_an_archive_of_an_app_registry_that_says_nonsense_is_an_error_of_it():
    for content in (b"", b"\x1f\x8b", gzip.compress(b"x" * 600), gzip.compress(entry(b"0", "a", b"data: [") + END)):
        with pytest.raises(HubError):
            package_manifests.read(package_manifests.files_of_archive(content, "foo"), "here")


# Layouts


def test_a_compressed_archive_expands_to_a_bounded_size(tmp_path):
    """bzip2 packs 45 MB of zeros into 45 bytes."""
    import bz2

    path = tmp_path / "image.tar"
    limit = oci_layout.ALWAYS_ALLOWED
    path.write_bytes(bz2.compress(header("blob", limit * 2) + bytes(1 << 20)))
    took = spent(lambda: oci_layout.opened(path).__enter__())
    assert took.error.startswith(
        f"UsageError: {path}: no OCI layout and no archive of one: it has more than 256.0 MiB uncompressed"
    )
    assert took.cpu < 1
    assert not oci_layout.is_archive(path)


@pytest.mark.parametrize("compress", [gzip.compress, *more([lzma.compress])])
def test_a_compressed_archive_is_decompressed_once(tmp_path, compress):
    """Each step back to a blob decompressed all that is before it: the blobs of an image are in any order in a tar."""
    path, blobs = tmp_path / "image.tar", [f"{number:064x}" for number in range(60)]
    content = entry(b"0", "oci-layout", b"{}") + entry(b"0", "filler", bytes(4 << 20))
    content += b"".join(entry(b"0", f"blobs/sha256/{name}", name.encode()) for name in blobs)
    path.write_bytes(compress(content + END) + b"padding of a medium"[: 0 if compress is lzma.compress else None])

    def read(names):
        with oci_layout.opened(path) as layout:
            for name in names:
                blob = Descriptor("application/octet-stream", f"sha256:{name}", 64)
                assert b"".join(map(bytes, layout.read(blob))) == name.encode()

    forwards, backwards = (spent(lambda names=names: read(names)) for names in (blobs, blobs[::-1]))
    assert (forwards.error, backwards.error) == ("", "")
    assert backwards.cpu < 2 * forwards.cpu + 0.1, (forwards.cpu, backwards.cpu)


def test_a_compressed_archive_needs_room_while_it_is_open(tmp_path):
    """A directory that cannot be written is said, not taken for a damaged archive."""
    path, full = tmp_path / "image.tar", tmp_path / "file"
    path.write_bytes(gzip.compress(entry(b"0", "oci-layout", b"{}") + END))
    full.write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be written"), oci_layout.opened(path, full / "scratch"):
        pass


@pytest.mark.more
def test_entries_of_an_archive_are_bounded(tmp_path):
    path = tmp_path / "image.tar"
    for number, message in (
        (oci_layout.MAX_ENTRIES, "has no index.json"),
        (oci_layout.MAX_ENTRIES + 1, "more than 100000 entries"),
    ):
        path.write_bytes(entry(b"0", "a") * number + END)
        with pytest.raises(UsageError, match=message), oci_layout.opened(path) as layout:
            layout.root()


def test_a_named_pipe_in_a_layout_does_not_block(tmp_path):
    import os

    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(UsageError, match="no OCI layout"), oci_layout.opened(tmp_path) as layout:
        layout.root()


def test_a_directory_of_large_files_is_looked_at_up_to_a_bound(tmp_path):
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(200 << 20)
    took = spent(lambda: package_manifests.is_directory(tmp_path))
    assert (took.error, took.memory < 16 << 20) == ("", True)
    assert issubclass(NotACatalogError, UsageError)
