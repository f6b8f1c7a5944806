"""The wait: its checks, its display, and its error at the timeout."""

from __future__ import annotations

import pytest

from common.errors import ClusterError
from importer.cluster.api.discovery import release_of, running_version
from importer.cluster.apply import apply
from importer.cluster.readiness.readiness import Check, ExpectedCatalog, offers
from importer.cluster.readiness.wait import Lines, _Watch, same_apart_from_time, wait_healthy
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import Fault
from tests.fakes.wanted import DIGEST, IMAGE, MARKETPLACE, catalog_source, cluster_catalog, mirror_rules, package

PACKAGES = (package("alpha"), package("beta"))
NAME = "hub-redhat-operators"


class Waiting:
    """A cluster that a catalog was applied to; `run` waits for it."""

    def __init__(self, start, release="4.18", offered=PACKAGES, resources=None, namespace=MARKETPLACE) -> None:
        self.cluster, self.client = start(release)
        self.release = release_of(running_version(self.client))
        self.namespace = namespace
        if offered is not None:
            self.cluster.catalog_contents[DIGEST] = offered
        wanted = [catalog_source(namespace=namespace)] if resources is None else resources
        apply(self.client, wanted, release=self.release, dry_run=False, tell=lambda _line: None)
        self.time = FakeClock()
        self.rules = ()
        self.lines: list[str] = []

    def run(self, *, packages=PACKAGES, image=IMAGE, timeout_s=60.0):
        wait_healthy(
            self.client,
            [ExpectedCatalog(NAME, self.namespace, image, offers(packages), self.rules)],
            release=self.release,
            timeout_s=timeout_s,
            display=Lines(self.lines.append),
            clock=self.time.clock.monotonic_s,
            sleep=self.time.clock.sleep,
        )

    def fails(self, **how) -> str:
        with pytest.raises(ClusterError) as caught:
            self.run(**how)
        assert caught.value.exit_code == 6
        return caught.value.message


def test_each_change_of_state_is_shown_once_with_the_time_before(start):
    waiting = Waiting(start)
    waiting.cluster.ready_reads = 1
    waiting.run()
    assert waiting.lines == [
        "0:00 MachineConfigPool master: 3 of 3 nodes updated",
        "0:00 MachineConfigPool worker: 3 of 3 nodes updated",
        f"0:00 CatalogSource {NAME}: CONNECTING",
        f"0:00 pod of {NAME}: ContainerCreating",
        f"0:00 packages of {NAME}: 0 of 2 listed; missing alpha, beta",
        f"0:01 CatalogSource {NAME}: READY (before, for 0:01: CONNECTING)",
        f"0:01 pod of {NAME}: ready (before, for 0:01: ContainerCreating)",
        f"0:01 packages of {NAME}: 2 of 2 listed (before, for 0:01: 0 of 2 listed; missing alpha, beta)",
    ]


def test_all_checks_have_to_be_ready_in_two_reads(start):
    waiting = Waiting(start)
    waiting.run()
    settled = waiting.time.slept[:]
    waiting.time.slept.clear()
    waiting.run()
    assert len(settled) >= 1
    assert waiting.time.slept == [1.0]


def test_plain_kubernetes_has_no_pools(start):
    waiting = Waiting(start, None, resources=[catalog_source(namespace="olm")], namespace="olm")
    waiting.run()
    assert not [request for request in waiting.cluster.log if "machineconfigpools" in request.path]


def test_a_rollout_is_waited_for(start):
    waiting = Waiting(start, resources=[mirror_rules(), catalog_source()])
    waiting.rules = (
        ("registry.redhat.io/ubi", "mirror.example:5000/ubi"),
        ("registry.redhat.io/web", "mirror.example:5000/web"),
    )
    waiting.cluster.mco_reads, waiting.cluster.pool_reads = 3, 2
    waiting.cluster.simulator.machines.rules_changed()
    waiting.run()
    told = [line for line in waiting.lines if "MachineConfigPool worker" in line]
    assert [line.partition(" (")[0] for line in told] == [
        "0:00 MachineConfigPool worker: 3 of 3 nodes updated, without 2 of the mirror rules",
        "0:02 MachineConfigPool worker: 1 of 3 nodes updated",
        "0:04 MachineConfigPool worker: 3 of 3 nodes updated",
    ]


