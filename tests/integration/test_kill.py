"""kill -9 at random instants of `create` and `push`; run again to the end, nothing is lost and nothing brought twice."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import time
from collections import Counter
from urllib.parse import unquote

import msgspec
import pytest

from common.archive.volume import JOURNAL_NAME
from common.oci.reference import Reference
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from exporter.archive.output import read_journal
from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import killed_when, run
from tests.fakes.link import Link
from tests.fakes.servers import docker_registry
from tests.samples import more

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"
KILLS = {0: 3}  # of a seed; five of those of `make test-all`
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}
_LINE = re.compile(r'"(\w+) (/v2/\S*) HTTP/1\.1" (\d+) \d+ "[^"]*" "hub-airgap"')


def lines(server, since=0):
    found = [_LINE.search(line) for line in server.log.read_text().splitlines()]
    return [(match[1], unquote(match[2]), int(match[3])) for match in found if match][since:]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A source registry, an archive made without disturbance, and how many bytes of the registry's log that took."""
    home = tmp_path_factory.mktemp("kill")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=2_000_000, level=0)
    with docker_registry(home, name="source") as source:
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        began = source.log.stat().st_size
        done = run("hub-export", *create(home, home / "whole"), env=EPOCH)
        assert done.status == 0, done.stderr
        yield home, source, source.log.stat().st_size - began


def create(home, output):
    return [
        *("create", "--catalog", sources.CATALOG, "--package", PACKAGE, "--full", "--volume-size", "8MiB"),
        *("--signatures", "ignore", "--registries-conf", str(home / "registries.conf"), "--output", str(output)),
    ]


def killed(program, arguments, log, growth, after_s):
    """Run a command and kill it once a registry's log has grown by so many bytes, a moment later; unless it was done before.

    What it has asked for says how far it is, however slow or quick the machine is just now.
    """
    before = log.stat().st_size

    def moment():
        if log.stat().st_size < before + growth:
            return False
        time.sleep(after_s)
        return True

    done = killed_when(moment, program, *arguments, env=EPOCH)
    return done.status, log.stat().st_size - before


def complete(output):
    """Return the digests whose bytes are all in their places, by the formula of the format alone."""
    layout = read_journal(output / JOURNAL_NAME)
    found = set()
    for digest, placed in layout.blobs.items() if layout else ():
        content = b""
        for piece in placed.pieces:
            volume = output / layout.volumes[piece.volume - 1].name
            raw = volume.read_bytes()[piece.offset : piece.offset + piece.stored] if volume.exists() else b""
            for start in range(14, len(raw), 131_075):
                content += raw[start + 3 : start + 131_075]
        if placed.encoding == "raw" and f"sha256:{hashlib.sha256(content).hexdigest()}" == digest:
            found.add(digest)
    stored = output / "hub-export.catalogs/sha256"
    found.update(f"sha256:{path.name}" for path in stored.glob("*") if re.fullmatch("[0-9a-f]{64}", path.name))
    return found


@pytest.mark.parametrize("seed", [0, *more(range(1, 10))])
def test_create_killed_again_and_again_ends_in_the_same_archive(world, tmp_path, seed):
    home, source, logged = world
    chance = random.Random(seed)
    output = tmp_path / "out"
    kills, left = 0, logged
    while kills < KILLS.get(seed, 5):
        before, had = len(lines(source)), complete(output)
        status, grown = killed(
            "hub-export", create(home, output), source.log, chance.uniform(0.05, 1.0) * left, chance.uniform(0, 0.1)
        )
        left = max(left - grown, logged // 10)
        fetched = {path.rpartition("/")[2] for method, path, _ in lines(source, before) if "/blobs/" in path}
        assert not fetched & had, "what was whole was fetched again"
        kills += status == -signal.SIGKILL
        if (output / "SHA256SUMS").exists():  # it was done; what its own files left behind, the next one takes away
            again = run("hub-export", *create(home, output), env=EPOCH)
            assert (again.status, "is already complete" in again.stderr) == (0, True)
            assert same(home / "whole", output)
            shutil.rmtree(output)
            left = logged
    before, had = len(lines(source)), complete(output)
    done = run("hub-export", *create(home, output), env=EPOCH)
    assert done.status == 0, done.stderr
    fetched = {path.rpartition("/")[2] for method, path, _ in lines(source, before) if "/blobs/" in path}
    assert not fetched & had, "what was whole was fetched again"
    assert same(home / "whole", output)


def same(one, other):
    """Say whether two directories have the same files, to the byte."""
    whole, again = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (one, other))
    return whole == again


