"""`hub-import serve` where it is used: TLS, accounts, missing volumes, damage, slow clients, a cluster without a registry."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter

import pytest

from common.archive.reader import Archive
from common.oci.image import digest_of
from tests.fakes.archives import Content, noise, write
from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.servers import require
from tests.fakes.serving import serving
from tests.fakes.sites import PACKAGE, shared_real
from tests.integration.test_deploy import serving as listing
from tests.samples import more

pytestmark = pytest.mark.integration
LARGE = noise("large", 6_000_000)
ARCHIVE = Content({"quay.io/org/app:v1": [LARGE], "quay.io/org/small:v1": [b"small"]}, volume_size=4_000_000)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A catalog with its images, from a real registry."""
    return shared_real(tmp_path_factory)


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """An archive of one blob that no socket's buffers hold, and the digest of that blob. Read only."""
    folder, content = tmp_path_factory.mktemp("huge") / "out", noise("large", 64_000_000)
    write(folder, Content({"quay.io/org/app:v1": [content]}))
    return folder, digest_of(content)


@pytest.mark.parametrize("every", [False, *more([True])], ids=["one of each kind", "all"])
def test_skopeo_copies_images_over_tls_with_an_account(archive, tmp_path, every):
    subprocess.run(
        [require("htpasswd"), "-Bbc", tmp_path / "accounts", "reader", "secret-of-reader"], check=True, capture_output=True
    )
    files = ["--self-signed", tmp_path / "tls", "--name", "localhost", "--htpasswd", tmp_path / "accounts"]
    images = Archive.open([archive]).inventory.images
    kinds = {(each.kind, each.media_type, len(each.platforms) > 1): each for each in images}
    assert len(kinds) >= 3
    with serving(tmp_path / "log", archive, *files) as server:
        assert server.host.startswith("localhost:")
        assert f"--ca {tmp_path / 'tls' / 'ca.crt'}" in server.lines[-1]
        certs = tmp_path / "certs"
        certs.mkdir()
        shutil.copy(tmp_path / "tls" / "ca.crt", certs)
        for each in images if every else kinds.values():
            repository = each.source.partition("/")[2].partition("@")[0].partition(":")[0]
            command = [require("skopeo"), "copy", "--all", "--preserve-digests", "--src-cert-dir", certs]
            place = [f"docker://{server.host}/{repository}@{each.digest}", f"dir:{tmp_path / 'copied'}"]
            done = subprocess.run(
                [*command, "--src-creds", "reader:secret-of-reader", *place], check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert digest_of((tmp_path / "copied" / "manifest.json").read_bytes()) == each.digest
            shutil.rmtree(tmp_path / "copied")
        refused = subprocess.run([*command, "--src-creds", "reader:wrong", *place], check=False, capture_output=True, text=True)
        assert refused.returncode != 0
        assert "authentication required" in refused.stderr.lower() or "unauthorized" in refused.stderr.lower()
    assert (tmp_path / "tls" / "server.key").stat().st_mode & 0o777 == 0o600


def test_a_cluster_without_a_registry_pulls_from_the_archive(archive, tmp_path):
    with (
        FakeCluster("4.18") as cluster,
        serving(tmp_path / "log", archive, "--self-signed", tmp_path / "tls", "--name", "localhost") as server,
    ):
        listing(cluster, archive)
        place = ["--registry", server.host, "--ca", tmp_path / "tls" / "ca.crt"]
        result = run("hub-import", "apply", archive, *place, "--kubeconfig", cluster.kubeconfig(tmp_path), "--yes")
        assert result.status == 0, result.stderr
        assert "OLM lists what the archive carries: openshift-cert-manager-operator." in result.stdout
        source = cluster.get("CatalogSource", "redhat-operator-index", "openshift-marketplace")
        assert source["spec"]["image"].startswith(f"{server.host}/redhat/redhat-operator-index@sha256:")


def test_pushing_to_it_says_that_it_is_read_only(archive, tmp_path):
    with serving(tmp_path / "log", archive) as server, serving(tmp_path / "log2", archive, "--keep-source-host") as other:
        for prefix in ("", "/below"):
            place = ["--registry", f"{server.host}{prefix}", "--insecure", server.host]
            done = run("hub-import", "push", archive, *place)
            assert done.status == (5 if prefix else 0), done.stdout + done.stderr
        assert "UNSUPPORTED" in done.stdout
        assert "read-only" in done.stdout
        with other.client() as client:
            assert "registry.redhat.io/redhat/redhat-operator-index" in client.get("_catalog").json()["repositories"]


def test_an_exporter_takes_an_archive_from_it(archive, tmp_path):
    """The served archive is a source like any other: pages of referrers, digests, sizes."""
    with serving(tmp_path / "log", archive) as server:
        name = f"{server.host}/redhat/redhat-operator-index:v4.18"
        done = run("hub-export", "list", "--catalog", name, "--insecure", server.host)
    assert done.status == 0, done.stderr
    assert PACKAGE in done.stdout


def test_a_volume_that_is_not_here_is_named(tmp_path):
    write(tmp_path / "out", ARCHIVE)
    volumes = sorted((tmp_path / "out").glob("volume-*"))
    assert len(volumes) > 1
    with serving(tmp_path / "log", volumes[0]) as server, server.client() as client:
        assert any(volumes[1].name in line for line in server.lines)
        (told,) = (line for line in server.lines if line.endswith("can be pulled whole"))
        whole, _, among, *_ = told.split()
        assert int(whole) < int(among)
        answer = client.get(f"org/app/blobs/{digest_of(LARGE)}")
        assert answer.status_code == 404
        (error,) = answer.json()["errors"]
        assert volumes[1].name in error["message"]
        assert volumes[1].name in error["detail"]["volumes"]
        assert client.get("org/app/tags/list").status_code == 200, "every volume knows all"


def test_commands_name_this_host_where_it_serves_at_all_addresses(tmp_path):
    """Nodes cannot pull from 0.0.0.0."""
    write(tmp_path / "out", ARCHIVE)
    with serving(tmp_path / "log", tmp_path / "out", "--plain-http", listen="0.0.0.0:0") as server:
        assert server.host.rpartition(":")[0] == socket.gethostname()
        assert not any("0.0.0.0" in line for line in server.lines)


def test_a_damaged_blob_ends_the_connection(tmp_path):
    write(tmp_path / "out", ARCHIVE)
    inventory = Archive.open([tmp_path / "out"]).inventory
    piece = inventory.blobs[digest_of(LARGE)].pieces[0]
    with (tmp_path / "out" / inventory.volumes[piece.volume - 1].name).open("r+b") as file:
        file.seek(piece.offset + 100_000)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with serving(tmp_path / "log", tmp_path / "out") as server:
        for _ in range(2):
            got = _raw(server.host, f"/v2/org/app/blobs/{digest_of(LARGE)}")
            assert len(got) < len(LARGE), "the last bytes are kept back"
        with server.client() as client:
            assert client.get(f"org/small/blobs/{digest_of(b'small')}").content == b"small"
    told = server.log.read_text()
    assert "damaged in volume-0001.tar.zst at offset" in told
    assert "Needed by " in told
    assert "Copy the volume again" in told
    assert "Traceback" not in told


def _raw(host: str, path: str) -> bytes:
    name, _, port = host.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=20) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := line.recv(1 << 20):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2]


