import itertools
import json

import pytest

from common.errors import ContentError, UsageError
from common.oci import media_types
from common.oci.image import (
    MAX_CHILDREN,
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_MANIFEST_SIZE,
    MAX_TREE_SIZE,
    Descriptor,
    Index,
    Manifest,
    Platform,
    described,
    digest_of,
    encode,
    parse,
    parse_config,
    walk,
)
from tests.fakes import factories

BLOB = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": digest_of(b"x"), "size": 1}


def manifest(**fields):
    return encode({"schemaVersion": 2, "config": BLOB, "layers": [BLOB, BLOB], **fields})


def test_a_manifest_keeps_its_bytes_and_names_each_blob_once():
    raw = manifest(mediaType=media_types.DOCKER_MANIFEST, strange={"field": 1})
    parsed = parse(raw, "application/json; charset=utf-8")
    assert isinstance(parsed, Manifest)
    assert (parsed.raw, parsed.digest, parsed.media_type) == (raw, digest_of(raw), media_types.DOCKER_MANIFEST)
    assert [blob.digest for blob in parsed.blobs] == [digest_of(b"x")]
    assert parsed.descriptor == Descriptor(media_types.DOCKER_MANIFEST, digest_of(raw), len(raw))


SERVED = ["application/json", "text/plain; charset=utf-8", "application/octet-stream", "", "text/html", "Application/JSON;q=1"]


@pytest.mark.parametrize("given", [*SERVED, media_types.DOCKER_MANIFEST, media_types.OCI_INDEX, media_types.DOCKER_SCHEMA_1])
def test_a_manifest_without_a_media_type_is_an_oci_manifest(given):
    for raw in (manifest(), manifest(mediaType=""), manifest(mediaType=None)):
        assert parse(raw, given).media_type == media_types.OCI_MANIFEST
    assert parse(manifest(mediaType=media_types.DOCKER_MANIFEST), given).media_type == media_types.DOCKER_MANIFEST
    assert parse(manifest(mediaType="application/vnd.example+json"), given).media_type == "application/vnd.example+json"


@pytest.mark.parametrize(
    "given", [*SERVED, media_types.DOCKER_LIST, media_types.OCI_MANIFEST, media_types.DOCKER_SCHEMA_1_SIGNED]
)
def test_an_index_without_a_media_type_is_an_oci_index(given):
    index = {"schemaVersion": 2, "manifests": [BLOB]}
    parsed = parse(encode(index), given)
    assert isinstance(parsed, Index)
    assert parsed.media_type == media_types.OCI_INDEX
    assert parse(encode(index | {"mediaType": media_types.DOCKER_LIST}), given).media_type == media_types.DOCKER_LIST


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (media_types.OCI_INDEX, Index),
        ("Application/Vnd.OCI.Image.Index.V1+JSON; charset=utf-8", Index),
        (media_types.OCI_MANIFEST, Manifest),
        ("application/json", Manifest),
    ],
)
def test_the_media_type_decides_for_a_document_with_the_fields_of_both(given, kind):
    assert isinstance(parse(manifest(manifests=[BLOB]), given), kind)


