"""Encoding of the inventory, and refusal of hostile input."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec.structs import replace

from common.archive import inventory_file
from common.archive.frames import raw_frame_size
from common.archive.inventory import MEDIA_TYPE
from common.errors import ArchiveDamagedError, ArchiveError, ExitCode, UsageError
from common.oci.image import Digest, digest_of
from common.serialization import pretty_json
from tests.fakes.archives import CONFIG, CUT
from tests.samples import more

D = "sha256:" + "ab" * 32
LAYOUT = CUT.layout()
RAW = inventory_file.encode(CUT.inventory(LAYOUT))
CATALOG = {"source": "s", "digest": None, "image": D, "name": "n", "format": "sqlite", "filtered": False, "packages": []}
SMALL = digest_of(CUT.images["registry.test/small:v1"][0])
LARGE = digest_of(CUT.images["registry.test/large:v1"][0])
MANIFEST = next(digest for digest, raw in CUT.manifests.items() if LARGE.encode() in raw)


def changed(change) -> bytes:
    document = json.loads(RAW)
    change(document)
    return json.dumps(document).encode()


def refused(change, match: str, kind: type[Exception] = ArchiveDamagedError) -> Exception:
    with pytest.raises(kind, match=match) as raised:
        inventory_file.decode(changed(change), "inventory.json")
    assert raised.value.exit_code is ExitCode.ARCHIVE
    assert raised.value.message.startswith("inventory.json: ")
    return raised.value


def skipping(many: int) -> dict:
    """Return a catalog with one entry that skips `many` names."""
    entry = {"name": "a.v2", "version": "2.0.0", "skips": ["a-name-of-some-length"] * many}
    channel = {"name": "stable", "head": "a.v2", "bundles": [entry]}
    return CATALOG | {"packages": [{"name": "a", "defaultChannel": "stable", "channels": [channel]}]}


def test_written_sorted_and_indented_and_read_back():
    assert json.dumps(json.loads(RAW), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n" == RAW
    assert pretty_json(CUT.inventory(LAYOUT)) == RAW
    assert inventory_file.decode(RAW, "x") == CUT.inventory(LAYOUT)


def test_fields_have_the_names_of_the_format():
    document = json.loads(RAW)
    assert set(document) == {
        *("mediaType", "created", "tool", "imageSet", "requires", "catalogs", "images", "manifests", "blobs", "volumes"),
        "problems",
    }
    assert document["mediaType"] == "application/vnd.hub-airgap.inventory.v1+json"
    assert set(document["blobs"][LARGE]) == {"size", "mediaType", "encoding", "pieces"}
    assert set(document["blobs"][LARGE]["pieces"][0]) == {"volume", "offset", "stored", "size"}
    assert set(document["volumes"][0]) == {"name", "dataSize"}


def test_unknown_fields_are_ignored():
    def add(document):
        document["later"] = {"a": [1]}
        document["blobs"][SMALL]["later"] = 1

    assert inventory_file.decode(changed(add), "x") == CUT.inventory(LAYOUT)


def test_an_unknown_major_version_is_named():
    error = refused(
        lambda d: d.update(mediaType=MEDIA_TYPE.replace("v1", "v12"), blobs="something else entirely"),
        "the archive has format version 12; this program reads version 1",
        ArchiveError,
    )
    assert "reads format version 12" in error.hint
    assert not isinstance(error, ArchiveDamagedError)


@pytest.mark.parametrize("media_type", ["", "application/json", MEDIA_TYPE.replace("v1", "v0"), MEDIA_TYPE + "x", "v1" * 1000])
def test_other_media_types_are_refused(media_type):
    error = refused(lambda d: d.update(mediaType=media_type), "its media type is")
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b"null", RAW[:-3], b"\xff\xfe", RAW.replace(b"volume-0001", b"volume-\xff001")]
)
def test_invalid_documents_are_refused(raw):
    with pytest.raises(ArchiveDamagedError, match=r"inventory\.json: not a usable inventory"):
        inventory_file.decode(raw, "inventory.json")


def test_deep_json_is_refused():
    deep = b"[" * 100_000 + b"]" * 100_000
    raw = RAW.replace(b'"kind": "ImageSetConfiguration"', b'"kind": ' + deep)
    assert raw != RAW
    with pytest.raises(ArchiveDamagedError, match="not a usable inventory"):
        inventory_file.decode(raw, "inventory.json")


def test_too_many_bytes_are_refused():
    class Long(bytes):
        size = 512 * 1024 * 1024

        def __len__(self):
            return self.size

    assert inventory_file.decode(Long(RAW), "inventory.json").volumes
    Long.size += 1
    with pytest.raises(ArchiveDamagedError, match="536870913 bytes; the limit is 536870912"):
        inventory_file.decode(Long(RAW), "inventory.json")


def test_too_many_volumes_are_refused():
    refused(lambda d: d.update(volumes=d["volumes"] * 40_000), "120000 volumes; the limit is 100000")


@pytest.mark.parametrize("digest", ["sha256:xyz", "sha512:" + "a" * 128, D.upper(), "../" * 20, "", D + "\n"])
@pytest.mark.parametrize("field", ["blob", "manifest", "requires", "in", "subject", "image", "catalog"])
def test_digests_are_well_formed(digest, field):
    catalog = {
        "source": "s",
        "digest": None,
        "image": digest,
        "name": "n",
        "format": "sqlite",
        "filtered": False,
        "packages": [],
    }

    def change(d):
        match field:
            case "blob":
                d["blobs"][digest] = {"size": 1, "mediaType": "x", "in": D}
            case "manifest":
                d["manifests"][digest] = {"mediaType": "x", "size": 1}
            case "requires":
                d["requires"] = [digest]
            case "in":
                d["blobs"][D] = {"size": 1, "mediaType": "x", "in": digest}
            case "subject":
                d["manifests"][MANIFEST]["subject"] = digest
            case "image":
                d["images"][0] |= {"digest": digest, "complete": False}
            case "catalog":
                d["catalogs"] = [catalog]

    refused(
        change, r"not a digest|is not supported|`str` of length >= 71 - at `(?:key` in `\$\.(?:blobs|manifests)|\$\.requires)"
    )


@pytest.mark.parametrize(
    "name",
    [
        "../volume-0001.tar.zst",
        "a/volume-0001.tar.zst",
        "/etc/passwd",
        "volume-0002.tar.zst",
        "VOLUME-0001.tar.zst",
        "",
        "volume-1.tar.zst",
    ],
)
def test_volume_names_are_those_of_the_format_in_order_and_so_never_twice(name):
    refused(lambda d: d["volumes"][0].update(name=name), "volume 1 is called .*, wanted 'volume-0001.tar.zst'")


@pytest.mark.parametrize("size", [-1, 0, 1040, 2**62])
def test_impossible_data_regions(size):
    refused(lambda d: d["volumes"][0].update(dataSize=size), "volume-0001.tar.zst: impossible size")


def test_an_archive_has_volumes():
    refused(lambda d: d.update(volumes=[]), "lists no volumes")


@pytest.mark.parametrize("size", [-1, 2**42 + 1, 2**63, 2**64])
def test_impossible_blob_sizes(size):
    refused(lambda d: d["blobs"][SMALL].update(size=size), "impossible size|out of range")


@pytest.mark.parametrize(
    "change",
    [
        {"in": D},
        {"missing": "blob-unavailable"},
        {"pieces": []},
        {"pieces": [], "in": D, "missing": "blob-unavailable"},
    ],
)
def test_a_blob_is_in_one_place(change):
    refused(lambda d: d["blobs"][SMALL].update(change), "must be in this archive, in an earlier one, or missing")


def piece(blob: str = SMALL, number: int = 0, **fields):
    return lambda d: d["blobs"][blob]["pieces"][number].update(fields)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (piece(size=999), "do not add up to 1000"),
        (piece(size=-1), "do not add up"),
        (piece(stored=1018), "stored length"),
        (piece(stored=0), "stored length"),
        (piece(digest_of(CONFIG), stored=0), "stored length"),
        (piece(digest_of(CONFIG), stored=10_000), "stored length"),
        (piece(volume=0), "is in volume 0 of 3"),
        (piece(volume=4), "is in volume 4 of 3"),
        (piece(volume=-1), "is in volume -1 of 3"),
        (piece(offset=1041 + 528), "outside the data region"),
        (piece(offset=-(2**62)), "outside the data region"),
        (piece(offset=2**62), "outside the data region"),
        (piece(offset=2**63), "outside the data region|out of range"),
        (piece(offset=397_461 - 1000), "outside the data region"),
        (piece(offset=1600), "places overlap"),
        (piece(offset=100_000), "places overlap"),
        (lambda d: d["blobs"][SMALL].update(encoding=None), "stored length"),
        (lambda d: d["blobs"][LARGE].update(encoding="zstd"), "cut where no blob is cut"),
        (lambda d: d["blobs"][LARGE]["pieces"].reverse(), "cut where no blob is cut"),
        (lambda d: d["blobs"][SMALL].update(encoding="gzip"), "Invalid enum value"),
    ],
)
def test_impossible_places_are_refused(change, match):
    refused(change, match)


def test_overlapping_places_are_refused():
    def change(d):
        d["blobs"][D] = d["blobs"][SMALL]

    refused(change, "volume 1: places overlap at byte")


def test_too_many_pieces():
    def change(d):
        one = {"volume": 1, "offset": 5000, "stored": raw_frame_size(0), "size": 0}
        d["blobs"][D] = {"size": 0, "mediaType": "x", "encoding": "raw", "pieces": [one] * 1000}

    refused(change, "1000 pieces; the limit is 999")


@pytest.mark.parametrize("size", [-1, 16 * 1024 * 1024 + 1])
def test_impossible_manifest_sizes(size):
    refused(lambda d: d["manifests"][MANIFEST].update(size=size), "impossible size")


def test_manifests_refer_only_to_listed_content():
    refused(lambda d: d["manifests"][MANIFEST].update(blobs=[D]), "its blob .* is not listed")
    refused(lambda d: d["manifests"][MANIFEST].update(manifests=[D]), "its child .* is not listed")
    refused(lambda d: d["images"][0].update(digest=D), "is complete, but its manifest")
    refused(lambda d: d["images"][0].update(digest=None), "is complete, but its manifest None")


def chain(document, length: int, last: list[str]):
    names = [f"sha256:{n:064x}" for n in range(length)]
    for name, children in zip(names, [*([child] for child in names[1:]), last], strict=True):
        document["manifests"][name] = {"mediaType": "x", "size": 1, "manifests": children}


def test_manifests_that_list_themselves_are_refused():
    refused(lambda d: chain(d, 1, [f"sha256:{0:064x}"]), "lists itself, or is nested deeper than 8")
    refused(lambda d: chain(d, 5, [f"sha256:{2:064x}"]), "lists itself, or is nested deeper than 8")


def test_manifests_have_a_limited_depth():
    inventory_file.decode(changed(lambda d: chain(d, 9, [])), "x")
    refused(lambda d: chain(d, 10, []), f"manifest sha256:{0:064x}: .* nested deeper than 8")


def test_blobs_elsewhere_or_missing_are_fine():
    def change(d):
        d["blobs"][D] = {"size": 5, "mediaType": "x", "in": D}
        d["blobs"][D.replace("ab", "cd")] = {"size": 5, "mediaType": "x", "missing": "blob-unavailable"}
        d["images"][0] |= {"digest": None, "complete": False}

    inventory = inventory_file.decode(changed(change), "x")
    assert inventory.blobs[D].in_ == D
    assert inventory.images[0].digest is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(imageSet={"a": [[]] * 600_000, "b": "x" * 30_000_000}), "values in its image set and templates"),
        (
            lambda d: d.update(catalogs=[CATALOG | {"catalogSourceTemplate": {"a": ["text" * 5] * 300_000}}] * 2),
            "values in its image set and templates",
        ),
        (lambda d: d.update(imageSet={"a": [[]] * 600_000}), "values in [0-9]+ bytes, more than any real document has"),
        (lambda d: d.update(imageSet={"a": ["text"] * 600_000}), "values in [0-9]+ bytes, more than any real document has"),
        (lambda d: d["manifests"][MANIFEST].update(blobs=["short"]), "of length >= 71"),
        # 20 bytes for each would be allowed, and take ten times as many in memory, before the first 0 is refused.
        (lambda d: d["blobs"].update({"short": 0}), r"of length >= 71 - at `key` in `\$\.blobs`"),
        (lambda d: d["manifests"].update({"short": 0}), r"of length >= 71 - at `key` in `\$\.manifests`"),
        (lambda d: d["images"][0].update(neededBy=["catalog/package/bundle"] * 5_000_001), "entries of neededBy; the limit"),
        *(
            pytest.param(*case, marks=pytest.mark.more)
            for case in [
                (lambda d: d.update(problems=[problem()] * 500_001), "500001 problems; the limit is 500000"),
                (lambda d: d.update(images=d["images"] * 250_001), "images; the limit is 500000"),
                (lambda d: d.update(catalogs=[skipping(2_500_000)] * 2), "5000002 entries of channels, with what they skip"),
            ]
        ),
    ],
)
def test_counts_beyond_the_limits_are_refused(change, match):
    refused(change, match)


@pytest.mark.parametrize(
    "change",
    more(
        [
            lambda d: d.update(problems=[problem()] * 500_000),
            lambda d: d["images"][0].update(neededBy=["catalog/package/bundle"] * 4_999_998),
            lambda d: d.update(images=d["images"][:1] * 500_000),
            lambda d: d.update(catalogs=[skipping(2_499_999)] * 2),
        ]
    ),
)
def test_counts_at_the_limits_are_read(change):
    assert inventory_file.decode(changed(change), "x").volumes


@pytest.mark.parametrize(("size", "fits"), [(16 * 1024 * 1024, True), (16 * 1024 * 1024 + 1, False)])
def test_manifests_at_their_limit_and_beyond(size, fits):
    def change(document):
        document["manifests"][MANIFEST]["size"] = size

    if fits:
        assert inventory_file.decode(changed(change), "x").manifests[MANIFEST].size == size
        return
    refused(change, "impossible size")


def problem():
    return {"severity": "error", "code": "image-not-found", "subject": "registry.test/small:v1", "message": "gone"}


@pytest.mark.parametrize("template", [None, {"spec": {"grpcPodConfig": {"securityContextConfig": "restricted"}}}])
def test_free_form_fields_are_read_unchanged(template):
    form = {"kind": "ImageSetConfiguration", "mirror": {"a": [1, 2.5, None, True, "ü", {}]}}

    def change(document):
        document["imageSet"] = form
        document["catalogs"] = [CATALOG | {"catalogSourceTemplate": template}]

    found = inventory_file.decode(changed(change), "x")
    assert found.image_set == form
    assert found.catalogs[0].catalog_source_template == template
    assert inventory_file.decode(inventory_file.encode(found), "x") == found


@pytest.mark.parametrize("form", [[], "text", 1, None])
def test_an_image_set_is_an_object(form):
    refused(lambda d: d.update(imageSet=form), "Expected `object`")


def test_an_inventory_beyond_the_limits_is_not_written():
    inventory = msgspec.structs.replace(CUT.inventory(LAYOUT), image_set={"a": [[]] * 600_000})
    with pytest.raises(UsageError, match=r"the inventory cannot be read back: about [0-9]+ values in its image set"):
        inventory_file.encode(inventory)


SMALL_IMAGE = next(each["digest"] for each in json.loads(RAW)["images"] if each["source"] == "registry.test/small:v1")
RELEASE = {"version": "4.18.3", "architecture": "amd64", "source": "registry.test/small:v1", "digest": SMALL_IMAGE}


def released(**fields):
    return lambda document: document.update(releases=[RELEASE | fields])


def test_releases_are_read_and_written_again():
    graph = {"paths": [{"architecture": "amd64", "steps": [{"from": "4.18.2", "to": "4.18.3", "risks": [{"name": "Slow"}]}]}]}
    signature = {"content": "AAAA", "url": "https://store.test/signature-1", "key": "AB"}
    whole = RELEASE | {"components": [{"name": "cli", "source": "registry.test/large:v1"}], "signatures": [signature]}
    raw = changed(lambda document: document.update(releases=[whole], updateGraph=graph))
    read = inventory_file.decode(raw, "x")
    assert read.carried_releases[0].components[0].source == "registry.test/large:v1"
    written = json.loads(inventory_file.encode(read))
    assert (written["releases"], written["updateGraph"]) == ([whole], graph)
    assert inventory_file.decode(RAW, "x").carried_releases == ()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (released(source="registry.test/other:v1"), "its image 'registry.test/other:v1' is not listed"),
        (released(components=[{"name": "cli", "source": "x"}]), "its image 'x' is not listed"),
        (released(digest="sha256:12"), "sha256:12"),
        (released(digest=D), "its payload is sha256:abab.*, and the image 'registry.test/small:v1' is sha256:"),
        (released(signatures=[{"content": "not base64!", "url": ""}]), "is not base64"),
        (released(signatures=[{"content": "", "url": ""}]), "a signature of 0 bytes"),
        (released(signatures=[{"content": "A" * 68_272, "url": ""}]), "a signature of 51204 bytes; the limit is 51200"),
        (released(signatures=[{"content": "AAAA", "url": ""}] * 10), "10 signatures; the limit is 9"),
        (lambda document: document.update(releases=[RELEASE] * 10_001), "10001 releases; the limit is 10000"),
        (
            released(components=[{"name": "c" * 20, "source": "registry.test/small:v1"}] * 100_001),
            "100001 components of releases; the limit is 100000",
        ),
        (
            lambda document: document.update(
                updateGraph={"paths": [{"architecture": "", "steps": [{"from": "", "to": ""}] * 100_001}]}
            ),
            "100001 steps of update paths, with their risks; the limit is 100000",
        ),
        (lambda document: document.update(updateGraph={"graphData": "sha256:x"}), "sha256:x"),
    ],
)
def test_a_release_that_is_invalid_is_refused(change, match):
    refused(change, match)


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": ["x; reboot #-4.18"]},
        {"version": "4.18.3\n"},
        {"architecture": "amd64\n"},
        *more([{"channels": [each]} for each in ("", "a\x1b[2J-4.18", "a'-4.18", "a" * 101)]),
        *more([{"version": each} for each in ("", "4.18", "$(id)", "4.18.3-x;y", "1.2." + "3" * 300)]),
        *more([{"architecture": each} for each in ("", "../x", "a" * 33, "\u202eamd64")]),
    ],
)
def test_names_of_a_release_are_fit_for_a_command(fields):
    """People copy the commands of `apply` and `status` into a shell of the cluster's administrator."""
    refused(released(**fields), "not an? (channel|version|architecture)|version of 304 characters")