def test_a_range_from_the_middle_is_one_read(tmp_path):
    write(tmp_path / "out", ARCHIVE)
    trace = tmp_path / "trace"
    before = (require("strace"), "-D", "-f", "-qq", "-e", "trace=pread64,preadv,preadv2", "-o", str(trace))
    with serving(tmp_path / "log", tmp_path / "out", before=before) as server, server.client() as client:
        path = f"org/app/blobs/{digest_of(LARGE)}"
        client.get(path, headers={"Range": "bytes=0-0"})
        told = trace.read_text().count("\n")
        answer = client.get(path, headers={"Range": "bytes=2500000-2500099"})
        assert answer.content == LARGE[2_500_000:2_500_100]
        reads = trace.read_text().splitlines()[told:]
    content = [line for line in reads if "preadv" in line]
    assert len(content) == 1, reads
    assert len(reads) <= 3, "and the header of the frame"


@pytest.mark.parametrize("blobs", [2, *more([4, 16])])
def test_memory_stays_flat_under_eight_clients(tmp_path, blobs):
    layers = [noise(f"layer {number}", 16_000_000) for number in range(min(16, blobs + 7))]  # that are asked for
    write(tmp_path / "out", Content({f"quay.io/org/app:v{n}": [layer] for n, layer in enumerate(layers)}))
    wanted = [digest_of(layer) for layer in layers]
    del layers
    with serving(tmp_path / "log", tmp_path / "out") as server:
        with server.client() as client:
            client.get(f"org/app/blobs/{wanted[0]}")
        before, got = server.peak, Counter()

        def pull(first: int) -> None:
            with server.client() as client:
                for digest in (wanted[first:] + wanted[:first])[:blobs]:
                    with client.stream("GET", f"org/app/blobs/{digest}") as answer:
                        got[first] += sum(len(chunk) for chunk in answer.iter_raw())

        pullers = [threading.Thread(target=pull, args=(first,)) for first in range(8)]
        for puller in pullers:
            puller.start()
        for puller in pullers:
            puller.join()
        assert dict(got) == dict.fromkeys(range(8), blobs * 16_000_000)
        assert server.peak - before < 64 * 1024**2, "256 MB to 2 GB went through it"


