"""Proxies that refuse a connection for a while, or for good (openshift/release#55503, openshift/oc-mirror#1107)."""

from __future__ import annotations

import ssl

import httpx
import pytest

from common.errors import RegistryUnreachableError
from common.registry.http.errors import Question, unreachable
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.tls_proxy import TlsProxy
from tests.samples import more


@pytest.mark.parametrize("status", [503, *more([429, 502, 504])])
def test_a_proxy_with_passing_trouble_is_asked_again(connect, status):
    with TlsProxy(None) as proxy, FakeRegistry(tls=True) as registry:
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        client = connect(registry, environ={"HTTPS_PROXY": proxy.url})
        proxy.refusals = [status, status]
        document = client.document(reference)
        assert proxy.asked == [registry.host] * 3
        assert client.blob_bytes(reference, document.config, 1000)


def test_a_write_is_sent_again_through_it(connect):
    """Nothing of the body was sent before the tunnel was there."""
    with TlsProxy(None) as proxy, FakeRegistry(tls=True) as registry:
        proxy.refusals = [502]
        client = connect(registry, environ={"HTTPS_PROXY": proxy.url})
        parts = image([b"layer"])
        for content in parts.blobs.values():
            registry.add_blob("org/app", content)
        client.put_manifest(registry.reference("org/app", "v1"), parts.raw, parts.media_type)
        assert len(registry.log("PUT", "/manifests/")) == 1


def test_trouble_that_stays_is_the_proxys(connect):
    with TlsProxy(None) as proxy, FakeRegistry(tls=True) as registry:
        proxy.refusals = [503] * 1000
        client = connect(registry, environ={"HTTPS_PROXY": proxy.url})
        with pytest.raises(RegistryUnreachableError, match="the proxy refuses: 503") as caught:
            client.document(registry.reference("org/app", "v1"))
        assert registry.host in caught.value.hint
        assert "The proxy" in caught.value.hint
        assert len(proxy.asked) > 3


@pytest.mark.parametrize("status", [403, 407, *more([400, 401, 404, 405, 500])])
def test_a_refusal_is_final(connect, status):
    with TlsProxy(None) as proxy, FakeRegistry(tls=True) as registry:
        proxy.refusals = [status] * 5
        client = connect(registry, environ={"HTTPS_PROXY": proxy.url})
        with pytest.raises(RegistryUnreachableError, match=f"the proxy refuses: {status}") as caught:
            client.document(registry.reference("org/app", "v1"))
        assert proxy.asked == [registry.host]
        if status == 403:
            assert f"exempt {registry.host} in NO_PROXY" in caught.value.hint


def test_a_redirect_target_that_the_proxy_blocks_is_named(connect):
    with TlsProxy(None) as proxy, FakeRegistry(tls=True, redirect=True) as registry:
        reference = registry.add_image("org/app", image([b"layer"]), tag="v1")
        client = connect(registry, environ={"HTTPS_PROXY": proxy.url})
        document = client.document(reference)
        proxy.refusals = [403]
        with pytest.raises(RegistryUnreachableError, match="the proxy refuses: 403") as caught:
            client.blob_bytes(reference, document.config, 1000)
        assert f"to which {registry.host} redirects" in caught.value.message
        assert registry.elsewhere_host in caught.value.hint


def test_a_client_certificate_may_be_wanted_by_either():
    """In TLS 1.3 the alert follows the handshake (RFC 8446, 4.4.2.4): by then urllib3 counts the proxy as connected."""
    question = Question("r.example", "", "GET /v2/", "r.example")
    alert = ssl.SSLError(1, "tlsv13 alert certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    failure = unreachable(question, httpx.URL("https://r.example/v2/"), "p.example:443", lambda *_, **__: None, alert)
    assert "certs.d/r.example" in failure.error.hint
    assert "certs.d/p.example:443" in failure.error.hint
