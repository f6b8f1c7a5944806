"""Untrusted tar archives: those of writers are read as by tarfile, hostile ones take time and memory linear in their bytes."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import time

import pytest

from common.errors import CatalogError, UsageError
from common.oci.tar_reader import MAX_EXTENDED, MAX_RUN, ChunkSource, FileSource, TarFormatError, TarReader
from exporter.catalog.readers import oci_layout, package_manifests
from exporter.catalog.readers.catalog_image import read_configs, read_database
from exporter.catalog.readers.layer_tree import TreeLimits

END = bytes(1024)
FILE = ("configs/a.json", b"content")
SECONDS = 5.0  # CPU; the reader takes a hundredth of it, tarfile of Python 3.11.7 many minutes
LONG = "configs/" + "d" * 140 + "/" + "n" * 120


def header(kind: bytes, size: int, name: str = "././@header") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def entry(kind: bytes, content: bytes, name: str = "././@header") -> bytes:
    return header(kind, len(content), name) + content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    length = size + len(str(size))
    return b"%d %s=%s\n" % (length if len(str(length)) + size == length else length + 1, key, value)


PLAIN = entry(b"0", FILE[1], FILE[0])
DIGITS = b"1" * MAX_EXTENDED
HOSTILE = {
    "long names": entry(b"L", b"abcd\0") * 3000,
    "long links": entry(b"K", b"abcd\0") * 3000,
    "pax headers": entry(b"x", record(b"comment", b"x")) * 3000,
    "global pax headers": entry(b"g", record(b"comment", b"x")) * 3000,
    "Solaris pax headers": entry(b"X", record(b"comment", b"x")) * 3000,
    "all in turn": (entry(b"g", record(b"a", b"b")) + entry(b"x", b"") + entry(b"L", b"x\0")) * 1000,
    "digits": entry(b"x", DIGITS) * 8,
    "global digits": entry(b"g", DIGITS) * 8,
    "digits and a blank": entry(b"x", DIGITS[:-1] + b" "),
    "a length of nothing": entry(b"x", b"0 =\n"),
    "a length beyond the header": entry(b"x", b"99 path=x\n"),
    "a record without a key": entry(b"x", b"5 =a\n"),
    "a record without a value": entry(b"x", b"6 abc\n"),
    "a size of letters": entry(b"x", record(b"size", b"many")),
    "a size of 100,000 digits": entry(b"x", record(b"size", b"9" * 100_000)),
    "a header too large": header(b"x", MAX_EXTENDED + 1) + bytes(2 * MAX_EXTENDED),
    "a negative header": header(b"L", -1),
    "a negative file": header(b"0", -1, FILE[0]),
    "noise": b"noise" * 1000,
    "nothing": b"",
    "half a header": PLAIN[:300],
    "half a file": header(b"0", 5000, FILE[0]) + b"x" * 600,
    "half a file elsewhere": header(b"0", 5000, "else/where") + b"x" * 600,
    "noise behind a file": PLAIN + b"noise" * 1000,
}


def spent(call) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


@pytest.fixture(params=HOSTILE)
def hostile(request) -> bytes:
    cut = request.param.startswith(("half", "nothing"))
    return HOSTILE[request.param] + (b"" if cut else PLAIN + END)


@pytest.mark.parametrize("read", [lambda tar: read_configs([[tar]], "/configs"), lambda tar: read_database([[tar]], None)])
def test_a_hostile_layer_is_an_error_of_the_catalog(hostile, read):
    def check():
        with pytest.raises(CatalogError, match="a layer of the catalog image is no readable tar: "):
            read(hostile)

    assert spent(check) < SECONDS


def test_an_archive_of_an_app_registry_and_one_of_a_layout_are_refused_alike(hostile, tmp_path):
    path = tmp_path / "image.tar"
    for packed in (hostile, gzip.compress(hostile, 1), bz2.compress(hostile, 1), lzma.compress(hostile, preset=0)):
        path.write_bytes(packed)

        def check():
            assert not oci_layout.is_archive(path)
            with pytest.raises(UsageError, match="no OCI layout"), oci_layout.opened(path):
                pass

        assert spent(check) < SECONDS
    with pytest.raises(CatalogError, match="the app registry's archive cannot be read"):
        package_manifests.files_of_archive(gzip.compress(hostile, 1), "foo")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_layout_that_ends_early_or_is_damaged_is_refused(compress, tmp_path):
    path = tmp_path / "image.tar"
    whole = compress(PLAIN * 200 + END)
    for content in (whole[: len(whole) // 2], whole[: len(whole) // 2] + bytes(8) + whole[len(whole) // 2 + 8 :]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="no OCI layout"), oci_layout.opened(path):
            pass


def test_large_extended_headers_that_say_something_are_read():
    """A value of digits, many records, and every kind of header that may stand before one entry."""
    many = b"".join(record(b"k%d" % number, b"v") for number in range(60_000))
    before = [
        entry(b"g", record(b"comment", DIGITS[:-100])),
        entry(b"g", record(b"path", b"not/for/engines")),
        entry(b"x", record(b"SCHILY.xattr.user.x", b"1" * 500_000) + record(b"path", LONG.encode())),
        entry(b"L", b"other/name\0"),
        entry(b"x", many + record(b"path", LONG.encode()) + record(b"size", b"3")),
    ]
    for layer, name in ((b"".join(before), "other/name"), (b"".join((*before[:3], before[4])), LONG)):
        found = []
        assert spent(lambda layer=layer, found=found: found.extend(entries(layer + PLAIN + END))) < SECONDS
        assert found == [(name, b"0", b"con")]


def entries(content: bytes, source=None) -> list[tuple[str, bytes, bytes]]:
    reader = TarReader(source or ChunkSource([content[at : at + 700] for at in range(0, len(content), 700)]))
    return [(each.name, each.type, each.link.encode() or reader.read()) for each in reader]


def test_as_many_extended_headers_as_any_writer_makes_are_read_and_one_more_is_refused():
    one = entry(b"x", record(b"comment", b"x"))
    assert entries(one * MAX_RUN + PLAIN + END) == [(FILE[0], b"0", FILE[1])]
    with pytest.raises(TarFormatError, match="extended headers before one entry"):
        entries(one * (MAX_RUN + 1) + PLAIN + END)


def test_extended_headers_are_counted_over_all_layers_of_an_image():
    layer = entry(b"x", b"5 a=\n" * 1000) + PLAIN
    limits = TreeLimits(extended=5000 * 7)
    assert read_configs([[layer * 7 + END]], "/configs", limits) == {"a.json": FILE[1]}
    for layers in ([layer * 8 + END], [layer * 4 + END] * 2):
        with pytest.raises(CatalogError, match="more extended headers than any real image has"):
            read_configs([[each] for each in layers], "/configs", limits)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(form, tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form, pax_headers={"comment": "x"}) as tar:
        for name, kind, link in (
            ("configs", b"5", ""),
            ("configs/a" + "b" * 60, b"0", ""),
            (LONG[:220] if form == tarfile.USTAR_FORMAT else LONG, b"0", ""),
            ("configs/ü", b"0", ""),
            ("configs/link", b"2", "x" * (90 if form == tarfile.USTAR_FORMAT else 300)),
            ("configs/hard", b"1", "configs/ü"),
            ("dev", b"3", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = kind, link, 1.5 if form == tarfile.PAX_FORMAT else 1
            content = name.encode() * 30 if kind == b"0" else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    content = raw.getvalue()
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with tarfile.open(path) as tar:
        wanted = [(m.name, m.type, m.linkname.encode() or (tar.extractfile(m).read() if m.isreg() else b"")) for m in tar]
    assert entries(content) == wanted
    with path.open("rb") as file:
        assert entries(b"", FileSource(file)) == wanted


def test_a_directory_of_the_oldest_format_and_an_archive_without_an_end():
    old = header(b"\0", 0, "configs/sub/")
    assert read_configs([[old + PLAIN]], "/configs") == {"a.json": b"content"}
    assert read_configs([[old + PLAIN.rstrip(b"\0")]], "/configs") == {"a.json": b"content"}
    assert read_configs([[END + b"what stands behind the end is not read"]], "/configs") == {}


def in_prefix(block: bytes, *fields: bytes) -> bytes:
    """Return a header with fields where ustar has the prefix of a name."""
    made = bytearray(block)
    made[345 : 345 + 12 * len(fields)] = b"".join(field.ljust(12, b"\0") for field in fields)
    made[148:156] = b"%06o\0 " % (sum(made[:148]) + sum(made[156:]) + 8 * 32)
    return bytes(made)


OCTAL, BINARY = b"14563245617\0", b"\x80" + bytes(7) + b"\x65\x53\x10\x00"


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ((OCTAL, OCTAL), "configs/a.json"),
        ((OCTAL,), "configs/a.json"),
        ((BINARY, BINARY), "configs/a.json"),
        ((b"", OCTAL), "configs/a.json"),
        ((b" 1234 ",), "configs/a.json"),
        ((b"some/folder", b"/below"), "some/folder\0"),  # cut at the NUL, as all texts of a header
        ((b"some/folders", b"/below"), "some/folders/below/configs/a.json"),
        ((b"\xc3\xbc/folder",), "configs/a.json"),
    ],
)
def test_gnu_tar_has_times_where_ustar_has_a_prefix(fields, read):
    """As Go reads them (archive/tar, reader.go, readHeader): with the times taken for a directory, it is another file."""
    raw = in_prefix(header(b"0", 7, FILE[0]), *fields) + b"content".ljust(512, b"\0") + END
    ((name, _, content),) = entries(raw)
    assert (name, content) == (read.replace("\0", "/configs/a.json"), b"content")


def test_a_prefix_of_ustar_may_be_digits():
    member = tarfile.TarInfo("12345670/" + "d" * 60 + "/" + "n" * 60)
    assert entries(member.tobuf(tarfile.USTAR_FORMAT) + END) == [(member.name, b"0", b"")]


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
def test_times_as_gnu_tar_writes_them(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.json").write_bytes(b"content")
    command = ["tar", "--format=gnu", "--listed-incremental", tmp_path / "list", "-C", tmp_path, "-cf", tmp_path / "x.tar"]
    subprocess.run([*command, "configs"], check=True)
    assert [name.rstrip("/") for name, *_ in entries((tmp_path / "x.tar").read_bytes())] == ["configs", "configs/a.json"]


def old_sparse(name: str) -> bytes:
    """Return a sparse file of GNU tar's first format: one block that continues the map, then the data."""
    block = bytearray(header(b"S", 7, name))
    block[482:495] = b"\1" + b"77777777777\0"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    return bytes(block) + bytes(504) + b"\1" + bytes(7) + bytes(512) + b"content".ljust(512, b"\0")