@pytest.mark.parametrize("field", [{}, {"mediaType": None}, {"mediaType": "", "annotations": None, "urls": None}])
def test_a_descriptor_may_lack_its_media_type(field):
    child = {"digest": digest_of(b"x"), "size": 1, **field}
    parsed = parse(encode({"schemaVersion": 2, "manifests": [child], "subject": child}))
    assert isinstance(parsed, Index)
    assert parsed.manifests == (Descriptor("", digest_of(b"x"), 1),)
    assert parsed.subject == Descriptor("", digest_of(b"x"), 1)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            {"architecture": "amd64", "os": "linux", "variant": None, "features": None, "os.version": None},
            ("linux", "amd64", ""),
        ),
        ({"architecture": "arm64", "os": "linux", "variant": "V8"}, ("linux", "arm64", "V8")),
        ({"architecture": "amd64"}, ("", "amd64", "")),
        ({"architecture": "", "os": ""}, None),
        ({"architecture": None, "os": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_platform_may_lack_its_fields(written, read):
    """The .NET SDK 9.0.100 writes null for what it does not know, distribution empty texts (dotnet/sdk#43085)."""
    parsed = parse(encode({"schemaVersion": 2, "manifests": [{**BLOB, "platform": written}]}))
    assert isinstance(parsed, Index)
    assert parsed.manifests[0].platform == (read and Platform(*read))


def test_values_of_annotations_and_labels_may_be_null():
    notes = {"a": None, "b": "c"}
    parsed = parse(manifest(annotations=notes, layers=[{**BLOB, "annotations": notes}]))
    assert isinstance(parsed, Manifest)
    assert parsed.layers[0].annotations == described(parsed)["annotations"] == {"a": "", "b": "c"}
    config = parse_config(json.dumps({"os": None, "architecture": "amd64", "config": {"Labels": notes, "Env": None}}).encode())
    assert (config.labels, config.environment, config.platform) == ({"a": "", "b": "c"}, {}, Platform("", "amd64"))


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8", "linux/arm64/V8", "windows", ""])
def test_a_platform_of_an_inventory_is_read_as_it_was_written(text):
    assert str(Platform.listed(text)) == text


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (b"{", "", "not a manifest"),
        (b"[" * 100_000, "", "not a manifest"),
        (b"{}", "text/html", "neither an image manifest nor an index"),
        (manifest(schemaVersion=1), "", "schema 1"),
        (b"{}", media_types.DOCKER_SCHEMA_1_SIGNED, "schema 1"),
        (manifest(config={**BLOB, "size": -1}), "", "impossible size"),
        (manifest(config={**BLOB, "size": 2**63 - 1}), "", "impossible size"),
        (manifest(config={**BLOB, "digest": "sha256:../../etc"}), "", "not a digest"),
        (manifest(config={**BLOB, "digest": "sha512:" + "a" * 128}), "", "not supported"),
        (manifest(subject={**BLOB, "digest": "sha512:" + "a" * 128}), "", "not supported"),
        (manifest(subject={**BLOB, "digest": "../.."}), "", "not a digest"),
        (encode({"manifests": [], "subject": {**BLOB, "size": -1}}), "", "its subject: .*impossible size"),
        (manifest(layers=[BLOB] * (MAX_CHILDREN + 1)), "", "descriptors; the limit is"),
        (b" " * (MAX_MANIFEST_SIZE + 1), "", "the limit is"),
    ],
)
def test_other_documents_are_refused(raw, kind, message):
    with pytest.raises(ContentError, match=message):
        parse(raw, kind)


def test_documents_at_the_limits_are_read():
    assert len(parse(manifest(layers=[BLOB] * (MAX_CHILDREN - 1))).layers) == MAX_CHILDREN - 1  # and the config
    assert parse(manifest().ljust(MAX_MANIFEST_SIZE)).config.size == BLOB["size"]


def test_configs():
    parsed = parse_config(json.dumps({"os": "linux", "config": {"Labels": {"a": "b"}, "Cmd": ["x"]}}).encode())
    assert (parsed.os, parsed.labels) == ("linux", {"a": "b"})
    assert parse_config(b"{}").labels == {}
    with pytest.raises(ContentError, match="not an image config"):
        parse_config(b"[]")


def fetcher(*parts):
    raws = {each.digest: each.raw for each in parts}
    return lambda child: parse(raws[child.digest], child.media_type)


def test_a_tree_has_children_before_parents_and_each_once():
    amd, arm = factories.image(platform="linux/amd64"), factories.image(platform="linux/arm64/v8")
    inner = factories.index([amd, arm])
    outer = factories.index([inner, amd])
    tree = walk(parse(outer.raw), fetcher(amd, arm, inner))
    assert [document.digest for document in tree.documents] == [amd.digest, arm.digest, inner.digest, outer.digest]
    assert {blob.digest for blob in tree.blobs} == {*amd.blobs, *arm.blobs}
    chosen = walk(parse(outer.raw), fetcher(amd, arm, inner), [Platform.parse("linux/arm64")])
    assert [document.digest for document in chosen.documents] == [arm.digest, inner.digest, outer.digest]
    assert [str(child.platform) for child in chosen.left_out] == ["linux/amd64", "linux/amd64"]


def test_the_depth_of_indexes_is_bounded():
    chain = [factories.index([factories.image()])]
    for _ in range(MAX_DEPTH + 1):
        chain.append(factories.index([chain[-1]]))
    image = factories.image()
    assert len(walk(parse(chain[MAX_DEPTH - 1].raw), fetcher(image, *chain)).documents) == MAX_DEPTH + 1
    with pytest.raises(ContentError, match=f"nested deeper than {MAX_DEPTH}"):
        walk(parse(chain[MAX_DEPTH].raw), fetcher(image, *chain))