def test_what_does_not_change_is_not_read_in_each_poll_of_a_rollout(start):
    """A whole catalog: some MB of PackageManifests, and a MachineConfig of a MB for each pool, in polls of 5 s for an hour."""
    waiting = Waiting(start, resources=[mirror_rules(), catalog_source()])
    waiting.rules = (("registry.redhat.io/ubi", "mirror.example:5000/ubi"),)
    waiting.cluster.mco_reads, waiting.cluster.pool_reads = 2, 30
    waiting.cluster.simulator.machines.rules_changed()
    before = len(waiting.cluster.log)
    waiting.run(timeout_s=600)
    asked = [request.path for request in waiting.cluster.log[before:]]
    polls = sum("machineconfigpools" in path for path in asked)
    assert polls > 30
    assert len([path for path in asked if "/machineconfigs/" in path]) == 4  # two pools, before the rollout and in it
    listed = [path for path in asked if "packagemanifests" in path]
    assert len(listed) <= 7 < polls // 4 + 1  # once a minute, and while the pools are ready
    # The last two polls read them: a catalog may have changed meanwhile.
    last = [path for path in asked if "machineconfigpools" in path or "packagemanifests" in path][-4:]
    assert ["packagemanifests" in path for path in last] == [False, True, False, True]


def test_a_pool_whose_configuration_cannot_be_parsed_is_ready(start):
    waiting = Waiting(start)
    waiting.rules = (("registry.redhat.io/ubi", "mirror.example:5000/ubi"),)
    for pool in ("master", "worker"):
        config = {"config": {"storage": {"files": [{"path": "/etc/containers/registries.conf", "contents": {"source": "x"}}]}}}
        waiting.cluster.put({"kind": "MachineConfig", "metadata": {"name": f"rendered-{pool}-1"}, "spec": config})
    waiting.run()


def test_a_state_without_change_is_repeated_after_a_minute(start):
    waiting = Waiting(start, offered=PACKAGES[:1])
    waiting.fails(timeout_s=130)
    again = [line for line in waiting.lines if " still " in line]
    assert again[0] == (
        f"1:05 still packages of {NAME}, for 1:03: 1 of 2 listed; missing beta; packageserver lists them once the catalog answers"
    )


def test_a_missing_package_is_named_at_the_timeout(start):
    waiting = Waiting(start, offered=PACKAGES[:1])
    message = waiting.fails()
    assert message.startswith("the cluster is not healthy after 1:00:")
    assert f"packages of {NAME}: 1 of 2 listed; missing beta, since 0:02" in message
    assert "CatalogSource" not in message
    assert sum(waiting.time.slept) == 60


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ([package("alpha"), package("beta"), package("gamma")], "2 of 2 listed; not in the archive: gamma"),
        ([package("alpha"), package("beta", "beta.v0.9.0")], "beta has beta.v0.9.0 as head of stable, wanted beta.v1.0.0"),
        pytest.param(
            [package("alpha"), package("beta", default_channel="fast")],
            "beta has default channel fast, wanted stable",
            marks=pytest.mark.more,
        ),
        ([], "0 of 2 listed; missing alpha, beta"),
    ],
)
def test_each_difference_of_packages_is_reported(start, offered, said):
    assert said in Waiting(start, offered=offered).fails()


def test_other_channels_are_reported(start):
    message = Waiting(start).fails(packages=(PACKAGES[0], renamed("beta", "fast")))
    assert "beta has channels stable, wanted fast" in message


def test_many_missing_packages_are_counted(start):
    wanted = tuple(package(f"operator-{n:03}") for n in range(200))
    assert "missing operator-000, operator-001, operator-002, operator-003, operator-004 and 195 more" in Waiting(start).fails(
        packages=wanted
    )


def test_a_catalog_that_never_connects_is_reported_with_the_state_of_its_pod(start):
    waiting = Waiting(start, offered=None)
    image = {"name": "registry-server", "image": IMAGE}
    trouble = {"reason": "ImagePullBackOff", "message": "x509: certificate signed\n by unknown authority"}
    waiting.cluster.put(
        {
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": MARKETPLACE, "labels": {"olm.catalogSource": NAME}},
            "spec": {"containers": [image]},
            "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": trouble}}]},
        }
    )
    message = waiting.fails()
    assert f"CatalogSource {NAME}: no connection yet, since 0:00" in message
    assert f"pod of {NAME}: ImagePullBackOff: x509: certificate signed by unknown authority" in message