def pax_sparse(name: str) -> bytes:
    """Return a sparse file of GNU tar's last format, whose name and size are in its extended header."""
    records = {"major": b"1", "minor": b"0", "name": name.encode(), "realsize": b"9" * 12}
    extended = b"".join(record(b"GNU.sparse." + key.encode(), value) for key, value in records.items())
    return entry(b"x", extended) + entry(b"0", b"1\n0\n4\n".ljust(512, b"\0") + b"data", "GNUSparseFile.0/x")


@pytest.mark.parametrize("sparse", [old_sparse, pax_sparse])
def test_a_sparse_file_is_refused_in_the_catalog_and_passed_over_elsewhere(sparse):
    with pytest.raises(CatalogError, match="/configs/big of the catalog image is a sparse file"):
        read_configs([[sparse("configs/big") + END]], "/configs")
    elsewhere = sparse("var/log/lastlog") + PLAIN + END
    assert read_configs([[elsewhere]], "/configs") == {"a.json": b"content"}
    assert read_database([[elsewhere]], None) is None


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
def test_sparse_files_as_gnu_tar_writes_them(tmp_path, options):
    for name in ("configs/big", "var/lastlog"):
        path = tmp_path / name
        path.parent.mkdir()
        with path.open("wb") as file:
            for number in range(40):
                file.seek(number * 1_000_000)
                file.write(b"x")
    (tmp_path / "configs/a.json").write_bytes(b"content")

    def layer(*names):
        made = subprocess.run(["tar", "-c", "--sparse", *options, *names], cwd=tmp_path, capture_output=True, check=True)
        return made.stdout

    assert read_configs([[layer("var/lastlog", "configs/a.json")]], "/configs") == {"a.json": b"content"}
    with pytest.raises(CatalogError, match="is a sparse file"):
        read_configs([[layer("configs/big")]], "/configs")
