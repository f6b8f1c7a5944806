"""Which certificates are trusted: the same ones on every Python, for everything that is spoken to over TLS."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from cryptography import x509

from common.errors import ClusterError, RegistryUnreachableError, StorageUnreachableError
from common.registry.client import RegistryClient
from common.registry.http.tls import Trust, tls_context
from common.registry.settings import RegistrySettings
from common.retry import RetryPolicy
from common.storage.client import Storage
from common.tls import Proxy, client_context, presented, trusting
from importer.cluster.api.client import connect
from importer.cluster.kinds import OPERATOR_HUB
from tests.fakes.authorities import OpensslAuthority, PrivateAuthority
from tests.fakes.cluster import FakeCluster
from tests.fakes.dripping import DrippingServer
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.secrets import STORAGE_KEY, STORAGE_SECRET
from tests.fakes.tls_proxy import TlsProxy
from tests.samples import more

KINDS = {
    "neither": {},
    "key usage": {"key_usage": True},
    "key identifiers": {"key_identifiers": True},
    "both": {"key_usage": True, "key_identifiers": True},
    "openssl": None,
}


# One test for each library that speaks TLS has all kinds of authorities in `make test`.
ALL_KINDS = pytest.mark.parametrize("authority", KINDS, indirect=True)


@pytest.fixture(scope="module", params=["neither", *more([kind for kind in KINDS if kind != "neither"])])
def authority(request, tmp_path_factory):
    kind = KINDS[request.param]
    return OpensslAuthority(tmp_path_factory.mktemp("ca")) if kind is None else PrivateAuthority(**kind)


@pytest.fixture
def bundle(authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "site-ca.pem"))
    return tmp_path / "site-ca.pem"


def client(tmp_path, **settings):
    return RegistryClient(
        RegistrySettings(environ={"HOME": str(tmp_path), **settings.pop("environ", {})}, system_root=tmp_path, **settings)
    )


@ALL_KINDS
def test_a_registry_its_token_server_and_its_storage_are_trusted(authority, bundle, tmp_path):
    with (
        FakeRegistry(tls=True, auth="token", anonymous=True, redirect=True, authority=authority) as registry,
        client(tmp_path, ca=bundle) as asks,
    ):
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        document = asks.document(reference)
        assert asks.blob_bytes(reference, document.config, 1000)
        assert registry.elsewhere


@ALL_KINDS
def test_a_proxy_is_trusted(authority, bundle, tmp_path):
    with TlsProxy(authority) as proxy, FakeRegistry(tls=True, authority=authority) as registry:
        with client(tmp_path, ca=bundle, environ={"HTTPS_PROXY": proxy.url}) as asks:
            asks.ping(registry.host)
        assert proxy.asked == [registry.host]


def test_a_proxy_is_trusted_by_its_own_directory(authority, bundle, tmp_path):
    with TlsProxy(authority) as proxy, FakeRegistry(tls=True) as registry:
        folder = tmp_path / "etc/containers/certs.d" / proxy.url.removeprefix("https://")
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(bundle.read_bytes())
        with client(tmp_path, ca=registry.ca, environ={"HTTPS_PROXY": proxy.url}) as asks:
            asks.ping(registry.host)


def test_an_insecure_registry_is_reached_through_a_proxy_that_is_verified(authority, bundle, tmp_path):
    with TlsProxy(authority) as proxy, FakeRegistry(tls=True) as registry:
        insecure = frozenset({registry.host})
        with client(tmp_path, insecure=insecure, ca=bundle, environ={"HTTPS_PROXY": proxy.url}) as asks:
            asks.ping(registry.host)
        environ = {"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url}
        with client(tmp_path, insecure=insecure, environ=environ) as asks, pytest.raises(RegistryUnreachableError):
            asks.ping(registry.host)
        assert proxy.asked == [registry.host] * len(proxy.asked)


def test_a_proxy_of_an_unknown_authority_is_named(tmp_path):
    with TlsProxy(PrivateAuthority()) as proxy, FakeRegistry(tls=True) as registry:
        asks = client(tmp_path, ca=registry.ca, environ={"HTTPS_PROXY": proxy.url})
        with asks, pytest.raises(RegistryUnreachableError, match="the certificate of the proxy is not trusted") as caught:
            asks.ping(registry.host)
        assert f"{registry.ca} was read, without the certificate of the issuer CN=Site CA" in caught.value.hint
        assert "--ca" in caught.value.hint
        assert proxy.url.removeprefix("https://") in caught.value.hint
        assert registry.host not in caught.value.hint


@pytest.mark.parametrize("subject", ["127.0.0.1", "localhost", "another.example"])
def test_a_certificate_without_a_subject_alternative_name_is_refused(subject, tmp_path):
    """Nodes refuse it: Go has not read the common name since 1.15 (rancher/rke2#775, openshift/openshift-docs#40089)."""
    authority = PrivateAuthority(names=False)
    with FakeRegistry(tls=True, authority=authority, certificate_for=subject) as registry:
        with client(tmp_path, ca=registry.ca) as asks, pytest.raises(RegistryUnreachableError) as caught:
            asks.ping(registry.host)
        assert f"no subjectAltName, only the subject CN={subject}" in caught.value.message
        assert f"-connect {registry.host} </dev/null | openssl x509 -noout -ext subjectAltName" in caught.value.hint
        assert not registry.log()


def test_a_token_server_without_a_subject_alternative_name_is_refused(tmp_path):
    """The host that is named is the token server's, which gets no password."""
    with (
        FakeRegistry(tls=True, auth="token", authority=PrivateAuthority(names=False)) as tokens,
        FakeRegistry(tls=True, auth="token") as registry,
    ):
        registry.realm = f"{tokens.url}/token"
        (tmp_path / "both.pem").write_bytes(registry.ca.read_bytes() + tokens.ca.read_bytes())
        with client(tmp_path, ca=tmp_path / "both.pem") as asks, pytest.raises(RegistryUnreachableError) as caught:
            asks.document(registry.add_image("org/app", image([b"layer"]), tag="v1"))
        assert (
            f"token from {tokens.host}, to which {registry.host} sends its clients: its certificate has no subjectAltName"
            in (caught.value.message)
        )
        assert not tokens.log("GET", "/token")


def test_a_proxy_without_a_subject_alternative_name_is_refused(tmp_path):
    authority = PrivateAuthority(names=False)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsProxy(authority) as proxy, FakeRegistry(tls=True, authority=authority) as registry:
        asks = client(tmp_path, ca=tmp_path / "ca.pem", environ={"HTTPS_PROXY": proxy.url})
        with asks, pytest.raises(RegistryUnreachableError, match="the certificate of the proxy has no subjectAltName"):
            asks.ping(registry.host)
        assert not proxy.asked


def test_an_insecure_registry_needs_no_subject_alternative_name(tmp_path):
    with FakeRegistry(tls=True, authority=PrivateAuthority(names=False)) as registry:
        with client(tmp_path, insecure=frozenset({registry.host})) as asks:
            asks.ping(registry.host)
        assert registry.log()


@ALL_KINDS
def test_an_api_server_is_trusted(authority, tmp_path):
    with FakeCluster(authority=authority) as cluster, connect(cluster.kubeconfig(tmp_path), None) as asks:
        assert asks.get(OPERATOR_HUB, "cluster")["kind"] == "OperatorHub"


@pytest.mark.parametrize(
    ("why", "options"),
    [("has expired", {"until": datetime(2020, 1, 1, tzinfo=UTC)}), ("is for another name", {"names": ("proxy.example",)})],
)
def test_a_proxy_with_another_defect_is_named(why, options, tmp_path):
    authority = PrivateAuthority()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsProxy(authority, **options) as proxy, FakeRegistry(tls=True) as registry:
        asks = client(tmp_path, ca=tmp_path / "ca.pem", environ={"HTTPS_PROXY": proxy.url})
        with asks, pytest.raises(RegistryUnreachableError, match=f"the certificate of the proxy {why}") as caught:
            asks.ping(registry.host)
        assert "Add the CA" not in caught.value.hint
        assert not proxy.asked


def test_a_proxy_gets_the_client_certificate_of_its_own_directory(tmp_path):
    authority = trustme.CA()
    with TlsProxy(authority, clients=authority) as proxy, FakeRegistry(tls=True, authority=authority) as registry:
        folder = tmp_path / "etc/containers/certs.d" / proxy.url.removeprefix("https://")
        environ = {"HTTPS_PROXY": proxy.url}
        with client(tmp_path, ca=registry.ca, environ=environ) as asks, pytest.raises(RegistryUnreachableError):
            asks.ping(registry.host)
        folder.mkdir(parents=True)
        ours = authority.issue_cert("client@example.org")
        ours.cert_chain_pems[0].write_to_path(folder / "client.cert")
        ours.private_key_pem.write_to_path(folder / "client.key")
        with client(tmp_path, ca=registry.ca, environ=environ) as asks:
            asks.ping(registry.host)
        assert proxy.asked == [registry.host]


def test_an_api_server_behind_a_proxy_is_trusted(authority, bundle, tmp_path, monkeypatch):
    """The proxy's authority is named as for every other program (SSL_CERT_FILE): a kubeconfig has no field for it."""
    with TlsProxy(authority) as proxy, FakeCluster() as cluster:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        with connect(cluster.kubeconfig(tmp_path), None) as asks:
            assert asks.get(OPERATOR_HUB, "cluster")["kind"] == "OperatorHub"
        assert len(proxy.asked) == 1
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        with connect(cluster.kubeconfig(tmp_path), None) as asks:
            assert asks.get(OPERATOR_HUB, "cluster")["kind"] == "OperatorHub"
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("place", ["kubeconfig", "certs.d"])
def test_a_proxy_before_the_api_server_is_trusted(place, tmp_path, monkeypatch):
    """By the kubeconfig's CA, for Go verifies server and proxy with one configuration (net/http, `dialConn`); or by certs.d."""
    authority, other = PrivateAuthority(), PrivateAuthority()
    with TlsProxy(authority) as proxy, FakeCluster(authority=other if place == "certs.d" else authority) as cluster:
        folder = tmp_path / ".config/containers/certs.d" / proxy.url.removeprefix("https://")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        if place == "certs.d":
            folder.mkdir(parents=True)
            authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        with connect(cluster.kubeconfig(tmp_path), None) as asks:
            assert asks.get(OPERATOR_HUB, "cluster")["kind"] == "OperatorHub"
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("is not trusted: .*issued by CN=Proxy CA", {}),
        ("has expired", {"until": datetime(2020, 1, 1, tzinfo=UTC)}),
        ("is for another name", {"names": ("proxy.example",)}),
    ],
)
def test_a_proxy_before_the_api_server_that_is_refused_is_named(why, options, tmp_path, monkeypatch):
    """httpx reports the certificates of proxy and server alike."""
    authority = PrivateAuthority(name="Proxy CA")
    with TlsProxy(authority, **options) as proxy, FakeCluster(authority=authority if options else None) as cluster:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        file = cluster.kubeconfig(tmp_path)
        with connect(file, None) as asks, pytest.raises(ClusterError, match=f"the certificate of the proxy .* {why}") as caught:
            asks.get(OPERATOR_HUB, "cluster")
        assert proxy.url.removeprefix("https://") in caught.value.message
        assert not proxy.asked
        assert options or f"certs.d/{proxy.url.removeprefix('https://')}/ca.crt" in caught.value.hint


