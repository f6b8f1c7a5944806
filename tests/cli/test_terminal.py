"""What a terminal shows of every command: names as long as real ones, on a terminal of 80 columns, without broken words."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.table import cells
from tests.fakes.archives import noise
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.commands import Result, on_terminal, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import Site
from tests.samples import more

PACKAGE = "openshift-cert-manager-operator"
NEEDED = "openshift-cert-manager-dependency-operator"
VERSION = "1.15.0-202410101010.p0.g1234567.el9"
CATALOG = "redhat-with-a-long-organisation-name/redhat-operator-index"
TITLE = "cert-manager Operator für Red Hat OpenShift 証明書 🔐"


_NUMBERS = itertools.count()  # of files that a command makes: it makes none twice


@dataclass(frozen=True)
class World:
    """The connected side, the archive of it in several volumes, and the disconnected side."""

    source: FakeRegistry
    site: Site
    folder: Path

    def words(self, command: str) -> list[str]:
        """Return a command line with the names of this world."""
        source, site = self.source.host, self.site
        named = {
            "CATALOG": f"{source}/{CATALOG}:v4.18",
            "SOURCE": source,
            "ARCHIVE": str(site.archive),
            "MIRROR": f"{site.mirror.host}/mirror-of-the-disconnected-site/openshift",
            "INSECURE": site.mirror.host,
            "KUBECONFIG": str(site.kubeconfig),
            "OUT": str(self.folder / "out"),
            "NEW": str(self.folder / f"new-{next(_NUMBERS):04}"),
            "GRAPH": str(self.folder / "graph.json"),
        }
        return [named.get(word, word) for word in command.split()]


def _bundle(source: FakeRegistry, package: str, version: str, needs: str = "") -> dict[str, object]:
    name = f"{package}.v{version}"
    csv = f"kind: ClusterServiceVersion\nname: {name}\n".encode()
    parts = [image([{"manifests/csv.yaml": csv}]), image([noise(name, 1_500_000 if version == VERSION else 100)])]
    names = [f"cert-manager/{package}-bundle", f"cert-manager/{package}-rhel9"]
    for repository, each in zip(names, parts, strict=True):
        source.add_image(repository, each, tag=version)
    properties = [
        {"type": "olm.package", "value": {"packageName": package, "version": version}},
        {"type": "olm.csv.metadata", "value": {"displayName": TITLE, "provider": {"name": "Red Hat, Inc."}}},
        *([{"type": "olm.package.required", "value": {"packageName": needs, "versionRange": ">=1.0.0"}}] if needs else []),
    ]
    references = [f"{source.host}/{repository}@{each.digest}" for repository, each in zip(names, parts, strict=True)]
    return {
        "schema": "olm.bundle",
        "package": package,
        "name": name,
        "image": references[0],
        "properties": properties,
        "relatedImages": [{"name": "operand", "image": references[1]}],
    }


def _catalog(source: FakeRegistry) -> None:
    blobs: list[dict[str, object]] = []
    for package, needs in ((PACKAGE, NEEDED), (NEEDED, "")):
        old = f"{package}.v1.14.1-202401010101.p0.g7654321.el9"
        entries = [{"name": f"{package}.v{VERSION}", "replaces": old, "skipRange": f">=1.0.0 <{VERSION}"}, {"name": old}]
        blobs.append({"schema": "olm.package", "name": package, "defaultChannel": "stable-v1"})
        blobs += [
            {"schema": "olm.channel", "package": package, "name": channel, "entries": entries}
            for channel in ("stable-v1", "stable-v1.15")
        ]
        blobs += [_bundle(source, package, version, needs) for version in (VERSION, old.partition(".v")[2])]
    content = "\n".join(map(json.dumps, blobs)).encode()
    labels = {"operators.operatorframework.io.index.configs.v1": "/configs"}
    config = {"Entrypoint": ["/bin/opm"], "Cmd": ["serve", "/configs"]}
    layers = ({"bin/opm": b"opm"}, {"configs/catalog.json": content})
    source.add_image(CATALOG, image(layers, labels=labels, config=config), tag="v4.18")


def _graph() -> dict[str, object]:
    """Return a channel of releases, as the update service answers."""
    payload = "quay.io/openshift-release-dev/ocp-release@sha256:"
    metadata = {"io.openshift.upgrades.graph.release.channels": "candidate-4.18,eus-4.18,fast-4.18,stable-4.18"}
    nodes = [{"version": f"4.18.{n}", "payload": f"{payload}{n:064}", "metadata": metadata} for n in range(1, 4)]
    return {"nodes": nodes, "edges": [[0, 1], [1, 2]]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("terminal")
    with FakeCluster("4.18") as cluster, FakeRegistry() as mirror, FakeRegistry() as source:
        _catalog(source)
        archive = folder / "archives-of-the-forty-seventh-week" / "all-operators-of-the-site"
        made = run(
            *("hub-export", "create", "--catalog", f"{source.host}/{CATALOG}:v4.18", "--package", PACKAGE, "--heads"),
            *("--insecure", source.host, "--signatures", "ignore", "--volume-size", "700000", "--output", archive),
        )
        assert made.status == 0, made.stderr
        cluster.catalog_contents = {}
        site = Site(cluster, mirror, archive, folder)
        (folder / "graph.json").write_text(json.dumps(_graph()))
        put_operator(cluster, InstalledOperator("cert-manager-operator", PACKAGE, PACKAGE, source="redhat-operators"))
        yield World(source, site, folder)


LISTED = "--catalog CATALOG --insecure SOURCE"
MIRROR = "--registry MIRROR --insecure INSECURE"
CLUSTER = f"{MIRROR} --kubeconfig KUBECONFIG"
COMMANDS = [
    f"hub-export list {LISTED}",
    f"hub-export plan {LISTED} --package {PACKAGE} --heads --signatures ignore --explain",
    "hub-import inspect ARCHIVE",
    f"hub-import deploy ARCHIVE {CLUSTER} --dry-run",
    "hub-import operators ARCHIVE --kubeconfig KUBECONFIG",
    *more(
        [
            f"hub-export list {LISTED} --package {PACKAGE}",
            f"hub-export list {LISTED} --package {PACKAGE}:stable-v1.15 --explain",
            "hub-export diff ARCHIVE ARCHIVE",
            "hub-import verify ARCHIVE --progress none",
            f"hub-import probe {CLUSTER}",
            "hub-import status ARCHIVE --kubeconfig KUBECONFIG",
            f"hub-import status --no-cluster {MIRROR}",
            "hub-import doctor --kubeconfig KUBECONFIG",
            "hub-import undo --dry-run --kubeconfig KUBECONFIG",
            "hub-import render ARCHIVE --registry MIRROR --openshift-release 4.18 --output OUT",
            "hub-import verify OUT/nothing",
            f"hub-import push ARCHIVE {MIRROR}",
            f"hub-import receipt ARCHIVE {MIRROR} --output NEW",
            f"hub-import push ARCHIVE {MIRROR} --insecure another-mirror.of-the-disconnected-site.example:5000 --volumes 1-2",
            f"hub-import apply ARCHIVE {CLUSTER} --dry-run",
            "hub-import serve ARCHIVE --listen no-such-host.example.com:5000",
            "hub-import login INSECURE --username robot --password-stdin",
            "hub-export keygen NEW",
            "hub-export build-catalog --manifest-dir NEW --to SOURCE/organisation-of-the-site/catalog-of-the-site:v1",
            "hub-export list --release stable-4.18@4.18.1..4.18.3 --graph-file GRAPH",
            "hub-export list --release stable-4.18 --graph-file GRAPH",
            "hub-export plan --image 127.0.0.1:1/organisation/of-a-registry-that-does-not-answer:v1 --insecure 127.0.0.1:1",
            "hub-export list --catalog no-such-host.example.com/redhat/redhat-operator-index:v4.18",
        ]
    ),
]


def words(text: str) -> set[str]:
    """Return the words of a text, and the parts of its lists without blanks."""
    return {piece for word in text.split() for piece in (word, *re.findall(r"[^,]+,?", word))}


def lines_of(result: Result) -> list[str]:
    """Return what stays on a terminal: without colours, and without what was drawn over."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)
    return [line.rpartition("\r")[2] for line in text.split("\n")]


