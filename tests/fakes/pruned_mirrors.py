"""A mirror with archives of three weeks, which `prune` is asked about."""

from __future__ import annotations

import base64
import json

from common.errors import InterruptedByUserError
from common.mapping import Mirror
from common.progress import Silent
from common.registry.settings import RegistrySettings
from importer import workflow
from importer.prune.delete import execute
from importer.prune.run import PruneRequest, prune_plan
from importer.records.listing import remembered
from importer.settings import ImportSettings
from tests.fakes.archives import Content, noise, written
from tests.fakes.registry import PASSWORD, USER

PREFIX = "ocp"
SHARED, OLD, NEW, SIDE = (noise(name, 900) for name in ("shared", "old", "new", "side"))


def dated(folder, day, images, additional=frozenset()):
    """Return an archive that was made on a day of January. Its operators are of one catalog: the archives are its versions."""
    content = Content(images, created=f"2026-01-{day:02}T12:00:00Z", additional=additional)
    return written(folder / f"day{day}", content)


def weeks(folder):
    """Return three archives: what the first has is replaced, but for what all share."""
    return [
        dated(folder, 1, {"quay.io/org/app:v1": [SHARED, OLD], "quay.io/org/shared:v1": [SHARED]}),
        dated(folder, 8, {"quay.io/org/app:v2": [SHARED, NEW], "quay.io/org/shared:v1": [SHARED]}),
        dated(folder, 15, {"quay.io/org/app:v3": [SHARED, SIDE], "quay.io/org/shared:v1": [SHARED]}),
    ]


class Site:
    """A mirror with archives, and the requests of a person there."""

    def __init__(self, registry, folder, product=None):
        self.registry, self.product = registry, product  # a fake one, or docker-registry itself
        prefix = product.prefix if product else PREFIX
        options = dict(zip(product.options[::2], product.options[1::2], strict=True)) if product else {}
        depth = options.get("--max-path-components")
        self.mirror = Mirror.parse(f"{registry.host}/{prefix}", max_path_components=int(depth) if depth else None)
        environ = {"HOME": str(folder)}
        if getattr(registry, "auth", None):
            (folder / "auth.json").write_text(
                json.dumps({"auths": {registry.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}})
            )
            environ["REGISTRY_AUTH_FILE"] = str(folder / "auth.json")
        self.settings = RegistrySettings(insecure=frozenset({registry.host}), environ=environ, system_root=folder)

    def push(self, *archives):
        for archive in archives:
            result = workflow.push(archive, ImportSettings(self.mirror, self.settings), Silent())
            assert result.record, result

    def request(self, **changed):
        return PruneRequest(self.mirror, self.settings, jobs=2, **changed)

    def plan(self, **changed):
        return prune_plan(self.request(**changed), Silent())

    def run(self, plan, **changed):
        request = self.request(keep_last=plan.keep_last, named=plan.named, accept_unrecorded=plan.accept_unrecorded, **changed)
        return execute(plan, request, Silent())

    def repository(self, name):
        return self.registry.repositories[self.mirror.at(name).repository]

    @property
    def archives(self):
        return {one.digest: one for one in remembered(str(self.mirror), self.settings).archives}

    @property
    def stored(self):
        records = self.mirror.at("hub-airgap-archives").repository
        found = {name: set(each.manifests) for name, each in self.registry.repositories.items() if name != records}
        return {name: each for name, each in found.items() if each}


def root(archive, number=0):
    return archive.inventory.images[number].digest


class Cut(Silent):
    """Progress of a run that is interrupted after some steps."""

    def __init__(self, after):
        super().__init__()
        self.after, self.deleting = after, False

    def begin(self, what, _total, _unit="", *, kept=False):
        self.deleting = what.startswith("deleting")

    def advance(self, _size, _item="", *, moved=True):
        self.after -= self.deleting
        if self.after < 0:
            raise InterruptedByUserError("interrupted")