def test_an_api_server_behind_a_proxy_that_is_refused_is_named(tmp_path, monkeypatch):
    authority = PrivateAuthority()
    authority.cert_pem.write_to_path(str(tmp_path / "proxy.pem"))
    with TlsProxy(authority) as proxy, FakeCluster(authority=PrivateAuthority(name="Other CA")) as cluster:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "proxy.pem"))
        asks = connect(cluster.kubeconfig(tmp_path, trust=False), None)
        with asks, pytest.raises(ClusterError, match=r"the certificate of https://127.* is not trusted.*CN=Other CA"):
            asks.get(OPERATOR_HUB, "cluster")


def test_an_api_server_without_a_subject_alternative_name_is_refused(tmp_path):
    with FakeCluster(authority=PrivateAuthority(names=False)) as cluster:
        asks = connect(cluster.kubeconfig(tmp_path), None)
        with asks, pytest.raises(ClusterError, match="has no subjectAltName, only the subject CN=") as caught:
            asks.get(OPERATOR_HUB, "cluster")
    assert "-ext subjectAltName" in caught.value.hint


def test_the_kubeconfig_without_the_issuer_is_named(tmp_path):
    with FakeCluster() as known, FakeCluster(authority=PrivateAuthority()) as cluster:
        file = known.kubeconfig(tmp_path)
        file.write_text(file.read_text().replace(known.url, cluster.url))
        with connect(file, None) as asks, pytest.raises(ClusterError, match=r"issued by CN=Site CA") as caught:
            asks.get(OPERATOR_HUB, "cluster")
    assert f"{file} was read, without the certificate of the issuer CN=Site CA" in caught.value.hint
    assert "certificate-authority-data" in caught.value.hint