def _steady(text: str) -> str:
    """Return a text without the numbers that differ from run to run."""
    return re.sub(r"/new-\d{4}|[0-9a-f]{64}|(?<=sha256:)[0-9a-f]+…|SHA256:\S+", "…", text)


def broken(lines: Sequence[str], whole: str) -> list[str]:
    """Return the words of lines that are neither words of the whole text nor end with an ellipsis."""
    known = words(_steady(whole))
    # Rates and times differ.
    kept = [
        _steady(line).removesuffix(" \\")
        for line in lines
        if not re.match("(checked|pushed|fetched) |took |.*: done|.*: .* failed, .* done in ", line)
    ]
    found = [word for line in kept for word in line.split() if not {word, word.removesuffix(":")} & known]
    return [word for word in found if not (word.endswith("…") and any(each.startswith(word[:-1]) for each in known))]


@pytest.mark.parametrize("columns", [80, *more([40, 100, 200])])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_longer_than_a_terminal_and_no_word_is_broken(world: World, command: str, columns: int) -> None:
    program, *arguments = world.words(command)
    # The first push has other numbers than the second one.
    if command.split()[1] in ("push", "receipt") or "--no-cluster" in command:
        assert run(*world.words(f"hub-import push ARCHIVE {MIRROR}")).status == 0
    piped = run(program, *arguments, env={"HUB_REGISTRY_PATIENCE": "1"})
    program, *arguments = world.words(command)
    shown = on_terminal(program, *arguments, columns=columns, env={"NO_COLOR": "1", "HUB_REGISTRY_PATIENCE": "1"})
    print(shown.stdout)
    assert shown.status == piped.status
    # Lines of a diff are those of a file: their blanks mean something.
    lines = [line for line in lines_of(shown) if not re.match(r"[+-] |(---|\+\+\+) [ab]/|\+[a-zA-Z]", line)]
    # A path or an address that is longer than the terminal stays whole, so that it can be copied.
    assert not [line for line in lines if cells(line) > columns and len(line.removesuffix(" \\").split()) > 1]
    assert not broken(lines, piped.stdout + piped.stderr)
    assert "\x1b[3" not in shown.stdout, "NO_COLOR"


