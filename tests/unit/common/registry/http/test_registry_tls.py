from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from common.errors import UsageError
from common.registry.client import RegistryClient
from common.registry.http.tls import Trust, is_exempt, proxy_for, tls_context, trust_for
from common.registry.settings import RegistrySettings
from tests.fakes.registry import FakeRegistry


@pytest.mark.parametrize("root", ["home/.config/containers", "etc/containers", "etc/docker"])
def test_certs_d_adds_the_authority_for_that_host(tmp_path, root):
    with FakeRegistry(tls=True) as registry, FakeRegistry(tls=True) as other:
        folder = tmp_path / root / "certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(registry.ca.read_bytes())
        settings = RegistrySettings(environ={"HOME": str(tmp_path / "home")}, system_root=tmp_path)
        with RegistryClient(settings) as client:
            client.ping(registry.host)
            with pytest.raises(Exception, match="not trusted"):
                client.ping(other.host)


def test_client_certificate_is_found(tmp_path):
    folder = tmp_path / "etc/containers/certs.d/r.example"
    folder.mkdir(parents=True)
    certificate = trustme.CA().issue_cert("client@example.org")
    certificate.cert_chain_pems[0].write_to_path(folder / "me.cert")
    settings = RegistrySettings(system_root=tmp_path)
    with pytest.raises(UsageError, match=r"no me\.key"):
        trust_for(settings, "r.example", insecure=False)
    certificate.private_key_pem.write_to_path(folder / "me.key")
    found = trust_for(settings, "r.example", insecure=False)
    assert found.client == (folder / "me.cert", folder / "me.key")
    assert tls_context(found).verify_mode.name == "CERT_REQUIRED"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_wrong_files_are_named(tmp_path, content):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"file\.pem"):
        tls_context(Trust(authorities=(path,)))
    with pytest.raises(UsageError, match=r"file\.pem"):
        tls_context(Trust(client=(path, path)))


ENVIRON = {
    "HTTPS_PROXY": "http://proxy.example:3128",
    "http_proxy": "plain.example",
    "NO_PROXY": "a.example, .b.example,10.0.0.0/8,c.example:5000,::1",
}


@pytest.mark.parametrize(
    ("scheme", "host", "proxy"),
    [
        ("https", "quay.io", "http://proxy.example:3128"),
        ("http", "quay.io", "http://plain.example"),
        ("https", "a.example:5000", None),
        ("https", "x.a.example", None),
        ("https", "xa.example", "http://proxy.example:3128"),
        ("https", "x.b.example", None),
        ("https", "10.1.2.3:5000", None),
        ("https", "11.1.2.3:5000", "http://proxy.example:3128"),
        ("https", "c.example:5000", None),
        ("https", "c.example", "http://proxy.example:3128"),
        ("https", "[::1]:5000", None),
    ],
)
def test_proxy_for(scheme, host, proxy):
    assert proxy_for(ENVIRON, scheme, host) == proxy


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("0:0:0:0:0:0:0:1", "[::1]:5000"),
        ("2001:DB8::A", "[2001:db8::a]"),
        ("[2001:0db8:0:0:0:0:0:a]", "[2001:db8::a]:443"),
        ("[2001:DB8:0::a]:5000", "[2001:db8::a]:5000"),
        ("2001:db8::/32", "[2001:DB8:1::1]:5000"),
        ("[2001:db8::]/32", "[2001:db8:1::1]"),
        ("10.0.0.1", "[::ffff:10.0.0.1]:5000"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
    ],
)
def test_addresses_are_compared_as_such(entry, host):
    """Any spelling of RFC 4291, section 2.2; Go compares parsed addresses (golang.org/x/net/http/httpproxy)."""
    assert is_exempt(host, f"a.example, {entry}")
    assert proxy_for(ENVIRON | {"NO_PROXY": entry}, "https", host) is None


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("::1", "[::2]:5000"),
        ("[::1]:5000", "[::1]:5001"),
        ("[::1]:5000", "[::1]"),
        ("2001:db8::/32", "[2001:db9::1]"),
        ("10.0.0.0/8", "[::10.0.0.1]"),
        ("0.0.1", "10.0.0.1"),
        ("::zz", "[::1]"),
        ("2001:db8::/999", "[2001:db8::1]"),
        ("10.0.0.1", "10.0.0.1.example"),
    ],
)
def test_other_addresses_are_not_exempt(entry, host):
    assert not is_exempt(host, entry)


def test_no_proxy_at_all():
    assert proxy_for({}, "https", "quay.io") is None
    assert proxy_for(ENVIRON | {"no_proxy": "*"}, "https", "quay.io") is None


class _Proxy(BaseHTTPRequestHandler):
    """A forward proxy for plain requests that answers them itself."""

    seen: list[tuple[str, str | None]]

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


def test_proxy_is_used_with_its_password():
    handler = type("Handler", (_Proxy,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            environ = {
                "http_proxy": f"http://user:p%40ss@localhost:{server.server_address[1]}",
                "https_proxy": "http://localhost:1",
            }
            settings = RegistrySettings(environ=environ, insecure=frozenset({"registry.example"}))
            with RegistryClient(settings) as client:
                client.ping("registry.example")
        finally:
            server.shutdown()
            thread.join()
    assert {path for path, _ in handler.seen} == {"http://registry.example/v2/"}
    assert {given for _, given in handler.seen} == {"Basic dXNlcjpwQHNz"}


@pytest.mark.parametrize("proxy", ["socks5://localhost:1", "http://"])
def test_proxy_that_is_not_usable(proxy):
    with (
        RegistryClient(RegistrySettings(environ={"https_proxy": proxy})) as client,
        pytest.raises(UsageError, match="not usable"),
    ):
        client.ping("registry.example")