@ALL_KINDS
def test_object_storage_is_trusted(authority, bundle, monkeypatch):
    with serving(authority) as host:
        name_storage(monkeypatch, host, bundle)
        assert storage().stat("bucket", "key").size == 5


def test_object_storage_behind_a_proxy_is_trusted(authority, bundle, monkeypatch):
    with TlsProxy(authority) as proxy, serving(authority) as host:
        name_storage(monkeypatch, host, bundle)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert storage().stat("bucket", "key").size == 5
        assert proxy.asked == [host]


@pytest.mark.parametrize("given", ["issuer", "server", "chain"])
def test_every_certificate_that_is_given_is_an_anchor(given, tmp_path):
    """As in Go, where a certificate of the pool ends a chain, whether it signed itself or not (crypto/x509, Verify)."""
    issuer = trustme.CA().create_child_ca()
    leaf = issuer.issue_cert("localhost", "127.0.0.1")
    pems = {"issuer": [issuer.cert_pem], "server": leaf.cert_chain_pems[:1], "chain": leaf.cert_chain_pems}[given]
    bundle = tmp_path / "given.pem"
    bundle.write_bytes(b"".join(pem.bytes() for pem in pems))
    fixed = FixedAuthority(leaf, trustme.Blob(bundle.read_bytes()))
    with FakeRegistry(tls=True, authority=fixed) as registry, client(tmp_path, ca=bundle) as asks:
        asks.ping(registry.host)
    with FakeCluster(authority=fixed) as cluster, connect(cluster.kubeconfig(tmp_path), None) as asks:
        assert asks.get(OPERATOR_HUB, "cluster")["kind"] == "OperatorHub"
    with FakeRegistry(tls=True, authority=fixed) as registry, client(tmp_path) as asks:
        folder = tmp_path / "etc/docker/certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "site.crt").write_bytes(bundle.read_bytes())
        asks.ping(registry.host)