def test_names_and_providers_are_listed(world: World) -> None:
    shown = on_terminal(*world.words(f"hub-export list {LISTED}"), columns=120)
    assert f"{PACKAGE}  stable-v1  {TITLE}  Red Hat, Inc." in shown.stdout
    piped = run(*world.words(f"hub-export list {LISTED}"))
    rows = [line for line in piped.stdout.splitlines() if line.startswith(f"{PACKAGE} ")]
    assert len(rows) == 2, "every row has every column"
    assert all(re.search(rf"\.v{VERSION} +2 +{TITLE}  Red Hat, Inc\.$", row) for row in rows)


def uncoloured_after(shown: str) -> bool:
    """Say whether a terminal has its own colours again at the end of each line (ECMA-48, 8.3.117, SGR 0)."""
    last = [re.findall(r"\x1b\[([0-9;]*)m", line)[-1:] for line in shown.split("\n")]
    return all(each in ([], ["0"], [""]) for each in last)


@pytest.mark.parametrize(
    "command", more(["hub-export create --help", f"hub-import deploy ARCHIVE {CLUSTER} --yes --allow-stranded {PACKAGE}"])
)
def test_colours_are_reset(world: World, command: str) -> None:
    cluster = world.site.cluster
    cluster.catalog_contents = {each.image: each.packages for each in world.site.inventory.catalogs}
    shown = on_terminal(*world.words(command), env={"TERM": "xterm-256color", "HUB_REGISTRY_PATIENCE": "1"})
    assert shown.status == 0, shown.stdout
    assert re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", shown.stdout), "it has colours"
    assert uncoloured_after(shown.stdout)
    if "deploy" in command:
        assert "next: hub-import status --kubeconfig" in "\n".join(lines_of(shown))
        undone = on_terminal(*world.words("hub-import undo --kubeconfig KUBECONFIG --yes"))
        assert "next: hub-import operators --kubeconfig" in "\n".join(lines_of(undone))
        cluster.catalog_contents = {}


def _answers(port: int) -> bool:
    """Say whether a server answers: it listens some time before it handles signals."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as asked:
        asked.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
        return asked.recv(1) != b""
    return False


def when_it_answers(port: int) -> Callable[[int], None]:
    """Return what sends Ctrl-C to a process once it answers at a port."""

    def interrupt(process: int) -> None:
        with suppress(ProcessLookupError):
            while not _answers(port):
                os.kill(process, 0)
                time.sleep(0.01)
            os.kill(process, signal.SIGINT)

    return interrupt


@pytest.mark.parametrize("columns", more([40, 80, 200]))
def test_serve_on_a_terminal(world: World, columns: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = world.words(f"hub-import serve ARCHIVE --listen 127.0.0.1:{port}")
    shown = on_terminal(*command, columns=columns, started=when_it_answers(port))
    assert shown.status == 0, shown.stdout
    long = [line for line in lines_of(shown) if cells(line) > columns and len(line.removesuffix(" \\").split()) > 1]
    assert not long
    assert uncoloured_after(shown.stdout)
