"""Requester and purpose of an archive on the receiving side: `inspect`, and the page of a deploy."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from common.archive.inventory import ReleaseRecord, ReleaseSignatureRecord
from common.archive.signature import SignatureState
from common.errors import ClusterError
from common.oci.image import Digest
from importer.archive.checksum_files import Neighbours
from importer.cli import tables
from importer.report.page import DeployReport
from importer.report.record import Author
from importer.settings import ClusterSettings
from tests.fakes.archives import CUT

INVENTORY = replace(CUT.inventory(CUT.layout()), requested_by="Jo <i>Smith</i>", purpose="CHG-7")
DIGEST = "sha256:" + "ab" * 32
FOUND = SimpleNamespace(signature=SignatureState.ABSENT, key=None)
ARCHIVE = SimpleNamespace(inventory=INVENTORY, digest=DIGEST, present=(), missing=(), found=FOUND, volume_sizes=dict)


def test_inspect_shows_them():
    lines = tables.inspect_table(ARCHIVE, Neighbours())
    assert "requested by: Jo <i>Smith</i>" in lines
    assert "purpose: CHG-7" in lines
    document = tables.inspect_document(ARCHIVE, Neighbours())
    assert (document["requestedBy"], document["purpose"]) == ("Jo <i>Smith</i>", "CHG-7")


@pytest.mark.parametrize("state", SignatureState)
def test_keys_of_releases_are_not_verified_by_an_archive_without_a_verified_signature(state):
    """An archive from anywhere may have any key in its inventory."""
    signature = ReleaseSignatureRecord("", "", "A" * 40)
    release = ReleaseRecord("4.18.20", "amd64", "quay.io/a:b", Digest(DIGEST), signatures=(signature,))
    found = SimpleNamespace(signature=state, key=SimpleNamespace(fingerprint="ab"))
    archive = SimpleNamespace(**vars(ARCHIVE) | {"inventory": replace(INVENTORY, releases=(release,)), "found": found})
    (heading,) = (line for line in tables.inspect_table(archive, Neighbours()) if line.startswith("RELEASE"))
    assert ("SIGNED BY (not verified)" in heading) is (state is not SignatureState.VALID)


def test_the_page_of_a_deploy_shows_them_and_prints_the_digest_on_each_page(tmp_path):
    report = DeployReport(
        ARCHIVE,
        SimpleNamespace(mirror="registry.example"),
        tmp_path,
        lambda _line: None,
        author=Author("anna", "bastion"),
        place=ClusterSettings(),
        now=lambda: datetime(2026, 11, 30, 22, tzinfo=UTC),
    )
    with pytest.raises(ClusterError), report:
        raise ClusterError("refused", hint="x")
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    assert "<dd>Jo &lt;i&gt;Smith&lt;/i&gt;</dd>" in text
    assert "<dd>CHG-7</dd>" in text
    (printed,) = re.findall(r'@bottom-left { content: "([^"]*)"', text)
    said = re.sub(r"\\([0-9A-F]+) ", lambda match: chr(int(match[1], 16)), printed)
    assert said == f"{DIGEST}  30 Nov 2026 22:00 UTC"