@pytest.mark.parametrize("place", ["--ca", "certs.d"])
@pytest.mark.parametrize("given", ["unrelated", "sibling", "another server's"])
def test_a_certificate_that_did_not_sign_is_no_anchor(given, place, tmp_path):
    """An intermediate CA beside the one that signed, and the certificate of another server of the same authority."""
    root = trustme.CA()
    issuer = root.create_child_ca()
    leaf = issuer.issue_cert("localhost")
    pem = {
        "unrelated": trustme.CA().cert_pem,
        "sibling": root.create_child_ca().cert_pem,
        "another server's": issuer.issue_cert("localhost").cert_chain_pems[0],
    }[given]
    with FakeRegistry(tls=True, authority=FixedAuthority(leaf, pem)) as registry:
        folder = tmp_path / "etc/containers/certs.d" / (registry.host if place == "certs.d" else "elsewhere")
        folder.mkdir(parents=True)
        pem.write_to_path(str(folder / "site.crt"))
        asks = client(tmp_path, ca=None if place == "certs.d" else folder / "site.crt")
        with asks, pytest.raises(RegistryUnreachableError, match="not trusted: unable to get") as caught:
            asks.ping(registry.host)
        assert not registry.log()
    name = issuer_name(leaf)
    assert f"(issued by {name})" in caught.value.message
    assert f"{folder / 'site.crt'} was read, without the certificate of the issuer {name}" in caught.value.hint
    assert f"certs.d/{registry.host}/ca.crt" in caught.value.hint