@pytest.mark.parametrize("seed", [0, *more(range(1, 10))])
def test_push_killed_again_and_again_ends_in_a_complete_registry(world, tmp_path, seed):
    home, _, logged = world
    chance = random.Random(seed)
    with docker_registry(tmp_path) as mirror:
        push = ["push", str(home / "whole"), "--registry", mirror.host, "--insecure", mirror.host, "--format", "json"]
        kills, longest = 0, logged  # to begin with: a push asks for about as much as the export
        while kills < KILLS.get(seed, 5):
            growth, moment_s = chance.uniform(0.05, 1.0) * longest, chance.uniform(0, 0.1)
            status, _ = killed("hub-import", push, mirror.log, growth, moment_s)
            kills += status == -signal.SIGKILL
            longest *= 1.0 if status == -signal.SIGKILL else 0.6  # what is there already is not sent any more
        done = run("hub-import", *push)
        assert done.status == 0, done.stderr
        assert done.json["ok"] is True
        inventory = json.loads((home / "whole/inventory.json").read_bytes())
        settings = RegistrySettings(insecure=frozenset({mirror.host}))
        with RegistryClient(settings) as client:
            for image in inventory["images"]:
                repository = Reference(mirror.host, Reference.parse(image["source"]).repository)
                document = client.document(repository.pinned(image["digest"]))
                assert document.digest == image["digest"]
                for digest in needs(inventory, image["digest"]):
                    record = inventory["blobs"][digest]
                    assert client.has_blob(repository, digest), record
        written = Counter(
            (path.partition("/blobs/")[0], path.partition("digest=")[2])
            for method, path, status in lines(mirror)
            if method == "PUT" and "/blobs/uploads/" in path and status == 201
        )
        assert set(written.values()) <= {1}, "a blob that was there was sent again"


def needs(inventory, digest):
    record = inventory["manifests"][digest]
    yield from record.get("blobs", ())
    for child in record.get("manifests", ()):
        yield from needs(inventory, child)


@pytest.mark.more
def test_another_image_set_takes_over_what_is_there(world, tmp_path):
    home, source, _ = world
    output = tmp_path / "out"
    whole = (home / "registries.conf").read_text()
    with Link(source.host, rate=1_000_000, hold_after=30_000_000) as slow:
        (tmp_path / "registries.conf").write_text(whole.replace(source.host, slow.host))

        def moment():
            time.sleep(0.1)
            return (output / JOURNAL_NAME).exists() and (slow.held.is_set() or len(complete(output)) >= 6)

        killed = killed_when(moment, "hub-export", *create(tmp_path, output), env=EPOCH)
        assert killed.status == -signal.SIGKILL
    had = complete(output)
    assert had
    before = len(lines(source))
    arguments = [each for each in create(home, output) if each not in ("--full", "--package", PACKAGE)]
    done = run("hub-export", *arguments, "--package", f"{PACKAGE}:stable-v1", env=EPOCH)
    assert done.status == 0, done.stderr
    fetched = {path.rpartition("/")[2] for method, path, _ in lines(source, before) if "/blobs/" in path}
    assert not fetched & had
    assert run("hub-import", "verify", output).status == 0
    left = {path.name for path in output.iterdir() if not path.name.startswith("volume-")}
    assert left == {"SHA256SUMS", "inventory.json", "report.html"}
    assert msgspec.json.decode((output / "inventory.json").read_bytes())["problems"] == []
