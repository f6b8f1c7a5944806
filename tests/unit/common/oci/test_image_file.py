"""One file of an image, out of its layers (OCI image specification 1.1, layer.md): links, whiteouts, hostile layers."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ContentError, ImageFileError
from common.oci.image import Descriptor, digest_of
from common.oci.image_file import MAX_FILE_LINKS, FileLimits, ImageFile
from tests.samples import more

PATH = "usr/bin/oc"
DIRECTORY = object()


def tar(*entries, form=tarfile.PAX_FORMAT):
    """Return a layer: (name, content), (name, DIRECTORY), (name, "-> target"), (name, "= target")."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, what in entries:
            entry = tarfile.TarInfo(name)
            if what is DIRECTORY:
                entry.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                entry.type = tarfile.SYMTYPE if what.startswith("->") else tarfile.LNKTYPE
                entry.linkname = what.split(" ", 1)[1]
            else:
                entry.size = len(what)
            archive.addfile(entry, io.BytesIO(what if isinstance(what, bytes) else b""))
    return gzip.compress(buffer.getvalue(), mtime=0)


class Sink:
    def __init__(self):
        self.begin(0)

    def begin(self, size):
        self.size, self.content = size, b""

    def write(self, chunk):
        self.content += chunk


def read(*layers, path=PATH, limits=None):
    """Return the file, and the number of the layer that it is in; the first layer is the lowest."""
    blobs = {digest_of(raw): raw for raw in layers}
    described = [Descriptor("", digest_of(raw), len(raw)) for raw in layers]
    whole = []

    def stored(layer):
        yield blobs[layer.digest][:50]
        yield blobs[layer.digest][50:]
        whole.append(layer.digest)

    sink = Sink()
    found = ImageFile(described, stored, *([limits] if limits else [])).copy(path, sink)
    assert found.digest in whole  # read to its end, and so verified
    assert sink.size == len(sink.content)
    return sink.content, described.index(found)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([[(PATH, b"a")]], (b"a", 0)),
        ([[(PATH, b"a")], [("etc/x", b"b")]], (b"a", 0)),
        ([[(PATH, b"a")], [("./usr/bin/oc", b"b")]], (b"b", 1)),
        ([[(PATH, b"a"), (PATH, b"second")]], (b"second", 0)),
        # A whiteout hides lower layers alone, whichever comes first in its own.
        ([[(PATH, b"a")], [(PATH, b"b"), ("usr/bin/.wh.oc", b"")]], (b"b", 1)),
        ([[(PATH, b"a")], [("usr/bin/.wh..wh..opq", b""), (PATH, b"b")]], (b"b", 1)),
        ([[(PATH, b"a")], [("usr/bin/.wh.kubectl", b""), ("usr/lib/.wh..wh..opq", b"")]], (b"a", 0)),
        ([[(PATH, b"a")], [("usr", DIRECTORY), ("usr/bin", DIRECTORY)]], (b"a", 0)),
        # Images of cli-artifacts link usr/bin/oc to the file under usr/share (openshift/oc, images/cli-artifacts).
        ([[("usr/share/openshift/linux_amd64/oc", b"a"), (PATH, "-> /usr/share/openshift/linux_amd64/oc")]], (b"a", 0)),
        ([[("usr/share/oc", b"a")], [(PATH, "-> ../share/oc")]], (b"a", 0)),
        ([[(PATH, "-> ../share/oc")], [("usr/share/oc", b"b")]], (b"b", 1)),
        ([[("usr/bin/kubectl", b"a"), (PATH, "= usr/bin/kubectl")]], (b"a", 0)),
        ([[("usr/bin/kubectl", b"a")], [(PATH, "= /usr/bin/kubectl")]], (b"a", 0)),
        # A hard link is to what its own layer sees, not to what a later one puts in the place.
        ([[("usr/bin/kubectl", b"a"), (PATH, "= usr/bin/kubectl")], [("usr/bin/kubectl", b"b")]], (b"a", 0)),
        ([[("opt/oc", b"a")], [("usr/bin", "-> ../opt")]], (b"a", 0)),
        ([[("opt/oc", b"a"), ("usr/bin", "-> /../../opt")]], (b"a", 0)),
    ],
)
def test_the_file_is_that_of_a_container(layers, expected):
    assert read(*(tar(*entries) for entries in layers)) == expected


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([[("usr/bin/kubectl", b"a")]], "has no file /usr/bin/oc"),
        ([], "has no file"),
        ([[(PATH, b"a")], [("usr/bin/.wh.oc", b"")]], "has no file"),
        ([[(PATH, b"a")], [("usr/.wh.bin", b"")]], "has no file"),
        ([[(PATH, b"a")], [("usr/.wh..wh..opq", b"")]], "has no file"),
        ([[(PATH, b"a")], [("usr/bin", b"a file")]], "has no file"),
        ([[(PATH, "-> ../share/oc")]], "which leads to /usr/share/oc"),
        ([[(PATH, "-> oc")]], "leads to itself"),
        ([[(PATH, "= usr/bin/oc")]], "leads to itself"),
        ([[(PATH, DIRECTORY)]], "is no plain file"),
        ([[("../usr/bin/oc", b"a"), ("usr/x/../bin/oc", b"a")]], "has no file"),
    ],
)
def test_what_no_container_has_is_an_error(layers, why):
    with pytest.raises(ImageFileError, match=why):
        read(*(tar(*entries) for entries in layers))