def test_an_authority_that_was_replaced_under_its_name_is_named_so(tmp_path):
    PrivateAuthority().cert_pem.write_to_path(str(tmp_path / "old.pem"))
    with FakeRegistry(tls=True, authority=PrivateAuthority()) as registry:
        asks = client(tmp_path, ca=tmp_path / "old.pem")
        with asks, pytest.raises(RegistryUnreachableError, match=r"issued by CN=Site CA") as caught:
            asks.ping(registry.host)
    assert f"{tmp_path / 'old.pem'} was read: a certificate of that name is in it, and the key" in caught.value.hint


def test_the_look_at_a_certificate_sends_nothing(tmp_path):
    """One handshake to verify, one to look; no request, and no third one where the same host fails again."""
    with FakeRegistry(tls=True) as registry, client(tmp_path) as asks:
        for _ in range(3):
            with pytest.raises(RegistryUnreachableError, match=r"issued by .*trustme"):
                asks.ping(registry.host)
        assert registry.handshakes == 4
        assert not registry.log()


@pytest.mark.parametrize(
    ("quick", "slow"), [(b"HTTP/1.1 200", b" "), (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"), (b"", b"HTTP/1.1")]
)
def test_the_look_at_a_certificate_ends_in_time(quick, slow):
    """A proxy that answers CONNECT a byte at a time is never silent: the look at a certificate had no end (CWE-400)."""
    with DrippingServer(quick, slow) as proxy:
        before = set(threading.enumerate())
        assert presented("https://registry.example/", Proxy(f"http://{proxy.host}", {}, None), within_s=0.2) is None
        for thread in set(threading.enumerate()) - before:
            if thread.name == "certificate":
                thread.join(10)
                assert not thread.is_alive(), "its connection is closed"
        assert len(proxy.requests) == 1


def test_a_server_that_drips_has_no_certificate():
    with DrippingServer(b"", b"x") as server:
        assert presented(f"https://{server.host}/", within_s=0.2) is None


def test_names_in_a_certificate_are_foreign_text(tmp_path):
    authority = PrivateAuthority(name="Site \x1b[2J\u202e" + "x" * 40)
    with (
        FakeRegistry(tls=True, authority=authority) as registry,
        client(tmp_path) as asks,
        pytest.raises(RegistryUnreachableError, match="issued by CN=Site") as caught,
    ):
        asks.ping(registry.host)
    assert "\x1b" not in caught.value.message
    assert "\u202e" not in caught.value.message


@pytest.mark.parametrize("given", ["issuer", "server"])
def test_object_storage_needs_the_root_authority(given, tmp_path, monkeypatch):
    """botocore has no setting for partial chains (ADR 0035): the error names the variable."""
    issuer = trustme.CA().create_child_ca()
    leaf = issuer.issue_cert("localhost", "127.0.0.1")
    bundle = tmp_path / "given.pem"
    {"issuer": issuer.cert_pem, "server": leaf.cert_chain_pems[0]}[given].write_to_path(str(bundle))
    with serving(FixedAuthority(leaf, None)) as host:
        name_storage(monkeypatch, host, bundle)
        with pytest.raises(StorageUnreachableError, match="certificate") as raised:
            storage().stat("bucket", "key")
    assert "Add the root CA of the service" in raised.value.hint
    assert f"{bundle} was read" in raised.value.hint
    assert ("the issuer is in it, and the root CA above it is not" in raised.value.hint) is (given == "issuer")
    assert f"issued by {issuer_name(leaf)}" in raised.value.message


def test_object_storage_without_a_subject_alternative_name_is_refused(tmp_path, monkeypatch):
    """botocore takes a common name: the certificate is looked at before the first request."""
    authority = PrivateAuthority(names=False)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf = authority.issue_cert("localhost")
    with serving(FixedAuthority(leaf, None)) as host:
        name_storage(monkeypatch, host.replace("127.0.0.1", "localhost"), tmp_path / "ca.pem")
        with pytest.raises(StorageUnreachableError, match="has no subjectAltName, only the subject CN=localhost") as raised:
            storage().stat("bucket", "key")
    assert "-ext subjectAltName" in raised.value.hint


def test_what_was_not_given_is_refused(tmp_path, monkeypatch):
    other = PrivateAuthority(key_usage=True, key_identifiers=True)
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with FakeRegistry(tls=True) as registry:
        asks = client(tmp_path, ca=tmp_path / "other.pem")
        with asks, pytest.raises(RegistryUnreachableError, match="not trusted"):
            asks.ping(registry.host)
    with FakeCluster() as cluster:
        asks = connect(cluster.kubeconfig(tmp_path, trust=False), None)
        with asks, pytest.raises(ClusterError, match="not trusted"):
            asks.get(OPERATOR_HUB, "cluster")
    with serving(trustme.CA()) as host:
        name_storage(monkeypatch, host, tmp_path / "other.pem")
        with pytest.raises(StorageUnreachableError, match="certificate"):
            storage().stat("bucket", "key")


def test_strictness_of_a_newer_python_is_taken_back():
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for each in (trusting(context), client_context(), tls_context(Trust())):
        assert not each.verify_flags & ssl.VERIFY_X509_STRICT
        assert each.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert each.verify_mode is ssl.CERT_REQUIRED
        assert each.check_hostname


def issuer_name(leaf):
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).issuer.rfc4514_string()


class FixedAuthority:
    """Gives one certificate, whatever it is asked for."""

    def __init__(self, leaf, cert_pem):
        self._leaf, self.cert_pem = leaf, cert_pem

    def issue_cert(self, *_names, **_times):
        return self._leaf


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response_only(200)
        self.send_header("Content-Length", "5")
        self.send_header("ETag", '"5d41402abc4b2a76b9719d911017c592"')
        self.end_headers()

    def log_message(self, *_words):
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client_address):
        with self.context.wrap_socket(request, server_side=True) as line:
            super().finish_request(line, client_address)

    def handle_error(self, request, client_address):
        """A handshake that a client breaks off is no error of the test."""


@contextmanager
def serving(authority):
    """Serve HEAD of an object of five bytes over TLS; gives host:port."""
    server = Server(("127.0.0.1", 0), Answer)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server.context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def name_storage(monkeypatch, host, bundle):
    for name, value in {
        "AWS_ENDPOINT_URL": f"https://{host}",
        "AWS_ACCESS_KEY_ID": STORAGE_KEY,
        "AWS_SECRET_ACCESS_KEY": STORAGE_SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CA_BUNDLE": str(bundle),
    }.items():
        monkeypatch.setenv(name, value)


def storage():
    return Storage.connect(unknown=RetryPolicy(tries=2, within_s=0.5))
