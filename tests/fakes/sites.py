"""A disconnected site: archives that were made online, a mirror, a cluster, and the importer's commands on them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from common.archive.inventory import Inventory
from common.archive.reader import Archive
from tests.fakes import databases, sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_upgrades import Edges
from tests.fakes.commands import Result, run
from tests.fakes.factories import Parts, image
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import docker_registry

CATALOG = "example/index"
_CONFIGS = "operators.operatorframework.io.index.configs.v1"
_DATABASE = "operators.operatorframework.io.index.database.v1"
_SERVE = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
PACKAGES = ("alpha", "beta", "gamma")
# The ways from version 0.9.0, by bundle, where a catalog is made with them: by `replaces` and by skipRange.
UPDATES = {"alpha.v1.0.0": Edges(replaces="alpha.v0.9.0"), "beta.v1.0.0": Edges(skip_range=">=0.8.0 <1.0.0")}
NODE_CA = trustme.CA().cert_pem.bytes().decode()


def made_once(factory: pytest.TempPathFactory, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, once for all workers of a run. Read only."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / make.__name__
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            (folder / "done").touch()
    return folder


def shared_updates(factory: pytest.TempPathFactory) -> Path:
    """Return the archive of `export_updates`, which every worker reads."""
    return made_once(factory, export_updates) / "updates"


def shared_both(factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the archives of `export_both`, which every worker reads."""
    folder = made_once(factory, export_both)
    return {name: folder / name for name in ("file-based", "sqlite")}


def shared_real(factory: pytest.TempPathFactory) -> Path:
    """Return the archive of `export_real`, which every worker reads."""
    return made_once(factory, export_real) / "out"


def export_both(folder: Path) -> dict[str, Path]:
    """Make an archive with a filtered file-based catalog, and one with a database; return them by format."""
    with FakeRegistry() as source:
        add_catalog(source)
        _database(source)
        return {
            "file-based": _export(source, folder / "file-based", "v1", "alpha", "beta"),
            "sqlite": _export(source, folder / "sqlite", "db", "foo"),
        }


def export_updates(folder: Path) -> Path:
    """Make an archive whose operators update from version 0.9.0 (`UPDATES`); return it."""
    with FakeRegistry() as source:
        add_catalog(source, UPDATES)
        return _export(source, folder / "updates", "v1", "alpha", "beta")


def export_images(output: Path, images: Mapping[str, Parts]) -> Path:
    """Make an archive of images, by repository, each with the tag v1; return it."""
    with FakeRegistry() as source:
        for name, parts in images.items():
            source.add_image(name, parts, tag="v1")
        names = [part for name in images for part in ("--image", f"{source.host}/{name}:v1")]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", output)
    assert done.status == 0, done.stderr
    return output


PACKAGE = "openshift-cert-manager-operator"


