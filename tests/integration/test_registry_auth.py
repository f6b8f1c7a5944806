"""Who we are, to Debian's docker-registry: short tokens, client certificates, namespaced credentials, helpers."""

from __future__ import annotations

import base64
import json
import os
import random
import time
from contextlib import ExitStack

import pytest
import trustme

from common.content import Written
from common.errors import AuthenticationError, NotWritableError, RegistryUnreachableError, UsageError
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from common.registry.source_sink import RegistrySink, RegistrySource
from common.transfer import copy
from tests.fakes.factories import image, seed
from tests.fakes.link import Link
from tests.fakes.secrets import IDENTITY_TOKEN as IDENTITY
from tests.fakes.servers import PASSWORD, USER, docker_registry
from tests.fakes.token_server import TokenServer
from tests.samples import more

pytestmark = pytest.mark.integration
CONTENT = random.Random(3).randbytes(3_000_000)
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))
APP = image([CONTENT])


def write_auth(path, host, user=USER, password=PASSWORD, **more):
    entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {host: entry}, **more}))
    return path


@pytest.fixture
def token_registry(tmp_path):
    """Start a registry with a token server, and a client that is logged in."""
    with ExitStack() as stack:

        def start(via=None, auths=None, **options):
            tokens = stack.enter_context(
                TokenServer(tmp_path, {USER: PASSWORD}, identity_tokens=frozenset({IDENTITY}), **options)
            )
            server = stack.enter_context(docker_registry(tmp_path, auth=tokens.config))
            host = stack.enter_context(via(server.host)).host if via else server.host
            authfile = auths(host) if auths else write_auth(tmp_path / "auth.json", host)
            settings = RegistrySettings(authfile=authfile, insecure=frozenset({host}), environ={"PATH": os.environ["PATH"]})
            return tokens, Reference(host, "org/app"), stack.enter_context(RegistryClient(settings))

        yield start


def put_image(client, repository, tag="v1"):
    for digest, content in APP.blobs.items():
        blob = Descriptor("a/b", digest, len(content))
        if not client.has_blob(repository, digest):
            client.upload(repository, blob, lambda start, content=content: iter([content[start:]]))
    client.put_manifest(Reference(repository.registry, repository.repository, tag), APP.raw, APP.media_type)


@pytest.mark.parametrize("told_s", [3, 300, *more([None])])
def test_tokens_that_die_while_a_blob_is_sent_are_renewed(token_registry, told_s):
    tokens, repository, client = token_registry(life_s=3, told_s=told_s)

    def slowly(start):
        assert start == 0
        for position in range(0, len(CONTENT), 300_000):
            time.sleep(0.5)
            yield CONTENT[position : position + 300_000]

    assert client.upload(repository, BLOB, slowly) is Written.COPIED
    put_image(client, repository)
    assert client.document(Reference(repository.registry, "org/app", "v1")).raw == APP.raw
    assert client.blob_bytes(repository, BLOB, len(CONTENT)) == CONTENT
    assert len([grant for grant in tokens.grants if "repository:org/app:pull,push" in grant.scopes]) > 1


def test_a_download_that_breaks_after_its_token_died_goes_on_by_range_with_a_new_one(token_registry):
    tokens, repository, client = token_registry(
        life_s=3, told_s=300, via=lambda host: Link(host, rate=500_000, cut_after=2_600_000, cuts=1)
    )
    put_image(client, repository)
    before = len(tokens.grants)
    source = RegistrySource(client, {BLOB.digest: [repository]})
    assert b"".join(map(bytes, source.read(BLOB))) == CONTENT
    assert len(tokens.grants) > before, "the token of the first part was dead"


@pytest.mark.more
def test_blobs_are_pushed_beyond_the_life_of_a_token(token_registry):
    # A request of a busy machine may take a second; blobs follow until a second token was needed.
    tokens, repository, client = token_registry(life_s=3, told_s=300)
    contents = {}
    places = {}

    def grants():
        return [grant for grant in tokens.grants if "repository:org/app:pull,push" in grant.scopes]

    def blobs():
        while len(grants()) < 2:
            content = b"%d" % len(contents) * 999
            contents[digest_of(content)], places[digest_of(content)] = content, [repository]
            yield Descriptor("a/b", digest_of(content), len(content))

    class Source:
        def read(self, blob, start=0):
            yield contents[blob.digest][start:]

    for outcome in copy(blobs(), Source(), RegistrySink(client, places), jobs=4):
        assert outcome.error is None
    assert all(client.has_blob(repository, digest) for digest in contents)


def test_an_identity_token_is_traded_for_access(token_registry, tmp_path):
    def auths(host):
        path = tmp_path / "identity.json"
        path.write_text(json.dumps({"auths": {host: {"identitytoken": IDENTITY}}}))
        return path

    tokens, repository, client = token_registry(auths=auths)
    put_image(client, repository)
    assert {(grant.user, grant.method) for grant in tokens.grants} == {("identity", "POST")}