def test_a_crash_is_reported_by_its_last_termination(start):
    waiting = Waiting(start, offered=None)
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    waiting.cluster.put(
        {
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": MARKETPLACE, "labels": {"olm.catalogSource": NAME}},
            "spec": {"initContainers": [{"name": "extract-content", "image": IMAGE}], "containers": []},
            "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}, "lastState": ended}]},
        }
    )
    assert f"pod of {NAME}: OOMKilled" in waiting.fails()


def test_a_pod_with_the_former_image_does_not_count(start):
    other = IMAGE.replace("ab", "cd")
    waiting = Waiting(start, resources=[catalog_source(image=IMAGE)])
    message = waiting.fails(image=other)
    assert f"CatalogSource {NAME}: serves another image: {IMAGE}" in message
    assert f"pod of {NAME}: none with the image {other}" in message


def test_a_missing_catalog_source_is_reported(start):
    message = Waiting(start, resources=[]).fails()
    assert f"CatalogSource {NAME}: does not exist" in message


def test_a_cluster_catalog_has_to_serve_the_image(start):
    waiting = Waiting(start, resources=[catalog_source(), cluster_catalog()])
    waiting.run()
    assert f"0:00 ClusterCatalog {NAME}: serving" in waiting.lines


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, "not serving yet"),
        (
            {"conditions": [{"type": "Progressing", "status": "True", "reason": "Retrying", "message": "no such host"}]},
            "Retrying: no such host",
        ),
        (
            {
                "conditions": [{"type": "Serving", "status": "True"}],
                "resolvedSource": {"image": {"ref": "mirror.example:5000/x@sha256:old"}},
            },
            "still serving mirror.example:5000/x@sha256:old",
        ),
    ],
)
def test_a_cluster_catalog_that_does_not_serve_is_reported(start, status, said):
    waiting = Waiting(start, resources=[catalog_source(), cluster_catalog()])
    waiting.cluster.put({"kind": "ClusterCatalog", "metadata": {"name": NAME}, "status": status})
    assert f"ClusterCatalog {NAME}: {said}" in waiting.fails()


def test_a_paused_pool_is_not_waited_for(start):
    waiting = Waiting(start, resources=[mirror_rules(), catalog_source()])
    waiting.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}})
    with pytest.raises(ClusterError, match="MachineConfigPool worker is paused, with 1 of 3 nodes") as caught:
        waiting.run()
    assert "oc patch machineconfigpool worker" in caught.value.hint
    assert waiting.time.slept == []


def test_a_paused_pool_that_is_up_to_date_is_fine(start):
    waiting = Waiting(start)
    waiting.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": True}})
    waiting.cluster.simulator.read("MachineConfigPool")
    waiting.run()


def test_a_degraded_pool_says_why(start):
    waiting = Waiting(start)
    waiting.cluster.simulator.read = lambda _kind: None
    made = waiting.cluster.get("MachineConfigPool", "worker")
    conditions = [
        {"type": "Updated", "status": "False"},
        {"type": "Degraded", "status": "True", "message": "node-2 is wrong", "lastTransitionTime": None},
    ]
    status = {**made["status"], "conditions": conditions, "updatedMachineCount": 2}
    waiting.cluster.put({"kind": "MachineConfigPool", "metadata": {"name": "worker"}, "status": status})
    assert "MachineConfigPool worker: 2 of 3 nodes updated, degraded: node-2 is wrong" in waiting.fails()


def test_an_api_server_that_restarts_is_waited_for(start):
    waiting = Waiting(start)
    waiting.cluster.faults += [Fault("GET", "catalogsources", times=5), Fault("GET", "packagemanifests", status=503, times=6)]
    waiting.run()
    assert any(f"0:00 CatalogSource {NAME}: cannot reach http://127.0.0.1" in line for line in waiting.lines)
    assert any("cannot list packagemanifests now: HTTP 503" in line for line in waiting.lines)


def test_a_missing_permission_ends_the_wait(start):
    waiting = Waiting(start)
    waiting.cluster.forbidden.add(("list", "packagemanifests"))
    with pytest.raises(ClusterError, match=r"not allowed to list packagemanifests\.packages\.operators\.coreos\.com"):
        waiting.run()
    assert waiting.time.slept == []


