"""Every kind of secret in use at once, with everything logged: none is in any output, log, inventory or volume."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time

import pytest
import zstandard

from common.log import SECRETS
from tests.fakes import secrets
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import BIN, run
from tests.fakes.factories import image
from tests.fakes.registry import PASSWORD, USER, FakeRegistry

pytestmark = pytest.mark.integration


def test_the_search_finds_what_it_looks_for():
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for text in (PASSWORD, f"x {basic} y", "https://fake-user:fake%3Apass%3Aword@host/", secrets.IDENTITY_TOKEN.encode()):
        assert secrets.leaked(text), text
    assert not secrets.leaked("nothing to see")
    assert secrets.leaked("token-1", more=["token-1"])


def entries(kind, host, folder):
    """Return what auth.json holds, and the environment, for each way that a secret comes to us."""
    environ = {}
    if kind == "helper":
        program = folder / "docker-credential-quiet"
        answer = json.dumps({"ServerURL": host, "Username": USER, "Secret": PASSWORD})
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
        environ["PATH"] = f"{folder}:/usr/bin:/bin"
        return {"credHelpers": {host: "quiet"}}, environ
    if kind == "identity":
        return {"auths": {host: {"identitytoken": secrets.IDENTITY_TOKEN}}}, environ
    if kind == "plain":
        return {"auths": {host: {"username": USER, "password": PASSWORD}}}, environ
    return {"auths": {host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}, environ


CASES = [("auth", False), ("identity", True), ("helper", True)]
FURTHER = [("auth", True), ("plain", False), ("plain", True), ("identity", False), ("helper", False)]


@pytest.mark.parametrize(("kind", "trouble"), [*CASES, *(pytest.param(*each, marks=pytest.mark.more) for each in FURTHER)])
def test_nothing_that_commands_show_or_leave_holds_a_secret(tmp_path, kind, trouble):
    with FakeRegistry(tls=True, auth="token", redirect=True) as registry:
        registry.identity_tokens.add(secrets.IDENTITY_TOKEN)
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        content, environ = entries(kind, registry.host, tmp_path)
        (tmp_path / "auth.json").write_text(json.dumps(content))
        if trouble:  # errors quote what registries answer, and a registry may quote what it was sent
            sent = secrets.IDENTITY_TOKEN if kind == "identity" else PASSWORD
            echo = json.dumps({"errors": [{"code": "DENIED", "message": f"you said {sent}"}]}).encode()
            registry.fault("GET", "/manifests/v1", status=503, body=echo, skip=1)
            registry.fault("GET", ".sig", status=403, body=echo)
            registry.fault("PUT", "/manifests/", status=403, body=echo, times=99)
            registry.fault("*", "/token", status=500, body=echo, skip=1)
        shared = ["--ca", registry.ca, "-a", tmp_path / "auth.json", "--log-level", "debug"]
        shown = []
        for number, command in enumerate(
            (
                ["hub-export", "plan", "--image", str(reference)],
                ["hub-export", "create", "--image", str(reference), "--output", tmp_path / "out"],
                ["hub-import", "push", tmp_path / "out", "--registry", f"{registry.host}/mirror"],
            )
        ):
            done = run(*command, *shared, "--log-file", tmp_path / f"{number}.log", env=environ)
            assert done.status == (5 if trouble and number == 2 else 0), done.stderr
            shown.append(done.stdout + done.stderr)
        tokens = list(registry.tokens)
        assert tokens
        logs = [path.read_text() for path in sorted(tmp_path.glob("*.log"))]
        assert all("GET https://" in log for log in logs), "everything was logged"
        volumes = [_content(path) for path in (tmp_path / "out").glob("volume-*")]
        left = [path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".zst"]
        assert volumes
        assert left
        signed = [each.query["sig"] for each in registry.elsewhere]
        assert signed
        for text in (*shown, *logs, *volumes, *left):
            assert secrets.leaked(text, more=[*tokens, *signed]) == []


def _content(path):
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        return stream.read()


def test_the_clusters_token_and_the_pull_secret_stay_hidden(tmp_path):
    with FakeRegistry() as registry, FakeCluster("4.18") as cluster:
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        insecure = ["--insecure", registry.host]
        assert run("hub-export", "create", "--image", str(reference), *insecure, "--output", tmp_path / "out").status == 0
        (tmp_path / "node.json").write_text(
            json.dumps({"auths": {registry.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}})
        )
        done = run(
            *("hub-import", "deploy", tmp_path / "out", "--registry", f"{registry.host}/mirror", *insecure, "--yes"),
            *("--kubeconfig", cluster.kubeconfig(tmp_path), "--cluster-authfile", tmp_path / "node.json"),
            *("--log-level", "debug", "--log-file", tmp_path / "log", "--format", "json"),
        )
        assert done.status in (0, 3), done.stderr
        assert secrets.leaked((tmp_path / "log").read_text()) == []


def test_no_secret_is_in_the_process_list(tmp_path):
    with FakeRegistry(auth="basic") as registry:
        registry.add_image("org/app", image([b"layer"]), tag="v1")
        registry.fault("GET", "/v2/", status=429, headers={"Retry-After": "600"}, times=99)
        process = subprocess.Popen(
            [str(BIN / "hub-export"), "login", registry.host, "--insecure", "-u", USER, "--password-stdin"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        process.stdin.write(PASSWORD.encode() + b"\n")
        process.stdin.close()
        while not registry.log():
            time.sleep(0.02)
        seen = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(process.pid)], capture_output=True, check=False).stdout
        process.terminate()
        assert process.wait(120) == 130
    assert b"login" in seen
    assert secrets.leaked(seen) == []


def test_what_is_masked_is_masked_everywhere():
    SECRETS.add("a-secret-of-one-test")
    assert SECRETS.mask("x a-secret-of-one-test y") == "x *** y"
