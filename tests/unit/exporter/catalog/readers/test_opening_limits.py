"""Limits of what is opened: the layers of a catalog image, queries of a database, the image set with its templates."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from common.content import DirectoryStore
from common.errors import CatalogError, UsageError
from common.oci.image import digest_of
from exporter.catalog.readers import sqlite
from exporter.catalog.readers.opening import CatalogOpener
from exporter.imageset import file as imageset
from exporter.imageset import template
from tests.fakes.catalogs import bundle_blob, channel_blob, entry, package_blob, stream
from tests.fakes.databases import database
from tests.fakes.factories import ImageParts, image

LABEL = {"operators.operatorframework.io.index.configs.v1": "/configs"}
FILES = {"configs/foo/catalog.json": stream(package_blob(), channel_blob("stable", [entry("foo.v1")]), bundle_blob("foo.v1"))}


def layout_of(parts: ImageParts, folder: Path) -> str:
    """Write an OCI layout; return its name for --catalog."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for content in (parts.raw, *parts.blobs.values()):
        (folder / "blobs" / "sha256" / digest_of(content).removeprefix("sha256:")).write_bytes(content)
    listed = {"mediaType": parts.media_type, "digest": parts.digest, "size": len(parts.raw)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{folder}"


def test_layers_of_a_catalog_at_their_limit_and_beyond_before_and_after_decompression(tmp_path):
    """The limit of every catalog is 8 GiB, and is a parameter for this test."""
    parts = image([FILES], labels=LABEL)
    (packed,) = parts.layers
    name = layout_of(parts, tmp_path / "layout")
    store = DirectoryStore(tmp_path / "blobs")
    unpacked = len(gzip.decompress(packed))
    assert list(CatalogOpener(None, store, unpacked).open(name).catalog.packages) == ["foo"]
    with pytest.raises(CatalogError, match=f"layout: its layer sha256:.*grows past its limit of {unpacked - 1} bytes"):
        CatalogOpener(None, store, unpacked - 1).open(name)
    with pytest.raises(CatalogError, match=f"has {len(packed)} bytes; the limit is {len(packed) - 1}"):
        CatalogOpener(None, store, len(packed) - 1).open(name)
    with pytest.raises(CatalogError, match=f"grows past its limit of {len(packed)} bytes"):
        CatalogOpener(None, store, len(packed)).open(name)


def test_queries_of_a_database_have_a_limit_of_steps():
    """A generated column or an index of an expression may compute without end; the number is that of SQLite's instructions."""
    content = database(13)
    found = sqlite.read(content, "test.db")
    steps = next(steps for steps in (10**n for n in range(2, 9)) if _reads(content, steps))
    assert 100 < steps <= sqlite.MAX_STEPS // 100
    assert sqlite.read(content, "test.db", steps) == found
    with pytest.raises(CatalogError, match=r"test\.db: an SQLite file that cannot be read: interrupted"):
        sqlite.read(content, "test.db", steps // 10)


def _reads(content: bytes, steps: int) -> bool:
    try:
        sqlite.read(content, "test.db", steps)
    except CatalogError:
        return False
    return True


HEAD = b"apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n  - name: a.test/b:c\n"


def test_an_image_set_at_its_limit_and_beyond(tmp_path):
    path = tmp_path / "imageset.yaml"
    path.write_bytes(HEAD + b"#" * (imageset.MAX_SIZE - len(HEAD)))
    assert imageset.read(path).additional_images
    path.write_bytes(HEAD + b"#" * (imageset.MAX_SIZE - len(HEAD) + 1))
    with pytest.raises(UsageError, match=f"larger than {imageset.MAX_SIZE} bytes"):
        imageset.read(path)


def test_a_template_at_its_limit_and_beyond(tmp_path):
    path = tmp_path / "template.yaml"
    head = b"kind: CatalogSource\n"
    path.write_bytes(head + b"#" * (template.MAX_SIZE - len(head)))
    assert template.load(str(path)) == {"kind": "CatalogSource"}
    path.write_bytes(head + b"#" * (template.MAX_SIZE - len(head) + 1))
    with pytest.raises(UsageError, match=f"larger than {template.MAX_SIZE} bytes"):
        template.load(str(path))