def test_clients_that_read_nothing_need_little_memory(huge, tmp_path):
    folder, digest = huge
    with serving(tmp_path / "log", folder) as server:
        before = server.peak
        host, _, port = server.host.rpartition(":")
        lines = [socket.create_connection((host, int(port))) for _ in range(20)]
        for line in lines:
            line.sendall(f"GET /v2/org/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with server.client(timeout=30) as client:  # others are served meanwhile
            for _ in range(20):
                assert client.get("org/app/tags/list").status_code == 200
        assert server.peak - before < 150 * 1024**2
        for line in lines:
            line.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, *more([signal.SIGINT, signal.SIGHUP])])
def test_a_signal_during_transfers_ends_it_with_status_0(huge, tmp_path, number):
    folder, digest = huge
    with serving(tmp_path / "log", folder) as server:
        host, _, port = server.host.rpartition(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(f"GET /v2/org/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert line.recv(100)
            server.process.send_signal(number)
            assert server.process.wait(120) == 0
    assert "Traceback" not in server.log.read_text()
    assert "error:" not in server.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--listen", "nowhere"], 2, "not an address: 'nowhere'"),
        (["--listen", "127.0.0.1:99999"], 2, "not an address"),
        (["--listen", f"127.0.0.1:{'9' * 5000}"], 2, "not an address"),
        (["--listen", "no..name:0", "--plain-http"], 2, "cannot listen at no..name:0"),
        (["--self-signed", "tls", "--name", ""], 2, "--name is empty"),
        (["--self-signed", "tls", "--name", "host.example:5000"], 2, "not the name of a host: 'host.example:5000'"),
        (["--self-signed", "tls", "--name", "müller.example"], 2, "not the name of a host"),
        (["--listen", "192.0.2.1:5000", "--plain-http"], 2, "cannot listen at 192.0.2.1:5000"),
        (["--listen", "0.0.0.0:0"], 2, "is open to others, and this would be plain HTTP"),
        (["--listen", "0.0.0.0:0", "--self-signed", "tls"], 2, "needs a name"),
        (["--listen", "0.0.0.0:0", "--plain-http", "--htpasswd", "accounts"], 2, "can be read on the way"),
        (["--tls-cert", "a.crt"], 2, "--tls-cert and --tls-key together"),
        (["--tls-cert", "a.crt", "--tls-key", "a.key"], 2, "cannot be used for TLS"),
        (["--htpasswd", "missing"], 2, "missing: cannot be read"),
        (["--htpasswd", "md5"], 2, "line 1 is no account with a bcrypt hash"),
        (["--htpasswd", "cost"], 2, "line 1 is no account with a bcrypt hash"),
        (["--htpasswd", "empty"], 2, "holds no account"),
    ],
)
def test_invalid_options_are_refused(tmp_path, arguments, status, said):
    write(tmp_path / "out", Content({"quay.io/org/small:v1": [b"small"]}))
    (tmp_path / "md5").write_text("reader:$apr1$abc$def\n")
    (tmp_path / "cost").write_text(f"reader:$2y$99${'a' * 53}\n")
    (tmp_path / "empty").write_text("# no account\n")
    (tmp_path / "accounts").write_text(f"reader:$2y$05${'a' * 53}\n")
    done = run("hub-import", "serve", tmp_path / "out", *arguments, cwd=tmp_path)
    assert done.status == status, done.stderr
    assert said in done.stderr


