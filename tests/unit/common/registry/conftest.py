from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from tests.fakes.clock import FakeClock
from tests.fakes.registry import PASSWORD, USER, FakeRegistry

Connect = Callable[..., RegistryClient]


def auth_file(path: Path, host: str, user: str = USER, password: str = PASSWORD) -> Path:
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {host: entry}}))
    return path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def connect(tmp_path: Path, clock: FakeClock) -> Iterator[Connect]:
    """Make clients for a fake registry: trusted as it needs, logged in when `login`, as `push` makes them when `pushes`."""
    with ExitStack() as stack:

        def make(
            registry: FakeRegistry,
            *,
            login: bool = False,
            pushes: bool = False,
            notify: Any = lambda _what: None,
            **changes: Any,
        ) -> RegistryClient:
            settings = RegistrySettings(
                ca=registry.ca if registry.ca.exists() else None,
                insecure=frozenset() if registry.ca.exists() else frozenset({registry.host}),
                authfile=auth_file(tmp_path / "auth.json", registry.host) if login else None,
                environ={"HOME": str(tmp_path)},
                system_root=tmp_path,
            )
            places = frozenset({registry.host} if pushes else ())
            client = RegistryClient(replace(settings, **changes), clock=clock.clock, notify=notify, pushes_to=places)
            return stack.enter_context(client)

        yield make