def test_a_release_with_the_largest_signatures_is_read():
    largest = [{"content": "A" * 68_264 + "AAA=", "url": ""}] * 9  # 51,200 bytes each
    assert len(inventory_file.decode(changed(released(signatures=largest)), "x").carried_releases[0].signatures) == 9


def test_long_lists_are_encoded_in_parts_to_the_same_bytes():
    """The digest of these bytes is the identity of an archive: parts must not show."""
    found = inventory_file.decode(RAW, "x")
    blob = next(iter(found.blobs.values()))
    blobs = found.blobs | {Digest(f"sha256:{number:064x}"): blob for number in range(1500, 0, -1)}
    images = found.images + tuple(replace(found.images[0], source=f"quay.io/ä/\\n{number}") for number in range(2000))
    large = replace(found, blobs=blobs, images=images)
    whole = msgspec.json.format(msgspec.json.encode(large, order="sorted"), indent=2) + b"\n"
    assert inventory_file.encode(large) == whole
    assert b"".join(inventory_file.parts(large)) == whole
    assert max(map(len, inventory_file.parts(large))) < len(whole) / 2
    assert inventory_file.identity(large) == digest_of(whole)
    assert inventory_file.encode(found) == RAW


@pytest.mark.more
def test_too_many_names_are_refused_before_they_are_kept_to_be_shared():
    """Where all differ, the table that shares them takes as much as they do. `check` comes after it."""
    raw = changed(lambda d: d["images"][0].update(neededBy=["catalog/package/bundle"] * 5_000_001))
    with pytest.raises(msgspec.ValidationError, match="entries of neededBy; the limit is 5000000"):
        inventory_file.decode_unchecked(raw)
