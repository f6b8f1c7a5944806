"""Receipts from mirrors whose `/v2/` is closed, as behind a proxy that lets only the paths of repositories through.

A push to such a mirror works (distribution specification, *Determining Support*: 404 and 401 are the answers that are foreseen).
"""

from __future__ import annotations

import json

import pytest

from common.archive.reader import Archive
from common.errors import AuthenticationError, NotFoundError
from common.progress import Silent
from common.registry.settings import RegistrySettings
from importer import workflow
from importer.mapping import Mirror
from importer.settings import ImportSettings
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

APP = image([b"base", b"own"])
CODED = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": "no"}]}).encode()


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    output = tmp_path_factory.mktemp("closed") / "out"
    with FakeRegistry() as source:
        source.add_image("org/app", APP, tag="v1")
        names = ("--image", f"{source.host}/org/app:v1", "--insecure", source.host)
        done = run("hub-export", "create", *names, "--output", output)
        assert done.status == 0, done.stderr
    return Archive.open([output])


@pytest.fixture(name="settings")
def _settings(tmp_path):
    return lambda mirror: ImportSettings(
        Mirror.parse(mirror.host),
        RegistrySettings(insecure=frozenset({mirror.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path),
    )


def receipt(archive, settings, folder):
    return workflow.receipt(archive, settings, Silent(), file=folder / "receipt.json", signer=None, redact=False)


@pytest.mark.parametrize(("status", "answer"), [(403, b""), pytest.param(404, CODED, marks=pytest.mark.more)])
def test_a_receipt_asks_the_repositories(archive, settings, tmp_path, status, answer):
    with FakeRegistry() as mirror:
        mirror.fault("GET", "/v2/", times=2, status=status, body=answer)  # of --insecure, and ours
        assert workflow.push(archive, settings(mirror), Silent()).exit_code == 0
        mirror.fault("GET", "/v2/", times=2, status=status, body=answer)
        assert receipt(archive, settings(mirror), tmp_path).inventories == (archive.digest,)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [(404, b"<html>Not Found</html>", NotFoundError), pytest.param(401, b"", AuthenticationError, marks=pytest.mark.more)],
)
def test_a_page_or_refused_credentials_end_it(archive, settings, tmp_path, *, status, answer, error):
    with FakeRegistry() as mirror:
        mirror.fault("GET", "/v2/", times=9, status=status, body=answer)
        with pytest.raises(error):
            receipt(archive, settings(mirror), tmp_path)
        assert not (tmp_path / "receipt.json").exists()