def export_real(folder: Path) -> Path:
    """Make an archive of a real operator, from a real registry; return it."""
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE])
    with docker_registry(folder, name="source") as source:
        content.seed(f"http://{source.host}")
        (folder / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        done = run(
            *("hub-export", "create", "--catalog", sources.CATALOG, "--package", PACKAGE, "--output", folder / "out"),
            env={"HUB_EXPORT_REGISTRIES_CONF": str(folder / "registries.conf")},
        )
    assert done.status == 0, done.stderr
    return folder / "out"


def _export(source: FakeRegistry, output: Path, tag: str, *packages: str) -> Path:
    chosen = [part for package in packages for part in ("--package", package)]
    done = run(
        *("hub-export", "create", "--catalog", f"{source.host}/{CATALOG}:{tag}", *chosen, "--skip-dependencies"),
        *("--insecure", source.host, "--signatures", "ignore", "--output", output),
    )
    assert done.status == 0, done.stderr
    return output


def _add(source: FakeRegistry, repository: str, *layers: Any) -> str:
    parts = image(layers)
    source.add_image(repository, parts, tag="1.0.0")
    return f"{source.host}/{repository}@{parts.digest}"


def add_catalog(source: FakeRegistry, updates: Mapping[str, Edges] | None = None) -> None:
    """Add a file-based catalog of PACKAGES, with their images, as CATALOG:v1."""
    blobs: list[dict[str, Any]] = []
    for name in PACKAGES:
        operand = _add(source, f"example/{name}-operand", f"operand of {name}".encode())
        bundle = _add(
            source, f"example/{name}", {"manifests/csv.yaml": f"kind: ClusterServiceVersion\nname: {name}\n".encode()}
        )
        head = f"{name}.v1.0.0"
        blobs += [
            {"schema": "olm.package", "name": name, "defaultChannel": "stable"},
            {"schema": "olm.channel", "package": name, "name": "stable", "entries": [_entry(head, updates or {})]},
            {
                "schema": "olm.bundle",
                "package": name,
                "name": head,
                "image": bundle,
                "properties": [{"type": "olm.package", "value": {"packageName": name, "version": "1.0.0"}}],
                "relatedImages": [{"name": "operand", "image": operand}],
            },
        ]
    content = "\n".join(map(json.dumps, blobs)).encode()
    catalog = image(({"bin/opm": b"opm"}, {"configs/catalog.json": content}), labels={_CONFIGS: "/configs"}, config=_SERVE)
    source.add_image(CATALOG, catalog, tag="v1")


def _entry(head: str, updates: Mapping[str, Edges]) -> dict[str, str]:
    edges = updates.get(head, Edges())
    found = {"name": head, "replaces": edges.replaces, "skipRange": edges.skip_range}
    return {name: value for name, value in found.items() if value}


def _database(source: FakeRegistry) -> None:
    content = databases.database(5)
    for number in ("1.0.0", "2.0.0", "3.0.0"):
        csv = databases.csv(f"foo.v{number[0]}", number)
        pinned = {
            f"quay.io/example/foo:{number}": _add(
                source, "example/foo", {"manifests/foo.csv.yaml": csv, "manifests/crd.yaml": databases.CRD}
            ),
            f"quay.io/example/operand:{number}": _add(source, "example/operand", f"operand {number}".encode()),
        }
        for old, new in pinned.items():
            content = databases.replaced(content, old, new)
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["registry", "serve", "--database", "/database/index.db"]}
    catalog = image(
        ({"bin/opm": b"opm"}, {"database/index.db": content}), labels={_DATABASE: "/database/index.db"}, config=config
    )
    source.add_image(CATALOG, catalog, tag="db")


@dataclass
class Site:
    """The disconnected side. `folder` is for what the commands need on disk."""

    cluster: FakeCluster
    mirror: FakeRegistry
    archive: Path
    folder: Path

    def __post_init__(self) -> None:
        for catalog in self.inventory.catalogs:
            self.cluster.catalog_contents[catalog.image] = catalog.packages
        self.cluster.ready_reads = self.cluster.mco_reads = self.cluster.pool_reads = self.cluster.package_reads = 1
        self.kubeconfig = self.cluster.kubeconfig(self.folder)
        (self.folder / "ca.pem").write_text(NODE_CA)
        (self.folder / "auth.json").write_text(json.dumps({"auths": {self.mirror.host: {"auth": "cmVhZGVyOnJlYWRz"}}}))

    @property
    def inventory(self) -> Inventory:
        return Archive.open([self.archive]).inventory

    @property
    def catalog(self) -> str:
        """The name of the CatalogSource."""
        return "index"

    @property
    def trust(self) -> list[str | Path]:
        """The options that give nodes a CA and a credential."""
        return ["--ca", self.folder / "ca.pem", "--cluster-authfile", self.folder / "auth.json"]

    def run(self, command: str, *more: str | Path, yes: bool = True) -> Result:
        """Run a command that needs archive, mirror and cluster; its result is JSON."""
        place = ["--registry", f"{self.mirror.host}/ocp", "--insecure", self.mirror.host, "--kubeconfig", self.kubeconfig]
        agreed = ["--yes"] if yes else []
        return run("hub-import", command, self.archive, *place, "--format", "json", *agreed, *more)

    def ask(self, command: str, *more: str | Path) -> Result:
        """Run a command that needs the cluster alone."""
        return run("hub-import", command, "--kubeconfig", self.kubeconfig, "--format", "json", *more)

    def text(self, command: str, *more: str | Path) -> Result:
        """Run a command whose result is for people."""
        return run("hub-import", command, "--kubeconfig", self.kubeconfig, *more)

    def state(self) -> Mapping[str, Any]:
        """Return all that users can set of every object, but for pods, and what controllers write."""
        left_out = {"Pod", "Event", "MachineConfig", "MachineConfigPool"}
        found = {}
        for key in self.cluster.store.all_keys():
            if key.kind.kind not in left_out and not key.name.startswith("hub-import-record"):
                body = self.cluster.store.get(key)
                kept = ("name", "namespace", "labels", "annotations")
                metadata = {name: value for name, value in body["metadata"].items() if name in kept}
                content = {name: value for name, value in body.items() if name not in ("metadata", "status")}
                found[f"{key.namespace}/{key}"] = {**content, "metadata": metadata}
        return found
