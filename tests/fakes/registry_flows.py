"""What a site does with its mirror, one flow after another: archives for it, and the commands on one scripted registry.

`Mirror.run_all` gives what each flow did, in the words of the table in docs/reference/registry.md.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.oci.image import hex_of
from tests.fakes import sites
from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import Result, run
from tests.fakes.factories import image, index
from tests.fakes.registry import PASSWORD, USER, FakeRegistry, Repository
from tests.fakes.registry_product import PREFIX, Product

FLOWS = (
    "login",
    "probe",
    "push",
    "push again",
    "interrupted push",
    "multi-arch",
    "signatures",
    "receipt, increment",
    "catalog tag",
    "heal",
)
BASE = noise("base", 4_000)
APP, NEXT = image([BASE, noise("app", 900)], docker=True), image([BASE, noise("next", 900)], docker=True)
MANY = index([image([noise(each, 700)], platform=each) for each in ("linux/amd64", "linux/arm64")])
COSIGN_TAG = f"sha256-{hex_of(MANY.digest)}.sig"
COSIGN = image([noise("cosign", 300)])
SBOM = image([noise("sbom", 300)], subject=MANY.descriptor, artifact_type="application/spdx+json")
DEEP = "deep/down/many"
FALLBACK = f"sha256-{hex_of(MANY.digest)}"


@dataclass(frozen=True)
class World:
    """Two archives, of which the second leaves out what `receipt` confirms, and a cluster to probe."""

    first: Path
    second: Path
    receipt: dict[str, Any]
    kubeconfig: Path
    catalogs: tuple[str, str]  # digests of the catalog, as each archive has it


def world(folder: Path, cluster: FakeCluster) -> World:
    """Make the archives; the receipt comes from a registry without a profile."""
    first, second = folder / "first", folder / "second"
    with FakeRegistry() as source, FakeRegistry() as mirror:
        sites.add_catalog(source)
        source.add_image("org/app", APP, tag="v1")
        source.add_image("org/app", NEXT, tag="v2")
        source.add_image(DEEP, MANY, tag="v1")
        source.add_image(DEEP, COSIGN, tag=COSIGN_TAG)
        source.add_image(DEEP, SBOM)
        _create(source, first, "alpha", "org/app:v1", f"{DEEP}:v1")
        place = ("--registry", f"{mirror.host}/{PREFIX}", "--insecure", mirror.host)
        done = run("hub-import", "push", first, *place)
        assert done.status == 0, done.stdout + done.stderr
        done = run("hub-import", "receipt", first, *place, "--output", folder / "receipt.json")
        assert done.status == 0, done.stderr
        _create(source, second, "beta", "org/app:v2", more=("--package", "alpha", "--receipt", folder / "receipt.json"))
    receipt = json.loads((folder / "receipt.json").read_bytes())
    return World(first, second, receipt, cluster.kubeconfig(folder), (_catalog(first), _catalog(second)))


def _create(source: FakeRegistry, output: Path, package: str, *images: str, more: tuple[str | Path, ...] = ()) -> None:
    chosen = [part for name in images for part in ("--image", f"{source.host}/{name}")]
    done = run(
        *(
            "hub-export",
            "create",
            "--catalog",
            f"{source.host}/{sites.CATALOG}:v1",
            "--package",
            package,
            "--skip-dependencies",
        ),
        *(*chosen, "--insecure", source.host, "--output", output, *more),
    )
    assert done.status == 0, done.stdout + done.stderr


def _catalog(archive: Path) -> str:
    (catalog,) = json.loads((archive / "inventory.json").read_bytes())["catalogs"]
    return str(catalog["image"])


@dataclass
class Mirror:
    """One product as mirror, and the account that the documentation asks for."""

    product: Product
    registry: FakeRegistry
    world: World
    folder: Path
    did: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str | Path, ...]:
        login = self.folder / "auth.json"
        return ("--insecure", self.registry.host, "--authfile", login, "--format", "json")

    def run(self, command: str, archive: Path, *more: str | Path, prefix: str = "", **options: Any) -> Result:
        """Run a command that needs an archive and the mirror."""
        place = ("--registry", f"{self.registry.host}/{prefix or self.product.prefix}", *self.place, *self.product.options)
        return run("hub-import", command, archive, *place, *more, **options)

    def repository(self, name: str, prefix: str = "") -> Repository:
        """Return the repository of the mirror for one of the source, which `--max-path-components` joins with dashes."""
        components = f"{prefix or self.product.prefix}/{name}".split("/")
        kept = int(self.product.options[1]) if self.product.options else len(components)
        return self.registry.repositories["/".join([*components[: kept - 1], "-".join(components[kept - 1 :])])]

    def log_in(self, user: str = USER) -> Result:
        login = ("--username", user, "--password-stdin", "--authfile", self.folder / "auth.json", "--insecure")
        return run("hub-import", "login", f"{self.registry.host}/{PREFIX}", *login, stdin=PASSWORD)

    def run_all(self) -> dict[str, str]:
        """Run every flow in the order of a site's life; return what each did."""
        for flow in FLOWS:
            step = getattr(self, "_" + flow.replace(" ", "_").replace(",", "").replace("-", "_"))
            self.did[flow] = step()
        return self.did

    def arrived(self, done: Result) -> None:
        """Check a push of the first archive. An artifact of a type that the product does not know is a warning, and status 3."""
        refuses = self.product.profile.artifact_types is not None
        assert done.status == (3 if refuses else 0), done.stdout + done.stderr
        assert {each["severity"] for each in done.json["problems"]} == ({"warning"} if refuses else set())

    def holds(self, prefix: str = "") -> None:
        """Check that the first archive has arrived below `prefix`."""
        many, app = self.repository(DEEP, prefix), self.repository("org/app", prefix)
        assert app.tags["v1"] == APP.digest
        assert set(APP.blobs) <= set(app.blobs)
        assert many.tags["v1"] == MANY.digest

    def _login(self) -> str:
        done = self.log_in()
        assert done.status == 0, done.stderr
        return "yes"

    def _probe(self) -> str:
        place = ("--registry", f"{self.registry.host}/{self.product.prefix}", "--kubeconfig", self.world.kubeconfig)
        done = run("hub-import", "probe", *place, *self.place)
        assert done.status == 0, done.stderr
        said, profile = done.json["registry"], self.product.profile
        deep = profile.depth is None or profile.depth >= len([*self.product.prefix.split("/"), "hub-import-probe", *"abc"])
        # A repository that the account may not have says nothing about others.
        assert said["nestedPaths"] is (deep or (None if profile.too_deep.status == 401 else False)), done.json
        assert said["sparseIndexes"] is profile.sparse, done.json
        assert said["referrers"] is profile.referrers, done.json
        names = {"nestedPaths": "deep paths", "sparseIndexes": "sparse indexes"}
        return ", ".join(name for key, name in names.items() if said[key]) or "flat paths"

    def _push(self) -> str:
        self.arrived(self.run("push", self.world.first))
        self.holds()
        return "yes" + (", in chunks" if self.registry.log("PATCH") else "")

    def _push_again(self) -> str:
        self.registry.requests.clear()
        again = self.run("push", self.world.first)
        self.arrived(again)
        if self.product.profile.artifact_types is not None:
            assert (again.json["uploaded"], again.json["failed"]) == (0, 1), "the artifact is tried again"
            return "no blobs"
        token = self.product.profile.token_path
        asked = [each for each in self.registry.log() if each.path != "/v2/" and not each.path.endswith(token)]
        assert {request.method for request in asked} == {"HEAD"}, [(each.method, each.path) for each in asked]
        assert all("/manifests/" in request.path for request in asked)
        return "HEAD of manifests only"

    def _interrupted_push(self) -> str:
        """Kill the command at its fourth upload, below another prefix where nothing is yet; run it again."""
        self.registry.requests.clear()
        processes: list[int] = []
        self.registry.fault("PUT", "/blobs/", skip=3, drop=True, action=lambda: os.kill(processes[0], signal.SIGKILL))
        # One thread: an upload begins when the one before it has been answered, however busy the machine is.
        killed = self.run("push", self.world.first, "--jobs", "1", prefix=self.product.other_prefix, started=processes.append)
        assert killed.status == -signal.SIGKILL, killed.stdout + killed.stderr
        arrived = self._uploaded()
        assert arrived, "some uploads were answered"
        self.registry.requests.clear()
        self.arrived(self.run("push", self.world.first, prefix=self.product.other_prefix))
        self.holds(self.product.other_prefix)
        assert not arrived & self._uploaded(), "what had arrived is not sent again"
        return "continues"

    def _uploaded(self) -> set[tuple[str, str]]:
        """Return repository and digest of the blobs that were sent and taken."""
        puts = [each for each in self.registry.log("PUT", "/blobs/uploads/") if each.status == 201]
        return {(each.path.partition("/blobs/")[0], each.query["digest"]) for each in puts}

    def _multi_arch(self) -> str:
        repository = self.repository(DEEP)
        assert {child.digest for child in MANY.manifests} <= set(repository.manifests)
        assert all(set(child.blobs) <= set(repository.blobs) for child in MANY.manifests)
        return "yes"

    def _signatures(self) -> str:
        repository = self.repository(DEEP)
        assert repository.tags[COSIGN_TAG] == COSIGN.digest
        if self.product.profile.artifact_types is not None:
            assert SBOM.digest not in repository.manifests, "the artifact is a warning, and the rest arrives"
            return "tags"
        assert SBOM.digest in repository.manifests
        if FALLBACK not in repository.tags:
            assert self.product.profile.referrers, "what refers to an image can be found"
            return "tags, API"
        listed = json.loads(repository.manifests[repository.tags[FALLBACK]][1])
        assert [each["digest"] for each in listed["manifests"]] == [SBOM.digest]
        return "tags, API and fallback tag" if self.product.profile.referrers else "tags, fallback tag"

    def _receipt_increment(self) -> str:
        file = self.folder / "receipt.json"
        taken = self.run("receipt", self.world.first, "--output", file)
        assert taken.status == 0, taken.stderr
        receipt = json.loads(file.read_bytes())
        refuses = self.product.profile.artifact_types is not None  # so the first archive is not there as a whole
        wanted = {**self.world.receipt, **({"inventories": []} if refuses else {})}
        assert all(receipt[key] == wanted[key] for key in ("inventories", "blobs")), receipt
        self.registry.requests.clear()
        done = self.run("push", self.world.second)
        assert done.status == 0, done.stdout + done.stderr
        assert self.repository("org/app").tags["v2"] == NEXT.digest
        assert set(NEXT.blobs) <= set(self.repository("org/app").blobs)
        return "blobs only" if refuses else "yes"

    def _catalog_tag(self) -> str:
        before, after = self.world.catalogs
        repository = self.repository(sites.CATALOG)
        assert before in repository.manifests
        moved = [tag for tag, digest in repository.tags.items() if digest == after and not tag.startswith("hub-")]
        assert moved, repository.tags
        assert f"hub-{before.replace(':', '-')}" in repository.tags, "the earlier catalog stays"
        return "moves"

    def _heal(self) -> str:
        lost = next(iter(APP.blobs))
        del self.repository("org/app").blobs[lost]
        self.arrived(self.run("push", self.world.first, "--heal"))
        assert lost in self.repository("org/app").blobs
        return "yes"
