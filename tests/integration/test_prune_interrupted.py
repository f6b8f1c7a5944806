"""Prune that is killed, or stopped by Ctrl-C, at each request that changes the mirror: run again it ends the same, on each product."""

from __future__ import annotations

import copy
import os
import queue
import signal

import pytest

from common.errors import ExitCode
from importer.prune import plan as plans
from tests.fakes import registry_profiles, registry_profiles_closed
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.pruned_mirrors import NEW, OLD, SHARED, Site, dated, root
from tests.samples import more

pytestmark = pytest.mark.integration
PRODUCTS = {each.name: each for each in (*registry_profiles.PROFILES, *registry_profiles_closed.PROFILES)}
WRITES = ("POST", "PUT", "PATCH", "DELETE")
FOREVER = 1_000_000
EXTRA = noise("extra", 900)


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    """Return three archives. Of the first, a person has tagged one image: its record is replaced, and not removed."""
    folder = tmp_path_factory.mktemp("weeks")
    shared = {"quay.io/org/shared:v1": [SHARED]}
    return [
        dated(folder, 1, {"quay.io/org/app:v1": [SHARED, OLD], "quay.io/org/by-hand:v1": [EXTRA], **shared}),
        dated(folder, 8, {"quay.io/org/app:v2": [SHARED, NEW], **shared}),
        dated(folder, 15, {"quay.io/org/app:v3": [SHARED], **shared}),
    ]


class Interrupted:
    """A mirror whose product counts the requests that change it, and sends a signal to the command at one of them."""

    def __init__(self, site, plan):
        self.site, self.plan, self.count = site, plan, 0
        self.before = copy.deepcopy(site.registry.repositories)
        self._at, self._signal, self._process = 0, signal.SIGKILL, queue.Queue()

    def run(self, at=0, number=signal.SIGKILL):
        """Run the command from the state before the first run; at a request of a number it gets a signal."""
        registry = self.site.registry
        registry.drop_faults()
        registry.repositories.clear()
        registry.repositories.update(copy.deepcopy(self.before))
        self.count, self._at, self._signal, self._process = 0, at, number, queue.Queue()
        for method in WRITES:
            registry.fault(method, "/v2/", times=FOREVER, action=self._counted)
        where = ("--no-cluster", "--insecure", registry.host, "--format", "json", "--yes")
        done = run("hub-import", "prune", "--plan", self.plan, *where, env=self._environ, started=self._process.put)
        registry.drop_faults()
        return done

    @property
    def _environ(self):
        return {name: value for name, value in self.site.settings.environ.items() if name != "HOME"}

    def _counted(self):
        # The request is carried out in any case, as one that was sent before the end.
        self.count += 1
        if self.count == self._at:
            os.kill(self._process.get(timeout=60), self._signal)

    @property
    def state(self):
        """What is stored: manifests by repository, and the archives that the mirror remembers, with what was pruned of them."""
        return self.site.stored, {digest: bool(one.pruned) for digest, one in self.site.archives.items()}


# One of each kind of interruption; a product's answers to DELETE and to tags are in its profile.
KINDS = [("Harbor", signal.SIGKILL), ("Quay", signal.SIGINT)]
EVERY = [(name, number) for name in sorted(PRODUCTS) for number in (signal.SIGKILL, signal.SIGINT)]


@pytest.mark.parametrize("case", [*KINDS, *more(each for each in EVERY if each not in KINDS)], ids=str)
def test_interrupted_at_each_step_and_run_again_it_ends_the_same(archives, tmp_path, case):
    name, number = case
    product = PRODUCTS[name]
    with product.registry() as registry:
        site = Site(registry, tmp_path, product)
        site.push(*archives)
        registry.deletes = True  # as its administrator switches it on
        by_hand = site.repository("org/by-hand")
        by_hand.tags["by-hand"] = root(archives[0], 1)
        (tmp_path / "plan.json").write_bytes(plans.encode(plan := site.plan(keep_last=1)))
        prune = Interrupted(site, tmp_path / "plan.json")
        whole = prune.run()
        assert whole.status == ExitCode.DONE, whole.stderr
        steps, goal = prune.count, prune.state
        assert goal[1] == {archives[0].digest: True, archives[2].digest: False}
        assert steps >= len(plan.deletions) + len(plan.records) + 2
        # Of the kinds that `make test` has, a few steps.
        for step in range(1, steps + 1, 4 if case in KINDS else 1):
            ended = prune.run(step, number)
            assert ended.status == (-number if number == signal.SIGKILL else ExitCode.INTERRUPTED), (step, ended)
            stored, remembered = prune.state
            assert all(stored[each] >= kept for each, kept in goal[0].items()), step
            # The record of an archive goes last: until then the next run knows what is needless.
            gone = {one.digest for one in plan.deletions if one.digest not in stored.get(one.repository, ())}
            assert archives[1].digest in remembered or root(archives[1]) in gone, step
            again = site.run(plan)
            assert (again.exit_code, again.refused) == (ExitCode.DONE, []), step
            assert prune.state == goal, step
