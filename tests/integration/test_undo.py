"""`undo`: every field that was touched as it was before, on every release; what others changed since stays, and is named."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from importer.cluster import record
from importer.cluster.api.client import connect
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.kinds import CATALOG_SOURCE, OPERATOR_HUB
from importer.cluster.record import Recorder
from importer.cluster.trust import merge_pull_secret
from importer.cluster.undo import Outcome, undo
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run as command
from tests.fakes.wanted import catalog_source, mirror_rules, wanted
from tests.samples import RELEASES

SPACE = "openshift-config"


def run(client, resources, space=SPACE):
    return apply(
        client,
        resources,
        release=release_of(running_version(client)),
        dry_run=False,
        tell=lambda _line: None,
        recorder=Recorder(client, space),
    )


def state(cluster):
    """Return all that users can set of every object, but for our record."""
    found = {}
    for kind in cluster.kinds.values() if isinstance(cluster.kinds, dict) else cluster.kinds:
        for key in cluster.store.keys(kind):
            body = cluster.store.get(key)
            metadata = {k: v for k, v in body["metadata"].items() if k in ("name", "namespace", "labels", "annotations")}
            content = {k: v for k, v in body.items() if k not in ("metadata", "status", "apiVersion", "kind")}
            found[str(key)] = {**content, "metadata": metadata}
    return {name: body for name, body in found.items() if record.NAME not in name}


def lived_in(cluster, client):
    """Give a cluster what others put there: rules, sources, a CA, a credential."""
    if cluster.release is None:
        return
    client.merge_patch(OPERATOR_HUB, "cluster", "", {"spec": {"sources": [{"name": "community-operators", "disabled": True}]}})


@pytest.mark.parametrize("release", [*RELEASES, None])
def test_undo_restores_the_former_state(tmp_path: Path, release):
    space = SPACE if release else "olm"
    with FakeCluster(release) as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        lived_in(cluster, client)
        before = state(cluster)
        run(client, wanted(release), space)
        if release:
            merge_pull_secret(client, "mirror.example:5000", "dXNlcjpwYXNz", recorder=Recorder(client, space))
        assert state(cluster) != before
        done = undo(client, space, dry_run=False, tell=lambda _line: None)
        assert {one.outcome for one in done} <= {Outcome.DELETED, Outcome.RESTORED}
        assert settled(state(cluster), release) == settled(before, release)
        assert record.load(client, space) == []
        assert undo(client, space, dry_run=False, tell=lambda _line: None) == []


def settled(found, release):
    """Leave out the default CatalogSources, which the marketplace operator creates and deletes."""
    return {name: body for name, body in found.items() if "CatalogSource" not in name and "catalogsources" not in name}


def test_after_several_applies_the_first_state_counts(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        before = state(cluster)
        run(client, wanted("4.18"))
        run(
            client,
            [
                mirror_rules(ubi="ubi", web="web", new="new"),
                catalog_source(image="mirror.example:5000/x/y@sha256:" + "cd" * 32),
            ],
        )
        entries = {one.key: one for one in record.load(client, SPACE)}
        source = next(one for one in entries.values() if one.kind == CATALOG_SOURCE.name)
        assert source.created
        undo(client, SPACE, dry_run=False, tell=lambda _line: None)
        assert settled(state(cluster), "4.18") == settled(before, "4.18")


def test_a_field_that_others_changed_is_refused_and_kept_in_the_record(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        run(client, wanted("4.18"))
        client.merge_patch(OPERATOR_HUB, "cluster", "", {"spec": {"disableAllDefaultSources": False}})
        client.merge_patch(CATALOG_SOURCE, "hub-redhat-operators", "openshift-marketplace", {"spec": {"displayName": "Mine"}})
        lines = []
        done = undo(client, SPACE, dry_run=False, tell=lines.append)
        refused = {(one.kind, one.name): one.fields for one in done if one.outcome is Outcome.REFUSED}
        assert refused == {
            ("OperatorHub", "cluster"): ("spec.disableAllDefaultSources",),
            ("CatalogSource", "hub-redhat-operators"): ("spec.displayName",),
        }
        assert "refused OperatorHub cluster: changed by others since: spec.disableAllDefaultSources" in lines
        assert cluster.names("ImageDigestMirrorSet") == []
        assert {(one.kind, one.name) for one in record.load(client, SPACE)} == set(refused)
        client.merge_patch(OPERATOR_HUB, "cluster", "", {"spec": {"disableAllDefaultSources": True}})
        again = undo(client, SPACE, dry_run=False, tell=lambda _line: None)
        assert [one.outcome for one in again if one.kind == "OperatorHub"] == [Outcome.RESTORED]


def test_a_second_apply_writes_nothing_into_the_record(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        run(client, wanted("4.18"))
        versions = cluster.versions()
        run(client, wanted("4.18"))
        assert cluster.versions() == versions


def test_interrupted_anywhere_undo_ends_in_the_same_state(tmp_path: Path):
    class StoppedError(Exception):
        """As if the user had pressed Ctrl-C."""

    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        count = len(run(client, wanted("4.18")).changes)
    for stop in range(count):
        with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
            before = state(cluster)
            lines = []

            def tell(line: str, lines: list[str] = lines, stop: int = stop) -> None:
                lines.append(line)
                if len(lines) > stop:
                    raise StoppedError

            with pytest.raises(StoppedError):
                apply(
                    client,
                    wanted("4.18"),
                    release=release_of(running_version(client)),
                    dry_run=False,
                    tell=tell,
                    recorder=Recorder(client, SPACE),
                )
            lines.clear()
            try:
                undo(client, SPACE, dry_run=False, tell=tell)
            except StoppedError:
                undo(client, SPACE, dry_run=False, tell=lambda _line: None)
            assert settled(state(cluster), "4.18") == settled(before, "4.18"), stop


def test_the_command(tmp_path: Path):
    with FakeCluster("4.18") as cluster:
        config = cluster.kubeconfig(tmp_path)
        nothing = command("hub-import", "undo", "--kubeconfig", config, "--yes")
        assert (nothing.status, "nothing to undo" in nothing.stderr) == (2, True)
        with connect(config, None) as client:
            run(client, wanted("4.18"))
        asked = command("hub-import", "undo", "--kubeconfig", config)
        assert (asked.status, "confirmation needs a terminal" in asked.stderr) == (2, True)
        dry = command("hub-import", "undo", "--kubeconfig", config, "--dry-run", "--format", "json")
        assert (dry.status, dry.json["done"]) == (0, False)
        assert cluster.names("ImageDigestMirrorSet")
        done = command("hub-import", "undo", "--kubeconfig", config, "--yes", "--format", "json")
        assert done.status == 0, done.stderr
        assert {one["outcome"] for one in done.json["objects"]} == {"deleted", "restored"}
        assert cluster.names("ImageDigestMirrorSet") == []


def test_the_former_pull_secret_is_kept_where_secrets_are(tmp_path: Path):
    with FakeCluster("4.18") as cluster, connect(cluster.kubeconfig(tmp_path), None) as client:
        merge_pull_secret(client, "mirror.example:5000", "dXNlcjpwYXNz", recorder=Recorder(client, SPACE))
        kept = cluster.get("Secret", record.NAME, SPACE)
        (entry,) = (json.loads(base64.b64decode(value)) for value in kept["data"].values())
        assert entry["fields"][0]["path"] == ["data", ".dockerconfigjson"]
        assert record.NAME not in cluster.names("ConfigMap")