def test_pulling_without_credentials_takes_an_anonymous_token(token_registry, tmp_path):
    tokens, repository, client = token_registry(anonymous=True)
    put_image(client, repository)
    settings = RegistrySettings(insecure=frozenset({repository.registry}))
    with RegistryClient(settings) as anybody:
        assert anybody.document(Reference(repository.registry, "org/app", "v1")).raw == APP.raw
        with pytest.raises(NotWritableError) as caught:
            put_image(anybody, Reference(repository.registry, "org/other"))
    assert "you may not write to it" in caught.value.hint
    assert tokens.grants[-1].user is None


def test_a_client_certificate_from_certs_d(tmp_path):
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    with docker_registry(tmp_path, tls=True, client_ca=tmp_path / "clients.pem") as server:
        settings = RegistrySettings(ca=server.ca, environ={"HOME": str(tmp_path)})
        with RegistryClient(settings) as client, pytest.raises(RegistryUnreachableError) as caught:
            client.ping(server.host)
        assert f"certs.d/{server.host}" in caught.value.hint
        folder = tmp_path / ".config/containers/certs.d" / server.host
        folder.mkdir(parents=True)
        for authority, works in ((trustme.CA(), False), (clients, True)):
            pair = authority.issue_cert("client@example.org")
            pair.cert_chain_pems[0].write_to_path(folder / "client.cert")
            pair.private_key_pem.write_to_path(folder / "client.key")
            with RegistryClient(settings) as client:
                if works:
                    put_image(client, Reference(server.host, "org/app"))
                    assert client.document(Reference(server.host, "org/app", "v1")).raw == APP.raw
                else:
                    with pytest.raises(RegistryUnreachableError) as caught:
                        client.ping(server.host)
                    assert f"certs.d/{server.host}" in caught.value.hint


def test_the_most_specific_namespace_of_auth_json_counts(tmp_path):
    with docker_registry(tmp_path, htpasswd=True) as server:
        login = (USER, PASSWORD)
        for repository in ("org/app", "org/team/app", "other/app"):
            seed(f"http://{server.host}", repository, APP, tag="v1", login=login)

        def entry(password):
            return {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}

        auths = {server.host: entry("wrong"), f"{server.host}/org": entry(PASSWORD), f"{server.host}/org/team": entry("no")}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        settings = RegistrySettings(authfile=tmp_path / "auth.json", insecure=frozenset({server.host}))
        with RegistryClient(settings) as client:
            assert client.document(Reference(server.host, "org/app", "v1")).raw == APP.raw
            for repository in ("org/team/app", "other/app"):
                with pytest.raises(AuthenticationError, match="credentials were refused"):
                    client.document(Reference(server.host, repository, "v1"))


def helper(folder, script):
    program = folder / "docker-credential-suite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize("place", ["credHelpers", "credsStore"])
def test_a_credential_helper_is_asked_with_the_server_on_its_standard_input(tmp_path, place):
    with docker_registry(tmp_path, htpasswd=True) as server:
        secret = json.dumps({"ServerURL": server.host, "Username": USER, "Secret": PASSWORD})
        environ = helper(tmp_path, f'read -r host; [ "$1 $host" = "get {server.host}" ] || exit 1; echo \'{secret}\'')
        content = {place: {server.host: "suite"} if place == "credHelpers" else "suite", "auths": {server.host: {}}}
        (tmp_path / "auth.json").write_text(json.dumps(content))
        settings = RegistrySettings(authfile=tmp_path / "auth.json", insecure=frozenset({server.host}), environ=environ)
        with RegistryClient(settings) as client:
            put_image(client, Reference(server.host, "org/app"))
            assert client.document(Reference(server.host, "org/app", "v1")).raw == APP.raw


def test_a_helper_that_holds_an_identity_token(token_registry, tmp_path):
    secret = json.dumps({"ServerURL": "x", "Username": "<token>", "Secret": IDENTITY})
    path = helper(tmp_path, f"echo '{secret}'")["PATH"]

    def auths(host):
        os.environ["PATH"] = f"{path}:{os.environ['PATH']}"
        (tmp_path / "helper.json").write_text(json.dumps({"credHelpers": {host: "suite"}}))
        return tmp_path / "helper.json"

    before = os.environ["PATH"]
    try:
        tokens, repository, client = token_registry(auths=auths)
    finally:
        os.environ["PATH"] = before
    put_image(client, repository)
    assert {grant.user for grant in tokens.grants} == {"identity"}


@pytest.mark.parametrize(
    ("script", "kind", "told"),
    [
        ("exit 1", AuthenticationError, "no credentials"),
        ("echo nonsense", UsageError, "no answer that makes sense"),
        ("echo '{}'", UsageError, "no answer that makes sense"),
    ],
)
def test_a_helper_that_does_not_help(tmp_path, script, kind, told):
    with docker_registry(tmp_path, htpasswd=True) as server:
        (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {server.host: "suite"}}))
        settings = RegistrySettings(
            authfile=tmp_path / "auth.json", insecure=frozenset({server.host}), environ=helper(tmp_path, script)
        )
        with RegistryClient(settings) as client, pytest.raises(kind, match=told):
            client.ping(server.host)
