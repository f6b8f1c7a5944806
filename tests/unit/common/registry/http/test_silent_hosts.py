"""First contacts that lead nowhere: a port that accepts and says nothing, and a token server that is not reached.

The kernel accepts connections to a listening socket without its program, so a wrong port, or a hung process, looks like this.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from common.errors import RegistryUnreachableError
from common.oci.reference import Reference
from common.registry.settings import Timeouts
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import free_port
from tests.samples import more

TIMES = Timeouts(connect_s=0.05, read_s=2.0)
SILENT = "accepts connections and says nothing"


class Silent:
    """Counts its connections; `host` is host:port."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.host = f"localhost:{listener.getsockname()[1]}"

    def connections(self) -> int:
        self._listener.settimeout(0)
        count = 0
        try:
            while True:
                self._listener.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count


@contextmanager
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield Silent(listener)


@pytest.mark.parametrize("insecure", [True, False])
def test_a_port_that_says_nothing_fails_after_a_few_connections(connect, clock, insecure):
    with FakeRegistry() as registry, silent() as server:
        client = connect(registry, timeouts=TIMES, insecure=frozenset({server.host} if insecure else ()))
        with pytest.raises(RegistryUnreachableError, match=SILENT) as caught:
            client.ping(server.host)
        assert server.connections() == (2 if insecure else 3)  # https and http once each, or three times https
    assert f"Is {server.host} a registry" in caught.value.hint
    assert "TLS" in caught.value.hint
    assert "--insecure" in caught.value.hint


def test_further_images_of_a_silent_host_are_not_asked_for_until_a_minute_has_passed(connect, clock):
    with FakeRegistry() as registry, silent() as server:
        client = connect(registry, timeouts=TIMES, insecure=frozenset({server.host}))
        for number in range(20):
            with pytest.raises(RegistryUnreachableError, match=SILENT):
                client.document(Reference(server.host, f"org/app-{number}", tag="v1"))
        assert server.connections() == 2
        clock.advance(61.0)
        with pytest.raises(RegistryUnreachableError, match=SILENT):
            client.document(Reference(server.host, "org/app", tag="v1"))
        assert server.connections() == 2


def test_a_host_that_has_answered_is_waited_for(connect, clock, caplog):
    """Its name and port are right: a slow moment, as while it restarts, is no reason to give up after three tries."""
    caplog.set_level("INFO")
    over = threading.Event()
    with FakeRegistry() as registry:
        reference = registry.add_image("org/app", image(), tag="v1")
        client = connect(registry, timeouts=Timeouts(connect_s=5.0, read_s=0.3))
        client.ping(registry.host)
        registry.fault("GET", "/manifests/", action=lambda: over.wait(30))
        client.document(reference)
        over.set()
    assert "GET manifest at " in caplog.text
    assert "no answer in time" in caplog.text
    assert SILENT not in caplog.text


def refer(registry, realm):
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}
    registry.fault("GET", "/manifests/", times=99, status=401, headers=challenge)
    return registry.reference("org/app", "v1")


@pytest.mark.parametrize("why", ["unknown host name", "connection refused", *more(["no answer in time"])])
def test_a_token_server_that_is_not_reached_is_named_with_the_registry_that_sent_us_there(connect, clock, why):
    """https://distribution.github.io/distribution/spec/auth/token/: the realm is a setting of the registry, and often an internal name."""
    with FakeRegistry() as registry, silent() as server:
        port = server.host.rpartition(":")[2]
        host = {
            "unknown host name": "tokens.localhost.invalid",
            "connection refused": f"127.0.0.1:{free_port()}",
            "no answer in time": f"127.0.0.1:{port}",
        }[why]
        registry.add_image("org/app", image(), tag="v1")
        client = connect(registry, timeouts=Timeouts(connect_s=0.2, read_s=0.2))
        with pytest.raises(RegistryUnreachableError, match=why) as caught:
            client.document(refer(registry, f"http://{host}/token"))
    assert f"token from {host}, to which {registry.host} sends its clients: {why}" in caught.value.message
    hint = caught.value.hint
    assert f"{registry.host} sends its clients to the token server {host} for a token" in hint
    assert all(word in hint for word in ("DNS", "firewall", "proxy", "token realm"))
    assert "spelling" not in hint
    assert "registry running" not in hint


def test_a_token_server_on_the_host_of_the_registry_is_no_other_host(connect, clock):
    with FakeRegistry(auth="token") as registry:
        registry.add_image("org/app", image(), tag="v1")
        registry.fault("GET", "/token", times=99, drop=True)
        with pytest.raises(RegistryUnreachableError, match="connection reset") as caught:
            connect(registry, login=True).document(registry.reference("org/app", "v1"))
    assert "sends its clients" not in caught.value.message


@contextmanager
def hanging(count: int, waited: Callable[[], None]) -> Iterator[list[str]]:
    """Hosts that take a connection, and a minute of the clock, and close it without an answer."""

    def serve(listener):
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            waited()
            connection.close()

    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        threads = [threading.Thread(target=serve, args=(listener,), daemon=True) for listener in listeners]
        for thread in threads:
            thread.start()
        try:
            yield [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        finally:
            for listener in listeners:
                listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def test_hosts_that_never_answer_are_bounded_together(connect, clock, tmp_path):
    """Patience is one of each host: a re-request with thousands of hosts would take as many times three minutes."""
    began_s = clock.clock.monotonic_s()
    with FakeRegistry() as registry, hanging(40, lambda: clock.advance(60)) as hosts:
        registry.add_image("org/a", image([b"a"]), tag="v1")
        environ = {"HOME": str(tmp_path), "HUB_REGISTRY_PATIENCE": "60"}
        client = connect(registry, insecure=frozenset({registry.host}), environ=environ)
        client.ping(registry.host)
        errors = []
        for host in hosts:
            with pytest.raises(RegistryUnreachableError) as caught:
                client.head(Reference(host, "org/a", tag="v1"))
            errors.append(caught.value.message)
        spent_s = clock.clock.monotonic_s() - began_s
        assert 20 * 60 <= spent_s < 30 * 60
        assert "not asked: other hosts that never answered took" in errors[-1]
        assert sum("not asked" in error for error in errors) >= 20
        # Those that answered are asked as before.
        assert client.head(registry.reference("org/a", "v1")) is not None
