"""Archives and documents of a few kilobytes that claim to be large: refused, in memory and time of their real size."""

from __future__ import annotations

import json

import pytest

from common.archive import frames, rerequest
from common.archive.volume import padded, tar_header, volume_name
from common.oci.image import digest_of
from tests.fakes.commands import run
from tests.fakes.hostile import compact, inventory, measured, volume
from tests.samples import more

pytestmark = pytest.mark.integration
MEMORY = 192 << 20  # the programs have 60 MiB when they have done nothing; an archive like these took 2.8 GiB
SECONDS = 10.0  # of CPU; starting takes half a second
DIGEST = digest_of(b"x")
CATALOG = {
    "source": "registry.test/index:v1",
    "digest": None,
    "image": DIGEST,
    "name": "index",
    "format": "sqlite",
    "filtered": False,
    "packages": [],
}
PROBLEM = {"severity": "error", "code": "x", "subject": "", "message": ""}
IMAGE = {
    "source": "",
    "digest": None,
    "mediaType": None,
    "kind": "x",
    "platforms": [],
    "complete": False,
    "neededBy": [],
    "size": 0,
}


def filled(content: bytes, **fields) -> bytes:
    """Return an inventory, `"@"` in it replaced by `content`."""
    return compact(inventory(**fields)).replace(b'"@"', content)


def lists(count: int) -> bytes:
    return repeated([], count)


def repeated(item, count: int) -> bytes:
    each = compact(item)
    return b"[" + (each + b",") * (count - 1) + each + b"]"


