"""A finished archive in the output directory (ADR 0083)."""

from __future__ import annotations

import json

import pytest

from common.archive import checksums, inventory_file
from common.archive.volume import JOURNAL_NAME
from common.oci.image import digest_of
from exporter.archive.finished import archive_in
from exporter.workflow import Exported
from tests.fakes.archives import CUT

RAW = inventory_file.encode(CUT.inventory(CUT.layout()))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / inventory_file.NAME).write_bytes(RAW)
    (tmp_path / checksums.NAME).write_bytes(b"")
    return tmp_path


def test_the_digest_is_that_of_the_file_also_where_another_version_wrote_it(directory):
    written = json.dumps(json.loads(RAW) | {"fieldOfALaterVersion": 1}, indent=4).encode()
    (directory / inventory_file.NAME).write_bytes(written)
    found = archive_in(directory)
    assert Exported(found.inventory, earlier=found.digest).digest == digest_of(written)


@pytest.mark.parametrize("name", [inventory_file.NAME, checksums.NAME])
def test_without_one_of_its_files_an_archive_is_not_finished(directory, name):
    assert archive_in(directory) is not None
    (directory / name).unlink()
    assert archive_in(directory) is None


def test_with_a_journal_an_archive_is_not_finished(directory):
    (directory / JOURNAL_NAME).write_bytes(b"")
    assert archive_in(directory) is None


def test_an_inventory_that_cannot_be_read_is_no_archive(directory):
    (directory / inventory_file.NAME).write_bytes(RAW[:-9])
    assert archive_in(directory) is None
