"""Settings of the registry client, frozen, with units. Commands make them; nothing below reads the environment or the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.durations import seconds_of
from common.interruption import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


PATIENCE = "HUB_REGISTRY_PATIENCE"  # the variable
_MAX_OUTAGE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long silence may last, and small answers in all. Blobs have no limit: layers are as large as they are."""

    connect_s: float = 10.0
    read_s: float = 60.0
    stall_s: float = 60.0
    small_s: float = 60.0  # the head of an answer; a body that is no blob, which gets a second more for each 16 KiB
    closing_put_s: float = 300.0  # the registry hashes the whole blob again before it answers
    outage_s: float = 180.0  # the restart of a registry, or the drain of its node, takes one to two minutes


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How registries are found, trusted and asked.

    `authfile` and `registries_conf` None: the places where the container tools look. `insecure`: hosts, as written in
    references, for which plain HTTP and unverified TLS are accepted. `ca`: a PEM file trusted in addition to the system's.
    `jobs`: requests at a time to one host. `environ`: the process's environment.
    """

    authfile: Path | None = None
    registries_conf: Path | None = None
    insecure: frozenset[str] = frozenset()
    ca: Path | None = None
    jobs: int = 6
    environ: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    system_root: Path = Path("/")  # of etc/containers, etc/docker and run/containers; tests have their own

    @property
    def outage_s(self) -> float:
        """How long an outage of a host is waited for: $HUB_REGISTRY_PATIENCE, else as in `timeouts`. Raises UsageError."""
        text = self.environ.get(PATIENCE)
        if not text:
            return self.timeouts.outage_s
        return seconds_of(text, PATIENCE, unit="s", longest_s=_MAX_OUTAGE_S)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, as the client sees it. `monotonic_s` never jumps; `now_s` is the wall clock (seconds since the epoch)."""

    monotonic_s: Callable[[], float] = time.monotonic
    now_s: Callable[[], float] = time.time
    sleep: Callable[[float], None] = pause