def renamed(name: str, channel: str):
    import msgspec

    made = package(name)
    return msgspec.structs.replace(made, channels=(msgspec.structs.replace(made.channels[0], name=channel),))


def pod(evidence, state="CrashLoopBackOff"):
    return Check("pod of a", ok=False, state=state, evidence=evidence, next_step="n")


REPEATED = [
    ("2026-11-29T03:04:05.123456Z fatal: no cache", "2026-11-29T03:04:20.654321Z fatal: no cache"),
    ("back-off 20s restarting failed container=registry-server", "back-off 1m20s restarting failed container=registry-server"),
    ("E1129 03:04:05.123456 1 main.go:12] oh", "E1129 03:05:06.1 1 main.go:12] oh"),
    ('time="2026-11-29T03:04:05Z" level=fatal msg=x', 'time="2026-11-29T03:04:35+01:00" level=fatal msg=x'),
    ("read tcp 10.0.0.1:53422->172.30.0.10:53: i/o timeout", "read tcp 10.0.0.1:41022->172.30.0.10:53: i/o timeout"),
    ("2026/11/29 03:04:05 listen failed", "2026/11/29 03:14:05 listen failed"),
]


@pytest.mark.parametrize(("one", "other"), REPEATED)
def test_a_message_that_differs_in_its_times_alone_is_the_same(one, other):
    assert same_apart_from_time(one, other)
    assert not same_apart_from_time(one, other + " of node b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 of 3 nodes", "2 of 3 nodes"),
        ("v4.18.3", "v4.18.4"),
        ("code 137", "code 1"),
        ("tcp 10.0.0.1:5000: refused", "tcp 10.0.0.1:5001: refused"),
    ],
)
def test_other_numbers_count(one, other):
    assert not same_apart_from_time(one, other)


def shown_of(checks):
    """Return the lines of a wait that sees one check after another, 5 seconds apart."""
    time, lines = FakeClock(), []
    watch = _Watch(time.clock.monotonic_s, Lines(lines.append), tuple)
    for check in checks:
        watch.note([check])
        time.advance(5)
    return lines


def test_a_message_of_a_pod_is_written_once():
    assert shown_of([pod(f"2026-11-29T03:04:{second}Z fatal: no cache") for second in range(10, 22)]) == [
        "0:00 pod of a: CrashLoopBackOff: 2026-11-29T03:04:10Z fatal: no cache"
    ]


def test_states_that_take_turns_repeat_no_message():
    """The kubelet goes from ErrImagePull to ImagePullBackOff and back (kubernetes, pkg/kubelet/images/image_manager.go)."""
    turns = [pod("manifest unknown", "ErrImagePull"), pod("Back-off pulling image", "ImagePullBackOff")] * 2
    assert shown_of(turns) == [
        "0:00 pod of a: ErrImagePull: manifest unknown",
        "0:05 pod of a: ImagePullBackOff: Back-off pulling image (before, for 0:05: ErrImagePull)",
        "0:10 pod of a: ErrImagePull (before, for 0:05: ImagePullBackOff)",
        "0:15 pod of a: ImagePullBackOff (before, for 0:05: ErrImagePull)",
    ]


def test_packages_of_the_former_image_that_linger_end_no_wait(start):
    """PackageManifests are those of the former image until package-server loses its connection (pkg/package-server/provider)."""
    waiting = Waiting(start)
    waiting.run()
    other = "sha256:" + "9" * 64
    waiting.cluster.catalog_contents[other] = PACKAGES  # another image with the same packages
    waiting.cluster.lingering_lists, waiting.cluster.ready_reads = 3, 4
    image = IMAGE.replace(DIGEST, other)
    waiting.cluster.put(
        {"kind": "CatalogSource", "metadata": {"name": NAME, "namespace": MARKETPLACE}, "spec": {"image": image}}
    )
    waiting.lines.clear()
    waiting.run(image=image)
    packages = [line.partition(": ")[2] for line in waiting.lines if "packages of" in line]
    assert packages[0] == "2 of 2 listed"
    assert [line for line in packages if line.startswith("0 of 2 listed")]
    assert any(("pod of" in line and "none with the image" in line) or "ContainerCreating" in line for line in waiting.lines)
