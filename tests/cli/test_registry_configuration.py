"""Configuration that makes no sense: the message names the file and the place in it."""

from __future__ import annotations

import json

import pytest
import trustme

from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry

REFERENCE = "localhost:1/org/app:v1"


def plan(*arguments, env=None, reference=REFERENCE):
    return run("hub-export", "plan", "--image", reference, *arguments, env=env)


def refused(done, *told):
    assert done.status == 2, done.stderr
    for text in told:
        assert text in done.stderr
    assert "\n  " in done.stderr, "and what was wanted"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"auths": {"quay.io": {"auth": "x"}', ("auth.json",)),
        ('{"auths": {"localhost:1": {"auth": 5}}}', ("auths", "auth")),
        ('{"auths": ["localhost:1"]}', ("auths",)),
        ("[]", ("auth.json",)),
    ],
)
def test_broken_auth_json(tmp_path, content, told):
    (tmp_path / "auth.json").write_text(content)
    refused(plan("--authfile", tmp_path / "auth.json"), str(tmp_path / "auth.json"), *told)


@pytest.mark.parametrize("entry", ["not base64!", "bm9jb2xvbg=="])
def test_an_entry_that_is_no_login_is_named_when_it_is_used(tmp_path, entry):
    with FakeRegistry(auth="basic") as registry:
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {registry.host: {"auth": entry}, "quay.io": {"auth": "?"}}}))
        done = plan(
            *("--authfile", tmp_path / "auth.json", "--insecure", registry.host), reference=f"{registry.host}/org/app:v1"
        )
        refused(done, f"auth.json: auths['{registry.host}']", "auth is not base64 of user:password", "Log in again")
        assert entry not in done.stderr


def test_a_missing_authfile(tmp_path):
    refused(plan("--authfile", tmp_path / "none.json"), "--authfile: no such file", "none.json")
    refused(plan(env={"REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}), "REGISTRY_AUTH_FILE: no such file")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[registry]\n", ("line 1",)),
        (
            '[[registry]]\nprefix = "quay.io"\nblockd = true\n',
            ("number 1 (prefix 'quay.io')", "unknown key 'blockd'", "blocked"),
        ),
        ('[[registry]]\nprefix = "quay.io"\nblocked = "yes"\n', ("blocked",)),
        ('[[registry]]\nlocation = "http://quay.io"\n', ("not a location", "http://quay.io")),
        ('[registries.search]\nregistries = ["quay.io"]\n', ("version 1",)),
        ('registry = "quay.io"\n', ("registry",)),
    ],
)
def test_broken_registries_conf(tmp_path, content, told):
    (tmp_path / "registries.conf").write_text(content)
    refused(plan("--registries-conf", tmp_path / "registries.conf"), str(tmp_path / "registries.conf"), *told)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n"])
def test_a_ca_that_is_none(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    refused(plan("--ca", tmp_path / "ca.pem"), str(tmp_path / "ca.pem"), "Wanted: certificates in PEM")


def test_a_client_certificate_without_its_key(tmp_path):
    folder = tmp_path / ".config/containers/certs.d/localhost:1"
    folder.mkdir(parents=True)
    trustme.CA().issue_cert("client@example.org").cert_chain_pems[0].write_to_path(folder / "me.cert")
    refused(plan(env={"HOME": str(tmp_path)}), str(folder / "me.cert"), "me.key")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("quay.io/Org/App:v1", "no upper-case letters"),
        ("quay.io/org/my app:v1", "'org/my app' is no repository path"),
        ("quay.io/org/app:", "'' is no tag"),
        ("quay.io/org/app@sha256:123", "sha256:123"),
        ("https://quay.io/org/app", "no host name"),
        ("", "not an image reference"),
    ],
)
def test_references(reference, why):
    refused(plan(reference=reference), "not an image reference", why, "registry/repository[:tag]")
