"""`--keep-source-host` for sources whose host is no component of a path: the same name in push, serve and render.

Addresses of IPv6 have brackets and colons (openshift/oc#239, containers/image#1004); ADR 0043.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.archives import Content, noise, write
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.serving import serving

pytestmark = pytest.mark.integration
SOURCES = {
    "[::1]:43129/org/app": "ipv6_0-0-0-0-0-0-0-1_43129/org/app",
    "[::1]/org/app": "ipv6_0-0-0-0-0-0-0-1/org/app",
    "[fd00::1]/org/app": "fd00--1/org/app",
    "quay.io.:443/org/app": "fqdn_quay.io_443/org/app",
}


def test_push_serve_and_render_have_one_name_for_each_host(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write(archive, Content({f"{source}:v1": [noise(source, 100)] for source in SOURCES}))
    with FakeRegistry() as registry:
        place = ("--registry", f"{registry.host}/m", "--keep-source-host")
        pushed = run("hub-import", "push", archive, *place, "--insecure", registry.host)
        assert pushed.status == 0, pushed.stdout + pushed.stderr
        assert set(registry.repositories) == {f"m/{path}" for path in (*SOURCES.values(), "hub-airgap-archives")}
        rendered = run("hub-import", "render", archive, *place, "--openshift-release", "4.18", "--output", tmp_path / "out")
        assert rendered.status == 0, rendered.stdout + rendered.stderr
        text = "".join(file.read_text() for file in sorted((tmp_path / "out").rglob("*.yaml")))
        for path in SOURCES.values():
            assert f"{registry.host}/m/{path}" in text or f"{registry.host}/m/{path.removesuffix('/app')}" in text
    with serving(tmp_path / "log", archive, "--keep-source-host") as server, server.client() as client:
        assert set(client.get("_catalog").json()["repositories"]) == set(SOURCES.values())
