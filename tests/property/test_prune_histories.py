"""Random histories on a registry that speaks over sockets: pushes of archives that share images, tags of others, pods.

What somebody needs is decided by a model of its own: the images of the newest archives of each operator's catalog and of each
additional image, every digest that a cluster names, and every tag of others. After a prune that is interrupted at random, and
run again, all of it can be pulled, and a second plan has nothing left to delete.
"""

from __future__ import annotations

import random

import pytest

from common.archive.inventory import ImageKind
from common.errors import ExitCode, InterruptedByUserError
from common.mapping import Mirror, map_images
from common.progress import Silent
from common.registry.settings import RegistrySettings
from importer import workflow
from importer.prune.delete import execute
from importer.prune.run import PruneRequest, prune_plan
from importer.settings import ImportSettings
from tests.fakes.archives import Content, noise, written
from tests.fakes.cluster import FakeCluster
from tests.fakes.registry import FakeRegistry
from tests.samples import more

PATHS = ("org/app", "org/tool", "deep/down/db")


class Dated(Content):
    """Content of an archive of a day; some of its images are additional ones, which no operator needs."""

    day = 1
    additional: frozenset[str] = frozenset()

    def inventory(self, layout):
        made = super().inventory(layout)
        fields = {name: getattr(made, name) for name in made.__struct_fields__}
        images = tuple(map(self._own, made.images))
        return type(made)(**{**fields, "created": f"2026-01-{self.day:02}T12:00:00Z", "images": images})

    def _own(self, image):
        fields = {name: getattr(image, name) for name in image.__struct_fields__}
        if image.source in self.additional:
            fields |= {"kind": ImageKind.ADDITIONAL, "needed_by": ()}
        return type(image)(**fields)


def archive(chance, folder, number):
    images = {}
    for _ in range(chance.randint(1, 4)):
        layers = [noise(f"layer {chance.randrange(6)}", 300) for _ in range(chance.randint(1, 2))]
        images[f"quay.io/{chance.choice(PATHS)}:v{chance.randrange(3)}"] = list(dict.fromkeys(layers))
    content = Dated(images)
    content.day = 1 + number
    content.additional = frozenset(name for name in images if chance.random() < 0.3)
    return written(folder / f"archive{number}", content)


class Cut(Silent):
    """Progress of a run that ends after some steps."""

    def __init__(self, after):
        self.after, self.deleting = after, False

    def begin(self, what, _total, _unit=""):
        self.deleting = what.startswith("deleting")

    def advance(self, _size, _item="", *, moved=True):
        self.after -= self.deleting
        if self.after < 0:
            raise InterruptedByUserError("interrupted")


def needed(archives, mirror, keep_last):
    """Return repository and digest of what the newest archives have, by operator's catalog and by additional image."""
    newest = {}
    for one in archives:
        for image in one.inventory.images:
            group = "catalog" if image.needed_by else image.source.rpartition(":")[0]
            newest.setdefault(group, set()).add(one.inventory.created)
    found = set()
    for one in archives:
        for mapped in map_images(one.inventory, mirror):
            image = mapped.record
            group = "catalog" if image.needed_by else image.source.rpartition(":")[0]
            if one.inventory.created in sorted(newest[group])[-keep_last:]:
                found.add((mapped.repository.repository, mapped.digest))
    return found


@pytest.mark.parametrize("seed", [0, *more(range(1, 60))])
def test_what_somebody_needs_can_be_pulled(tmp_path, seed):
    chance = random.Random(seed)
    with FakeRegistry() as registry, FakeCluster() as cluster:
        mirror = Mirror.parse(f"{registry.host}/ocp")
        settings = RegistrySettings(insecure=frozenset({registry.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path)
        archives = [archive(chance, tmp_path, number) for number in range(chance.randint(2, 5))]
        for one in archives:
            assert workflow.push(one, ImportSettings(mirror, settings), Silent()).record
        everything = sorted(
            (name, digest)
            for name, each in registry.repositories.items()
            for digest in each.manifests
            if "archives" not in name
        )
        wanted = needed(archives, mirror, keep_last := chance.randint(1, 2))
        for number, (name, digest) in enumerate(chance.sample(everything, min(2, len(everything)))):
            if chance.random() < 0.5:
                registry.repositories[name].tags[f"theirs{number}"] = digest
                wanted.add((name, digest))
            else:
                pod = {"containers": [{"name": "main", "image": f"elsewhere.example/x@{digest}"}]}
                cluster.put(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {"name": f"pod{number}", "namespace": "openshift-marketplace"},
                        "spec": pod,
                    }
                )
                wanted |= {(each, one) for each, one in everything if one == digest}
        request = PruneRequest(mirror, settings, 2, keep_last, clusters=(cluster.kubeconfig(tmp_path),))
        plan = prune_plan(request, Silent())
        # What a tag of a kept image leads to by now, of another archive, stays too: the plan may be smaller than the model's.
        assert {(one.repository, one.digest) for one in plan.deletions} <= set(everything) - wanted
        try:
            execute(plan, request, Cut(chance.randint(0, 3)))
        except InterruptedByUserError:
            assert execute(plan, request, Silent()).exit_code is ExitCode.DONE
        for name, digest in wanted:
            assert digest in registry.repositories[name].manifests, f"seed {seed}: {digest} of {name}"
            assert digest in registry.repositories[name].tags.values(), "under a tag, which keeps it"
        left = prune_plan(request, Silent())
        assert left.deletions == ()
        assert len(left.archives) <= len(plan.archives)