def test_an_index_that_lists_itself_is_refused():
    """Impossible by digest, but a registry may answer a digest with any document."""
    loop = factories.index([factories.image()])
    parsed = parse(loop.raw)
    assert isinstance(parsed, Index)
    with pytest.raises(ContentError, match="nested deeper"):
        walk(parsed, lambda _child: parsed)


@pytest.mark.more
def test_the_number_of_documents_below_an_index_is_bounded():
    digests = [digest_of(str(number).encode()) for number in range(MAX_DOCUMENTS + 1)]
    half = MAX_DOCUMENTS // 2
    for count, fits in ((MAX_DOCUMENTS, True), (MAX_DOCUMENTS + 1, False)):
        # Two indexes below the root, and the others below these: each document lists something else.
        leaves = [{**BLOB, "digest": digest, "annotations": {"n": digest}} for digest in digests[: count - 3]]
        listed = {each["digest"]: [] for each in leaves}
        listed |= {digests[-1]: leaves[:half], digests[-2]: leaves[half:]}
        root = parse(encode({"schemaVersion": 2, "manifests": [{**BLOB, "digest": digest} for digest in digests[-2:]]}))

        def unlike(child, listed=listed):
            return parse(encode({"schemaVersion": 2, "manifests": listed[child.digest], "annotations": {"n": child.digest}}))

        if fits:
            assert len(walk(root, unlike).documents) == count
            continue
        with pytest.raises(ContentError, match=f"more than {MAX_DOCUMENTS} manifests below one index"):
            walk(root, unlike)


def test_the_documents_below_an_index_are_bounded_together():
    """All of them stay in memory, and each may have 16 MiB."""
    padding = "x" * (MAX_MANIFEST_SIZE - 4096)
    most = MAX_TREE_SIZE // len(padding)
    children = [{**BLOB, "digest": digest_of(str(number).encode())} for number in range(most + 1)]

    def fetched(child):
        return parse(manifest(annotations={"name": child.digest, "padding": padding}))

    def index(listed):
        return parse(encode({"schemaVersion": 2, "manifests": listed}))

    assert len(walk(index(children[: most - 1]), fetched).documents) == most
    with pytest.raises(ContentError, match=f"more than {MAX_TREE_SIZE} bytes"):
        walk(index(children), fetched)


@pytest.mark.parametrize("value", [b"1e999", b"9" * 5000, b'"\xff"'])
def test_a_referrer_is_described_whatever_its_other_fields_are(value):
    """Fields that are not read are not decoded when a manifest is parsed (msgspec, *Typed Deserialization*)."""
    raw = manifest(annotations={"a": "b"}).replace(b'"schemaVersion"', b'"strange":' + value + b',"schemaVersion"')
    assert described(parse(raw))["annotations"] == {"a": "b"}


def test_an_endless_index_is_refused():
    names = itertools.count()

    def another(_child):
        images = [factories.image(labels={"n": str(next(names))}) for _ in range(100)]
        return parse(factories.index(images).raw) if next(names) < 200_000 else parse(images[0].raw)

    with pytest.raises(ContentError, match=r"nested deeper|more than"):
        walk(another(None), another)


@pytest.mark.parametrize(
    ("asked", "has", "fits"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/amd64", "windows/amd64", False),
    ],
)
def test_platforms(asked, has, fits):
    assert Platform.parse(asked).accepts(Platform.parse(has)) is fits
    assert str(Platform.parse(has)) == has


@pytest.mark.parametrize("text", ["", "linux", "linux/", "LINUX/amd64", "linux/amd64/v8/x", "linux amd64"])
def test_no_platform(text):
    with pytest.raises(UsageError, match="not a platform"):
        Platform.parse(text)


def test_descriptors_without_a_media_type_are_those_of_an_image():
    """The field is required in the specification; Go reads an absent one as empty, and containers/image looks at the bytes."""
    bare = {key: value for key, value in BLOB.items() if key != "mediaType"}
    for layer in (bare, {**bare, "mediaType": None}, {**bare, "mediaType": ""}):
        document = parse(manifest(config={**BLOB, "mediaType": media_types.OCI_CONFIG}, layers=[layer]))
        assert isinstance(document, Manifest)
        assert document.is_image
        assert document.layers[0].media_type == ""