HOSTILE = {
    "image set": lambda: filled(lists(20_000_000), imageSet={"a": "@"}),
    "template": lambda: filled(lists(20_000_000), catalogs=[CATALOG | {"catalogSourceTemplate": {"a": "@"}}]),
    "neededBy": lambda: filled(repeated("", 20_000_000), images=[IMAGE | {"neededBy": "@"}]),
    "problems": lambda: filled(repeated(PROBLEM, 1_000_000), problems="@"),
    "images": lambda: filled(repeated(IMAGE, 500_000), images="@"),
    "blobs": lambda: filled(repeated("a", 15_000_000), manifests={DIGEST: {"mediaType": "", "size": 0, "blobs": "@"}}),
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return a function that makes each volume once."""
    folder, made = tmp_path_factory.mktemp("hostile"), {}

    def find(name):
        if name not in made:
            made[name] = folder / name.replace(" ", "-") / volume_name(1)
            made[name].parent.mkdir()
            made[name].write_bytes(volume(HOSTILE[name]()))
        return made[name]

    return find


def refused(done, *, status=4):
    assert done.status == status, done.stderr
    assert "\nerror: " in f"\n{done.stderr}"
    assert "internal error" not in done.stderr
    assert done.memory < MEMORY
    assert done.cpu < SECONDS


# Free form, a list of strings, a list of objects; the others have the same forms.
@pytest.mark.parametrize("name", ["image set", "neededBy", *more(["problems", "template", "images", "blobs"])])
def test_a_small_volume_whose_inventory_is_huge_is_refused_unread(archives, tmp_path, name):
    path = archives(name)
    assert path.stat().st_size < 64 * 1024
    refused(measured(tmp_path, "hub-import", "inspect", path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["push", "--registry", "localhost:1"],
        ["verify", "--key"],
        *more(
            [
                ["verify"],
                ["serve", "--listen", "127.0.0.1:0"],
                ["receipt", "--registry", "localhost:1", "--output", "receipt.json"],
                ["inspect", "--key"],
            ]
        ),
    ],
    ids=" ".join,
)
def test_every_command_refuses_it(archives, tmp_path, arguments):
    command, *options = arguments
    if "--key" in options:
        made = run("hub-export", "keygen", tmp_path / "key.pem", cwd=tmp_path)
        assert made.status == 0, made.stderr
        options.append(next(tmp_path.glob("*.pub*")))
    options = [tmp_path / each if each == "receipt.json" else each for each in options]
    refused(measured(tmp_path, "hub-import", command, archives("image set"), *options))


def test_an_inventory_file_takes_a_small_multiple_of_its_size(tmp_path):
    """A file that is not compressed may have any number of values, but not of two bytes each."""
    for content in (
        filled(lists(2_000_000), imageSet={"a": "@"}),
        filled(repeated("", 3_000_000), images=[IMAGE | {"neededBy": "@"}]),
    ):
        path = tmp_path / "inventory.json"
        path.write_bytes(content)
        refused(measured(tmp_path, "hub-import", "inspect", path))


def test_a_second_image_set_does_not_hide_the_first(tmp_path):
    """Of two fields of one name the last counts; what the first one holds is not decoded either."""
    loose = b"[" + b",".join([b'{"abc":["' + b"defghijklmnop" * 5 + b'"]}'] * 300_000) + b"]"
    path = tmp_path / "inventory.json"
    path.write_bytes(filled(loose, imageSet={"a": "@"})[:-1] + b',"imageSet":{}}')
    done = measured(tmp_path, "hub-import", "inspect", path)
    assert done.status == 0, done.stderr
    assert done.memory < MEMORY


def test_entries_of_metadata_that_claim_more_than_the_inventory_says_are_not_read(tmp_path):
    digests = [digest_of(bytes([number])) for number in range(40)]
    raw = compact(inventory(manifests={digest: {"mediaType": "x", "size": 16 << 20} for digest in digests}))
    index = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    names = [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in digests]
    head = tar_header("index.json", len(index)) + padded(index) + b"".join(tar_header(name, 0) for name in names[1:])
    claims = frames.compress(head + tar_header(names[0], 512 << 20))
    path = tmp_path / volume_name(1)
    path.write_bytes(volume(raw, [claims, *[frames.compress(bytes(8 << 20))] * 64]))
    assert path.stat().st_size < 64 * 1024
    done = measured(tmp_path, "hub-import", "verify", path)
    assert done.status == 4, done.stderr
    assert (done.memory < MEMORY, done.cpu < SECONDS) == (True, True)


def document(kind: str) -> bytes:
    """Return a document of another kind, of 12 MB, with millions of values in it."""
    loose = lists(4_000_000)
    empty = repeated("", 4_000_000)
    match kind:
        case "re-request":
            told = {
                "mediaType": rerequest.MEDIA_TYPE,
                "inventory": DIGEST,
                "imageSet": {"a": "@"},
                "catalogs": [],
                "images": [],
            }
            return compact({**told, "blobs": []}).replace(b'"@"', loose)
        case "receipt":
            told = {"mediaType": "application/vnd.hub-airgap.receipt.v1+json", "inventories": [], "repositories": {}}
            return compact({**told, "blobs": "@"}).replace(b'"@"', empty)
        case "plan":
            return filled(loose, imageSet={"a": "@"}, totals={}, making={})
        case _:
            return compact({"mediaType": "application/vnd.hub-airgap.target.v1+json", "notes": "@"}).replace(
                b'"@"', empty[: 3 << 20] + b'""]'
            )


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("re-request", ["create", "--only"]),
        ("receipt", ["create", "--image", "localhost:1/a:b", "--receipt"]),
        *(
            pytest.param(*each, marks=pytest.mark.more)
            for each in (
                ("plan", ["create", "--plan"]),
                ("target", ["plan", "--image", "localhost:1/a:b", "--target"]),
                ("plan", ["diff"]),
            )
        ),
    ],
)
def test_other_documents_are_bounded_alike(tmp_path, kind, arguments):
    path = tmp_path / "document.json"
    path.write_bytes(document(kind))
    rest = [path, path] if arguments[0] == "diff" else [path]
    rest += ["--output", tmp_path / "out"] if arguments[0] == "create" else []
    refused(measured(tmp_path, "hub-export", *arguments, *rest), status=2)


def test_an_inventory_that_compresses_beyond_the_bound_is_stored_as_it_is_and_read_back(tmp_path):
    """What our own writer makes stays readable from a volume alone."""
    from common.archive import metadata

    raw = json.dumps(inventory(problems=[PROBLEM | {"message": "a" * 60_000}] * 200)).encode()
    region = metadata.build(b"{}", {}, raw)
    frame = b"".join(region.frames)[region.inventory_at : region.inventory_at + region.inventory_stored]
    assert len(frame) > len(raw) > frames.content_bound(len(frames.compress(raw)))
    assert frames.decompress(frame, frames.content_bound(len(frame))) == raw