def test_links_and_sizes_are_followed_up_to_their_limits():
    chain = [(f"usr/bin/l{number}", f"-> l{number + 1}") for number in range(MAX_FILE_LINKS - 1)]
    end = (f"usr/bin/l{MAX_FILE_LINKS - 1}", b"a")
    assert read(tar(*chain, end, (PATH, "-> l0")))[0] == b"a"
    with pytest.raises(ImageFileError, match="more than 40 links"):
        read(tar(("usr/bin/before", "-> oc"), *chain, end, (PATH, "-> l0")), path="usr/bin/before")
    layer = tar((PATH, b"12345"))
    assert read(layer, limits=FileLimits(size=5))[0] == b"12345"
    with pytest.raises(ImageFileError, match="the limit is 4 B"):
        read(layer, limits=FileLimits(size=4))
    size = len(gzip.decompress(layer))
    assert read(layer, limits=FileLimits(unpacked=size))[0] == b"12345"
    with pytest.raises(ContentError, match="its limit"):
        read(layer, limits=FileLimits(unpacked=size - 1))
    # Of all layers together, and each time that one is read: a manifest may name one thousands of times.
    other = tar(("etc/x", b"1"))
    both = size + len(gzip.decompress(other))
    assert read(layer, other, limits=FileLimits(unpacked=both))[0] == b"12345"
    with pytest.raises(ImageFileError, match="its layers have more"):
        read(layer, other, limits=FileLimits(unpacked=both - 1))
    with pytest.raises(ImageFileError, match="more headers"):
        read(layer, other, limits=FileLimits(headers=2))


def sparse():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(PATH)
        entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"}
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no tar at all",
        gzip.compress(b"x" * 1024, mtime=0),
        tar((PATH, b"a" * 5000))[:-30],
        sparse(),
        *more([b"\x1f\x8b", bytes(512)]),
    ],
)
def test_a_broken_layer_is_an_error_of_its_own(raw):
    with pytest.raises(ContentError):
        read(raw)


def test_a_layer_that_is_damaged_behind_the_file_is_not_taken():
    """The bytes are verified when the last one was read, which may be far behind the file."""
    raw = tar((PATH, b"a"), ("usr/bin/x", b"b" * 3000))

    def stored(_layer):
        yield raw[:60]
        yield raw[60:-10]
        raise ContentError("content has digest sha256:0")

    with pytest.raises(ContentError, match="has digest"):
        ImageFile([Descriptor("", digest_of(raw), len(raw))], stored).copy(PATH, Sink())


NAMES = st.sampled_from(["usr", "usr/bin", PATH, "usr/bin/.wh.oc", "usr/.wh..wh..opq", "opt/oc", "usr/.wh.bin", "x"])
WHAT = st.sampled_from([b"a", b"bb", DIRECTORY, "-> ../opt/oc", "-> /usr/bin/oc", "= opt/oc", "-> opt"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(NAMES, WHAT), max_size=4), max_size=3))
def test_any_layers_give_a_file_of_theirs_or_an_error(layers):
    try:
        content, number = read(*(tar(*entries) for entries in layers))
    except ImageFileError:
        return
    assert content in [what for _, what in layers[number]]
