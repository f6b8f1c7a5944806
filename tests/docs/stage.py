"""Where a document happens: a machine of its own in which the names are real.

    unshare --user --map-root-user --net --mount python -m tests.docs.stage DOCUMENT FOLDER [--show] [--programs=DIR]

registry.redhat.io and quay.io are fake registries with the images of a real catalog; registry.example:5000 is docker-registry;
~/.kube/config leads to the fake cluster; the media are in memory, and nothing of this machine changes. The
programs have what the README installs, and what the document installs besides; those of DIR are used as they are. The result is FOLDER/result.json: for each command
what it printed.

A document's site: {"release": "4.18", "week": 1, "port": 5000, "prepared": true, "size": 20000, "replaced": {"shown": "run"}}. `week` 1: the newest
version is not out yet; `port`: of the mirror; `prepared`: its CA is trusted and logins are done; `public`: quay.io has the catalog of operatorhub.io; `size`: bytes of each image. `replaced` is for sizes alone: what fills a
disc in life fills a few MiB here; with `releases`, for the key of the publisher too: signatures are by a key of the tests. `storage`: s3.example is object storage. `installs`: OLM installs what Subscriptions ask for. `nodes`: the cluster has nodes of two pools and two architectures. `releases`: OpenShift releases are published, and the cluster has the operator of the update service. `wheels`: the Python that wheels are offered for, which has to be the one that runs this.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trustme

from common.archive.inventory import PackageRecord
from common.archive.reader import Archive
from common.errors import HubError
from tests.docs import events, goods, release_goods
from tests.docs.reading import ROOT, Command, File, read
from tests.fakes import environments, wheelhouse
from tests.fakes.cluster import FakeCluster
from tests.fakes.object_store import object_store
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import NAMES
from tests.fakes.secrets import FAKE_PASSWORD, REAL_PASSWORD, REAL_USER
from tests.fakes.servers import docker_registry

PUBLISHED = [name for name in NAMES if name != "localhost"]  # the hosts of OpenShift releases
ADDRESSES = {
    "registry.redhat.io": "127.0.0.2",
    "quay.io": "127.0.0.3",
    "registry.example": "127.0.0.4",
    "bastion.example": "127.0.0.5",
    "s3.example": "127.0.0.6",
    **dict.fromkeys(PUBLISHED, "127.0.0.7"),
}
STORAGE = ("operators", "choose-a-better-one")
MEDIA = ("stick", "disc", "disc2", "next")
_OC = """#!/bin/sh
# The fake cluster has no OpenAPI documents, so kubectl cannot check by itself what the server checks all the same.
case $1 in apply) shift; exec kubectl apply --validate=false "$@" ;; esac
exec kubectl "$@"
"""
_SECONDS = 200  # a page takes some 20 s; this is for a machine that is busy with other things


@dataclass(frozen=True)
class Said:
    """What a command printed; its exit status is the last line, where it is not 0."""

    line: int
    text: str
    expected: tuple[str, ...]
    printed: list[str]


class Pulled(dict[str, tuple[PackageRecord, ...]]):
    """What catalogs offer, as a cluster finds out that pulls them: by the inventories of the archives around."""

    def __init__(self, places: list[Path]) -> None:
        super().__init__()
        self._places = places

    def __contains__(self, image: object) -> bool:
        return self.get(str(image), ()) != ()

    def get(self, image: str, default: object = None) -> object:  # type: ignore[override]
        if not super().__contains__(image):
            self._look()
        return super().get(image, default)

    def _look(self) -> None:
        for folder in {found.parent for place in self._places for found in place.rglob("inventory.json")}:
            try:
                inventory = Archive.open([folder]).inventory
            except HubError:
                continue
            self.update({catalog.image: catalog.packages for catalog in inventory.catalogs})


def main(document: str, folder: str, *options: str) -> None:
    """Play a document, and write what its commands printed."""
    told, home = read(Path(document)), Path(folder) / "home"
    home.mkdir(parents=True)
    _isolate(Path(folder))
    with ExitStack() as stack:
        hall = stack.enter_context(_site(Path(folder), home, told.site))
        given = [option.removeprefix("--programs=") for option in options if option.startswith("--programs=")]
        programs = Path(given[0]) if given else _installed(Path(folder), Path(document))
        shell = stack.enter_context(_shell(Path(folder), home, programs, _wheels(Path(folder), told.site)))
        said = []
        for step in told.steps:
            if isinstance(step, Command):
                said.append(_typed(shell, step, home.parent, told.site.get("replaced", {})))
                if "--show" in options:
                    print(f"$ {step.text}", *said[-1].printed, sep="\n", flush=True)
            elif isinstance(step, File):
                (home / step.name).parent.mkdir(parents=True, exist_ok=True)
                (home / step.name).write_text(step.content)
            else:
                events.happen(step.words, hall, home)
    (Path(folder) / "result.json").write_text(json.dumps([asdict(each) for each in said]))


def _isolate(folder: Path) -> None:
    """Bring the loopback up, and put names and media over those of this machine, for this process and its children."""
    with socket.socket() as any_socket:  # ip link set lo up: SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ADDRESSES.items()))
    _mount(str(hosts), "/etc/hosts", None, flags=0x1000)  # MS_BIND
    _mount("tmpfs", "/media", "tmpfs")
    for name in MEDIA:
        Path("/media", name).mkdir()


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


@contextmanager
def _site(folder: Path, home: Path, site: dict[str, Any]) -> Iterator[goods.Hall]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "public-ca.pem"))
    os.environ["SSL_CERT_FILE"] = str(folder / "public-ca.pem")
    with ExitStack() as stack:

        def registry(name: str, *, login: bool) -> FakeRegistry:
            fake = FakeRegistry(
                tls=True,
                auth="token",
                anonymous=not login,
                certificate_for=name,
                address=(ADDRESSES[name], 443),
                authority=authority,
            )
            fake.realm = f"https://{name}/token"
            fake.passwords = {goods.ACCOUNT: FAKE_PASSWORD}
            return stack.enter_context(fake)

        options = {"update_service": True, "patch": 20} if site.get("releases") else {}
        cluster = stack.enter_context(FakeCluster(site.get("release", "4.18"), **options))
        if site.get("installs"):
            cluster.plays_installs = True
            cluster.add("Namespace", "openshift-operators")
            metadata = {"name": "global-operators", "namespace": "openshift-operators"}
            cluster.put({"kind": "OperatorGroup", "metadata": metadata, "spec": {}}, "cluster-version-operator")
        hall = goods.Hall(registry("registry.redhat.io", login=True), registry("quay.io", login=False), cluster)
        hall.stock(site)
        if site.get("releases"):
            release_goods.publish(stack, hall.quay, authority, ADDRESSES["api.openshift.com"], home)
        mirror = stack.enter_context(
            docker_registry(
                folder, tls=True, htpasswd=True, name="mirror", host="registry.example", port=int(site.get("port", 5000))
            )
        )
        assert mirror.ca
        (home / "registry-ca.pem").write_bytes(mirror.ca.read_bytes())
        cluster.catalog_contents = Pulled([home, Path("/media")])
        cluster.ready_reads = cluster.mco_reads = cluster.pool_reads = 1
        if site.get("nodes"):
            cluster.kubelets.two_pools()
            cluster.kubelets.fast = True
        (home / ".kube").mkdir()
        cluster.kubeconfig(home / ".kube").rename(home / ".kube/config")
        if site.get("storage"):
            stack.enter_context(
                object_store(folder, bucket="operators", account=STORAGE, address=(ADDRESSES["s3.example"], 9000))
            )
        if site.get("prepared"):
            _prepare(home, mirror.ca, f"registry.example:{site.get('port', 5000)}")
        (home / "redhat-token").write_text(FAKE_PASSWORD)
        (home / "mirror-password").write_text(REAL_PASSWORD)
        yield hall


def _installed(folder: Path, document: Path) -> Path:
    """Return the programs as the README installs them, with the extras that a document names besides, and nothing else."""
    asked = [environments.extras_of(path.read_text(encoding="utf-8")) for path in (ROOT / "README.md", document)]
    return environments.make(folder, set().union(*asked))


def _wheels(folder: Path, site: dict[str, Any]) -> dict[str, str]:
    """Return the environment in which pip has what is installed here, for a document that fetches wheels."""
    if "wheels" not in site:
        return {}
    wheelhouse.fill(folder / "wheels")
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / f"python{site['wheels']}").symlink_to(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]
    return wheelhouse.offer(folder / "wheels")


def _prepare(home: Path, ca: Path, mirror: str) -> None:
    """Trust the mirror, and have logged in everywhere."""
    trusted = home / f".config/containers/certs.d/{mirror}"
    trusted.mkdir(parents=True)
    (trusted / "ca.crt").write_bytes(ca.read_bytes())
    accounts = {
        "registry.redhat.io": f"{goods.ACCOUNT}:{FAKE_PASSWORD}",
        mirror: f"{REAL_USER}:{REAL_PASSWORD}",
    }
    auths = {host: {"auth": base64.b64encode(account.encode()).decode()} for host, account in accounts.items()}
    (home / ".config/containers/auth.json").write_text(json.dumps({"auths": auths}))


@contextmanager
def _shell(folder: Path, home: Path, installed: Path, more: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the shell that gets the commands; what it left in the background ends with it."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("hub-export", "hub-import"):
        (programs / name).symlink_to(installed / name)
    (programs / "oc").write_text(_OC)
    (programs / "oc").chmod(0o755)
    (home / "run").mkdir(mode=0o700)
    env = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")} | {
        "PATH": f"{programs}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"],
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        **more,
    }
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=home,
        env=env, start_new_session=True,
    ) as shell:  # fmt: skip
        stop = threading.Timer(_SECONDS, os.killpg, (shell.pid, 9))
        stop.start()
        try:
            yield shell
        finally:
            stop.cancel()
            os.killpg(shell.pid, 9)


def _typed(shell: subprocess.Popen[bytes], command: Command, folder: Path, replaced: dict[str, str]) -> Said:
    text = command.text
    for shown, run in replaced.items():
        text = text.replace(shown, run)
    (folder / "typed").write_text(text + "\n")
    assert shell.stdin
    assert shell.stdout
    if shell.poll() is not None:
        return Said(command.line, command.text, command.expected, ["[not run: the shell has ended]"])
    shell.stdin.write(f". {folder}/typed </dev/null; printf '\\0%d\\n' $?\n".encode())
    shell.stdin.flush()
    printed = b""
    while (byte := os.read(shell.stdout.fileno(), 65536)) and b"\0" not in printed + byte:
        printed += byte
    output, _, status = (printed + byte).partition(b"\0")
    rows = output.decode("utf-8", "replace").splitlines()
    if status.strip() != b"0":
        rows.append(f"[exit status {int(status)}]" if status else f"[still running after {_SECONDS} s]")
    return Said(command.line, command.text, command.expected, rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