def test_a_port_in_use_and_a_directory_without_an_archive(tmp_path):
    write(tmp_path / "out", Content({"quay.io/org/small:v1": [b"small"]}))
    with serving(tmp_path / "log", tmp_path / "out") as server:
        done = run("hub-import", "serve", tmp_path / "out", "--listen", server.host)
        assert done.status == 2
        assert f"cannot listen at {server.host}: Address already in use" in done.stderr
    assert run("hub-import", "serve", tmp_path).status != 0


def test_a_certificate_is_made_once_and_for_its_names(tmp_path):
    write(tmp_path / "out", Content({"quay.io/org/small:v1": [b"small"]}))
    tls = tmp_path / "tls"
    names = ["--name", "localhost", "--name", "127.0.0.1"]
    with serving(tmp_path / "log", tmp_path / "out", "--self-signed", tls, *names) as server:
        first = (tls / "server.crt").read_bytes()
        context = ssl.create_default_context(cafile=tls / "ca.crt")
        for name in ("localhost", "127.0.0.1"):
            with (
                socket.create_connection(("127.0.0.1", int(server.host.rpartition(":")[2]))) as plain,
                context.wrap_socket(plain, server_hostname=name) as line,
            ):
                assert line.version() == "TLSv1.3"
    with serving(tmp_path / "log", tmp_path / "out", "--self-signed", tls, *names):
        assert (tls / "server.crt").read_bytes() == first
    done = run(
        "hub-import", "serve", tmp_path / "out", "--listen", "127.0.0.1:0", "--self-signed", tls, "--name", "other.example"
    )
    assert done.status == 2
    assert "is not for other.example" in done.stderr
    checked = subprocess.run(
        [require("openssl"), "verify", "-CAfile", tls / "ca.crt", tls / "server.crt"], check=False, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr


def test_a_signal_before_the_first_request_ends_it(tmp_path):
    write(tmp_path / "out", Content({"quay.io/org/small:v1": [b"small"]}))
    for _ in range(3):
        with serving(tmp_path / "log", tmp_path / "out") as server:
            server.process.send_signal(signal.SIGTERM)  # as soon as it has announced its address
            assert server.process.wait(120) == 0


def test_slowloris_connections_time_out(tmp_path):
    write(tmp_path / "out", Content({"quay.io/org/small:v1": [b"small"]}))
    with serving(tmp_path / "log", tmp_path / "out") as server:
        host, _, port = server.host.rpartition(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(260)]
        silent[0].sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n")  # and never the end of it
        with server.client() as client:
            assert client.get("").status_code == 200  # the oldest silent connections gave way
        for line in silent:
            line.settimeout(60)
            with contextlib.suppress(ConnectionError):
                assert line.recv(100) == b"", "each is dropped"
            line.close()
        with server.client() as client:
            assert client.get("").status_code == 200
            time.sleep(0.1)
            assert client.get("").status_code == 200
