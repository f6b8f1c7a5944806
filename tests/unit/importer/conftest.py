"""A cluster per test, and a client that talks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from importer.cluster.api.client import ClusterClient, connect
from tests.fakes.cluster import FakeCluster

Start = Callable[..., tuple[FakeCluster, ClusterClient]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of a release, and connect to it."""
    with ExitStack() as stack:

        def run(release: str | None = "4.18", *, tls: bool = False, **more: Any) -> tuple[FakeCluster, ClusterClient]:
            cluster = stack.enter_context(FakeCluster(release, tls=tls, **more))
            return cluster, stack.enter_context(connect(cluster.kubeconfig(tmp_path), None))

        yield run
