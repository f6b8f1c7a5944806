"""A finished archive in the output directory (ADR 0083)."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from common.archive import checksums, inventory_file
from common.archive.volume import JOURNAL_NAME
from common.errors import UsageError
from common.oci.image import digest_of
from common.progress import Silent
from exporter import planned_workflow
from exporter.archive.finished import archive_in, require_same
from exporter.report.preview import Preview
from exporter.settings import Making
from tests.fakes import reports
from tests.fakes.archives import CUT
from tests.unit.exporter.report.test_purpose import CATALOG, SETTINGS

RAW = inventory_file.encode(CUT.inventory(CUT.layout()))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / inventory_file.NAME).write_bytes(RAW)
    (tmp_path / checksums.NAME).write_bytes(b"")
    return tmp_path


@pytest.fixture
def other_version(directory):
    """The inventory of another version, whose bytes this one would not write."""
    written = json.dumps(json.loads(RAW) | {"fieldOfALaterVersion": 1}, indent=4).encode()
    (directory / inventory_file.NAME).write_bytes(written)
    return written


def test_the_digest_is_that_of_the_file_also_where_another_version_wrote_it(directory, other_version):
    assert archive_in(directory).digest == digest_of(other_version)


def test_finish_of_a_finished_archive_has_the_digest_of_its_file(directory, other_version):
    """Parts that were moved by an earlier run, of the version before an update of the program."""
    made = planned_workflow.finish([directory], Making(directory), Silent())
    assert made.digest == digest_of(other_version)


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


def test_other_content_is_a_difference_and_a_missing_blob_is_none(tmp_path):
    (tmp_path / checksums.NAME).write_bytes(b"")
    spec = Preview(reports.planned(CATALOG), SETTINGS).spec
    made = inventory_file.decode(inventory_file.encode(spec.inventory({})), "the archive")
    digest, *others = made.blobs
    for blobs, difference in (
        ({each: made.blobs[each] for each in others}, "the requested content is another now"),
        (made.blobs | {digest: replace(made.blobs[digest], missing="HTTP 404", pieces=())}, "is no longer here"),
    ):
        with pytest.raises(UsageError, match=difference):
            require_same(replace(made, blobs=blobs), spec, Making(tmp_path))
