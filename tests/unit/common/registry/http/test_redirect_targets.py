"""The host that failed is named, and who sent the request there (quay/quay-docs#149, openshift/openshift-docs#53210).

A firewall lets the registry through and not its content network: the port and spelling of the registry are right then.
"""

from __future__ import annotations

import pytest

from common.errors import HubError, NotFoundError, RegistryError, RegistryRefusedError, RegistryUnreachableError
from common.oci.image import Descriptor, digest_of
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import free_port
from tests.samples import more

CONTENT = b"a layer elsewhere"
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))
PAGE = b"<html>blocked</html>"


def read(client, registry, blob=BLOB):
    return b"".join(map(bytes, client.blob(registry.reference("org/app"), blob)))


def moved(registry, part, url, method="GET"):
    registry.fault(method, part, status=307, headers={"Location": url}, times=100)


def check_names(error, registry, host, way="to which {} redirects"):
    """The message names both, the hint is about the target alone."""
    assert f" at {host}, {way.format(registry.host)}: " in error.message
    assert host in error.hint
    assert f"port of {registry.host}" not in error.hint
    assert f"spelling of {registry.host}" not in error.hint
    assert f"certs.d/{registry.host}" not in error.hint


def test_a_closed_port(connect):
    with FakeRegistry() as registry:
        host = f"localhost:{free_port()}"
        moved(registry, "/blobs/", f"http://{host}/signed?sig=1")
        with pytest.raises(RegistryUnreachableError, match="connection refused") as caught:
            read(connect(registry), registry)
        check_names(caught.value, registry, host)
        assert "firewall" in caught.value.hint
        assert len(registry.log("GET", "/blobs/")) == 3


def test_an_unknown_name(connect):
    with FakeRegistry() as registry:
        moved(registry, "/blobs/", "https://cdn.localhost.invalid/signed")
        with pytest.raises(RegistryUnreachableError, match="unknown host name") as caught:
            read(connect(registry), registry)
        check_names(caught.value, registry, "cdn.localhost.invalid")


def test_another_authority(connect):
    with FakeRegistry(tls=True) as registry, FakeRegistry(tls=True) as cdn:
        moved(registry, "/blobs/", f"{cdn.url}/signed")
        with pytest.raises(RegistryUnreachableError, match="not trusted") as caught:
            read(connect(registry), registry)
        check_names(caught.value, registry, cdn.host)
        assert f"certs.d/{cdn.host}/ca.crt" in caught.value.hint


def test_a_manifest(connect):
    with FakeRegistry() as registry:
        host = f"localhost:{free_port()}"
        moved(registry, "/manifests/", f"http://{host}/x")
        with pytest.raises(RegistryUnreachableError, match="connection refused") as caught:
            connect(registry).document(registry.reference("org/app", "v1"))
        check_names(caught.value, registry, host)


def test_referrers(connect):
    with FakeRegistry() as registry:
        reference = registry.add_image("org/app", image())
        host = f"localhost:{free_port()}"
        moved(registry, "/referrers/", f"http://{host}/x")
        with pytest.raises(RegistryUnreachableError, match="connection refused") as caught:
            connect(registry).referrers(reference)
        check_names(caught.value, registry, host)


def test_the_location_of_an_upload(connect):
    with FakeRegistry() as registry:
        host = f"localhost:{free_port()}"
        registry.fault("POST", "/uploads/", status=202, headers={"Location": f"http://{host}/session"}, times=100)
        with pytest.raises(RegistryUnreachableError, match="connection refused") as caught:
            connect(registry).upload(registry.reference("org/app"), BLOB, lambda: iter([CONTENT]))
        check_names(caught.value, registry, host)


def test_an_url_of_a_layer(connect):
    """The registry sends nobody there: the manifest does."""
    with FakeRegistry() as registry:
        host = f"localhost:{free_port()}"
        away = Descriptor("a/b", digest_of(CONTENT), len(CONTENT), urls=(f"http://{host}/layer",))
        with pytest.raises(HubError) as caught:
            read(connect(registry, insecure=frozenset({registry.host, host})), registry, away)
        assert isinstance(caught.value, NotFoundError) or host in caught.value.message
        assert "redirects" not in caught.value.message


def test_a_token_server(connect):
    """The registry's challenge names it, in its realm: neither name nor port is a choice of the person."""
    with FakeRegistry(auth="token", anonymous=True) as registry:
        host = f"localhost:{free_port()}"
        registry.realm = f"http://{host}/token"
        with pytest.raises(
            RegistryUnreachableError, match=f"{host}, to which .* sends its clients: connection refused"
        ) as caught:
            read(connect(registry), registry)
        assert host in caught.value.hint


def test_docker_hub_answers_under_another_name_without_a_redirect(tmp_path):
    """docker.io is asked at registry-1.docker.io, which is no redirect."""
    environ = {"HOME": str(tmp_path), "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
    asks = RegistryClient(RegistrySettings(environ=environ, system_root=tmp_path))
    with asks as client, pytest.raises(RegistryUnreachableError, match=r"at docker\.io: the proxy does not answer"):
        client.document(Reference("docker.io", "library/app", "v1"))


@pytest.mark.parametrize("status", [403, 503, *more([400, 401, 404, 405, 410, 429, 500, 502, 504])])
def test_a_status_of_the_target(connect, status):
    """A content network or a firewall that answers is named, and a login at the registry is not advised."""
    with FakeRegistry() as registry, FakeRegistry() as cdn:
        moved(registry, "/blobs/", f"{cdn.url}/signed")
        cdn.fault("GET", "/signed", status=status, body=PAGE, times=100)
        with pytest.raises(RegistryRefusedError, match=f"HTTP {status}") as caught:
            read(connect(registry), registry)
        check_names(caught.value, registry, cdn.host)
        assert "log in" not in caught.value.hint.lower()
        assert "podman login" not in caught.value.hint


def test_a_status_of_the_registry_itself_is_as_before(connect):
    with FakeRegistry() as registry:
        registry.fault("GET", "/blobs/", status=403, times=100)
        with pytest.raises(RegistryError, match=f"GET blob at {registry.host}: HTTP 403") as caught:
            read(connect(registry), registry)
        assert "redirects" not in caught.value.message
        assert "podman login" in caught.value.hint
