"""Names of archives inside: the page of a deploy and its file, the record in the cluster, `status` and `undo`."""

from __future__ import annotations

import base64
import dataclasses
import zlib
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from common.archive.inventory import BaseRecord
from common.cli.summary import Measured
from common.errors import ClusterError, ExitCode
from common.progress import Silent
from importer.cli import cluster_tables, tables
from importer.cluster.api.client import connect
from importer.cluster.kinds import SECRET
from importer.cluster.record import _MAX_ARCHIVES, NAME, ImportedArchive, Recorder, imported_archives
from importer.configure.undo import UndoResult
from importer.push.result import PushResult
from importer.report.page import DeployReport
from importer.report.record import Author
from importer.settings import ClusterSettings
from tests.fakes.archives import CUT
from tests.fakes.cluster import FakeCluster

SPACE = "openshift-config"
DIGESTS = [f"sha256:{number:064x}" for number in range(30)]
LONG = "week-47-of-the-second-half-of-the-year"
BASES = {DIGESTS[1]: BaseRecord("2026-11-16T10:00:00Z", "week-46"), DIGESTS[2]: BaseRecord(confirms=(DIGESTS[1],))}
RESULT = PushResult(
    0, 0, 0, 0, 0, (), (), ExitCode.PROBLEMS, 43, 0, 0, (DIGESTS[2], DIGESTS[1]), images_waiting=43, bases=BASES
)


def page(tmp_path, name):
    inventory = replace(CUT.inventory(CUT.layout()), name=name, bases=BASES)
    archive = SimpleNamespace(inventory=inventory, digest="sha256:" + "ab" * 32)
    where = SimpleNamespace(mirror="registry.example")
    author, now = Author("anna", "bastion"), lambda: datetime(2026, 11, 30, 22, tzinfo=UTC)
    report = DeployReport(archive, where, tmp_path, lambda _: None, author=author, place=ClusterSettings(), now=now)
    with pytest.raises(ClusterError), report:
        report.pushed = RESULT
        raise ClusterError("refused", hint="x")
    return next(tmp_path.iterdir())


def test_the_page_of_a_deploy_and_its_file_have_the_name(tmp_path):
    file = page(tmp_path, LONG)
    assert file.name == f"hub-deploy-20261130T220000Z-{LONG}-abababababab.html"
    text = file.read_text()
    assert f", {LONG} sha256:abababababab</title>" in text
    assert f"<strong>{LONG}</strong>" in text
    assert "<li>week-46 of 2026-11-16 <span" in text
    assert "<li>receipt of week-46 of 2026-11-16 <span" in text
    assert "week\\2D 47" in text.partition("@bottom-left")[2].partition("}")[0]


def test_push_says_how_many_could_not_be_brought():
    lines = tables.push_table(RESULT)
    assert lines[0].startswith("43 images: 0 already there, 43 could not be brought yet; ")
    assert lines[1:4] == ["these archives must come first:", "  week-46 of 2026-11-16 (sha256:000000000000…)", lines[3]]
    assert lines[-2] == "  receipt sha256:000000000000… of week-46 of 2026-11-16"
    assert "0 already there; " in tables.push_table(dataclasses.replace(RESULT, images_waiting=0))[0]


def test_what_push_has_pushed_is_what_arrived():
    """A blob that is damaged, or refused, has moved a part of its bytes before."""
    taken = Measured(Silent())
    taken.begin("pushing 2 blobs", 200)
    taken.advance(180)
    taken.failed(20)
    taken.end()
    lines = tables.push_table(dataclasses.replace(RESULT, uploaded=1, bytes=120), taken=taken)
    assert "1 blob uploaded (120 B), " in lines[0]
    assert lines[1].startswith("pushed 120 B at ")
    assert tables.push_table(RESULT, taken=taken)[1].startswith("took ")


def test_the_record_has_the_last_imports_in_their_order(tmp_path):
    with FakeCluster("4.18", tls=False) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        for digest in DIGESTS:
            Recorder(client, SPACE).expect([], [], ImportedArchive(digest, f"week-{digest[-2:]}", "2026-11-23T10:00:00Z"))
        # The same archive again is the last import, once.
        Recorder(client, SPACE).expect([], [], ImportedArchive(DIGESTS[-2], "again", "2026-11-23T10:00:00Z"))
        found = imported_archives(client, SPACE)
        assert len(found) == _MAX_ARCHIVES
        assert [each.digest for each in found[-3:]] == [DIGESTS[-3], DIGESTS[-1], DIGESTS[-2]]
        # A name in a record that was edited is none, and a list that is none is no list.
        for text, names in ((b'[{"digest":"sha256:0","name":"\xe2\x80\xaex"}]', [""]), (b"{", [])):
            data = {"expected._archives": base64.b64encode(zlib.compress(text)).decode()}
            client.merge_patch(SECRET, NAME, SPACE, {"data": data})
            assert [each.name for each in imported_archives(client, SPACE)] == names


def test_undo_lists_all_imports():
    archives = tuple(
        ImportedArchive(digest, f"week-{46 + at}", "2026-11-23T10:00:00Z") for at, digest in enumerate(DIGESTS[:2])
    )
    shown = cluster_tables.undone_rows(UndoResult(SimpleNamespace(), [], archives), dry_run=False)
    assert shown[:3] == [
        "undo goes back to before these imports:",
        "  week-46 of 2026-11-23 (sha256:000000000000…)",
        "  week-47 of 2026-11-23 (sha256:000000000000…)",
    ]
