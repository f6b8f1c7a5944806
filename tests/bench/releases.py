"""What planning many OpenShift releases costs: 183 components each, of which a z-stream changes a few.

Update service, signature store and registry are the fakes of the tests, in this process; what is measured is the command.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.bench.meter import BIN, Measured, measure
from tests.bench.rows import Row
from tests.fakes import releases
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import ReleaseHosts

CHANNEL = "stable-4.12"
RELEASES = 30
_CHANGED = 40  # components that a z-stream has anew; no public figure was found


@dataclass(frozen=True)
class Planned:
    """One plan: how many releases and images it has, and what it took. `requests` of the registry, by method and what for."""

    releases: int
    images: int
    took: Measured
    requests: Counter[str]


def rows(home: Path) -> list[Row]:
    """Return what a further release costs beside its bars; files are written into `home`."""
    one, many = plans(home, (1, RELEASES))
    further = many.releases - one.releases
    each = (many.took.cpu - one.took.cpu) / further
    asked = ", ".join(f"{count} {what}" for what, count in sorted(many.requests.items()))
    return [
        Row(
            f"`plan` of {RELEASES} releases, CPU of a further release",
            each,
            0.5,
            "s",
            f"{many.took.cpu:.1f} s for {many.images} images of {RELEASES} releases, {one.took.cpu:.1f} s for {one.images} of one",
        ),
        Row("… peak memory", many.took.peak / 1024**2, 200, "MiB", f"{one.took.peak / 1024**2:.0f} MiB for one release"),
        Row(
            "… requests of the registry",
            sum(many.requests.values()) / many.images,
            3,
            "for an image",
            asked,
        ),
    ]


def plans(home: Path, counts: tuple[int, ...]) -> list[Planned]:
    """Return the plans of so many releases, smallest first."""
    with FakeRegistry() as registry, ReleaseHosts() as hosts:
        options = _published(home, registry, hosts, max(counts))
        found = []
        for count in sorted(counts):
            registry.requests.clear()
            command = (BIN / "hub-export", "plan", "--release", f"{CHANNEL}@4.12.0..4.12.{count - 1}", *options)
            took = measure(command)
            planned = json.loads(took.output[took.output.index("{\n") :])
            asked = Counter(f"{each.method} {_kind(each.path)}" for each in registry.requests)
            found.append(Planned(planned["totals"]["releases"], planned["totals"]["images"], took, asked))
        return found


def _published(home: Path, registry: FakeRegistry, hosts: ReleaseHosts, count: int) -> list[str | Path]:
    """Publish releases, each with some other components than the one before; return the options for them."""
    key, names, before = signer(), releases.all_names(), None
    for number in range(count):
        changed = [names[(number * _CHANGED + place) % len(names)] for place in range(_CHANGED)]
        made = releases.release(f"4.12.{number}", before=before, changed=changed)
        made.put(registry)
        hosts.add(made, CHANNEL, signer=key)
        if before:
            hosts.connect(before, made)
        before = made
    assert before
    (home / "key.asc").write_bytes(armored(key.key()))
    (home / "registries.conf").write_text(releases.registries_conf(registry.host, before))
    stores = [part for store in hosts.stores for part in ("--signature-store", store)]
    asked = ["--update-service", hosts.update_service, "--release-key", home / "key.asc", *stores]
    return ["--registries-conf", home / "registries.conf", *asked, "--progress", "none", "--format", "json"]


def _kind(path: str) -> str:
    return next((name for name in ("manifests", "blobs", "tags", "referrers") if f"/{name}/" in path), "/v2/")
