"""Names of archives where they are imported: two weeks deployed, then `status`, `operators`, `render` and `undo`."""

from __future__ import annotations

import pytest

from common.archive.naming import short
from common.archive.reader import Archive
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import CATALOG, Site, add_catalog

pytestmark = [pytest.mark.integration, pytest.mark.more]  # the parts have tests of their own, which run in `make test`


def test_two_weeks(tmp_path):
    with FakeRegistry() as source, FakeRegistry() as mirror, FakeCluster("4.18") as cluster:
        add_catalog(source)
        labels = []
        for name, package in (("week-47", "alpha"), ("week-48", "beta")):
            selected = ["--catalog", f"{source.host}/{CATALOG}:v1", "--package", package, "--skip-dependencies"]
            options = ["--insecure", source.host, "--signatures", "ignore", "--name", name, "--output", tmp_path / name]
            made = run("hub-export", "create", *selected, *options, env={"SOURCE_DATE_EPOCH": "1795428000"})
            assert made.status == 0, made.stderr
            digest = Archive.open([tmp_path / name]).digest
            labels.append(f"{name} of 2026-11-23 ({short(digest)})")
            site = Site(cluster, mirror, tmp_path / name, tmp_path)
            assert site.run("deploy", *site.trust, "--report", tmp_path).status == 0
            assert len(list(tmp_path.glob(f"hub-deploy-*-{name}-{digest[7:19]}.html"))) == 1
        assert f"last import: {labels[1]}" in site.text("status").stdout.splitlines()
        assert [each["name"] for each in site.ask("status").json["archives"]] == ["week-47", "week-48"]
        assert f"compared with: {labels[1]}" in site.text("operators", site.archive).stdout.splitlines()
        lines = site.text("undo", "--dry-run").stdout.splitlines()
        assert lines[1:4] == ["undo goes back to before these imports:", *(f"  {label}" for label in labels)]
        options = ["--registry", mirror.host, "--openshift-release", "4.18", "--output", tmp_path / "files"]
        assert f"files for {labels[1]}:" in run("hub-import", "render", site.archive, *options).stdout.splitlines()
