"""Random histories on a registry that speaks over sockets: pushes of archives that share images, tags of others, pods.

What somebody needs is decided by a model of its own: the images of the newest archives of each operator's catalog and of each
additional image, every digest that a cluster names, and every tag of others. After a prune that is interrupted at random, and
run again, all of it can be pulled, and a second plan has nothing left to delete.
"""

from __future__ import annotations

import random

import pytest

from common.errors import ExitCode, InterruptedByUserError
from common.mapping import Mirror, map_images
from common.progress import Silent
from common.registry.settings import RegistrySettings
from importer import workflow
from importer.prune.delete import execute
from importer.prune.run import PruneRequest, prune_plan
from importer.settings import ImportSettings
from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.pruned_mirrors import Cut, dated
from tests.fakes.registry import FakeRegistry
from tests.samples import more

PATHS = ("org/app", "org/tool", "deep/down/db")


def archive(chance, folder, number):
    images = {}
    for _ in range(chance.randint(1, 4)):
        layers = [noise(f"layer {chance.randrange(6)}", 300) for _ in range(chance.randint(1, 2))]
        images[f"quay.io/{chance.choice(PATHS)}:v{chance.randrange(3)}"] = list(dict.fromkeys(layers))
    return dated(folder, 1 + number, images, frozenset(name for name in images if chance.random() < 0.3))


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
