"""The power goes at any instant of `create`: what flushes made certain is there, of the rest any part; run again, all is well."""

from __future__ import annotations

import random
import subprocess

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.disk_history import History
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import require
from tests.samples import more

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}
LOSSES = 48


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What an undisturbed export did to its disk, and the archive that it made."""
    require("strace")
    home = tmp_path_factory.mktemp("power")
    if subprocess.run(["strace", "-o", home / "try", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process may be traced here")
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=150_000)
    with FakeRegistry() as source:
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **EPOCH}
        command = [str(BIN / "hub-export"), *create(home, home / "whole")]
        history = History.record(command, home / "whole", home / "logs", environment)
        yield home, history


def create(home, output):
    return [
        *(
            "create",
            "--catalog",
            sources.CATALOG,
            "--package",
            f"{PACKAGE}:stable-v1",
            "--volume-size",
            "1000kB",
            "--parity",
            "5",
        ),
        *("--signatures", "ignore", "--registries-conf", str(home / "registries.conf"), "--output", str(output)),
    ]


def test_the_record_is_the_archive(world, tmp_path):
    """All steps done and all of them durable: exactly what is there. Else the tests below would prove nothing."""
    home, history = world
    chance = random.Random()
    chance.choice = lambda _options: "all"
    history.after_power_loss(len(history.steps), chance, tmp_path / "again")
    assert content(tmp_path / "again") == content(home / "whole")
    kinds = {step.kind for step in history.steps}
    assert kinds >= {"create", "write", "fsync", "fsync-names", "rename", "unlink", "truncate"}
    assert len(list((home / "whole").glob("volume-*.zst"))) > 1


def test_an_export_that_never_flushed_its_files_would_be_found_out(world, tmp_path):
    home, history = world
    careless = History([step for step in history.steps if step.kind != "fsync"])
    broken = 0
    for seed in range(40):
        output = tmp_path / str(seed)
        careless.after_power_loss(len(careless.steps), random.Random(seed), output)
        broken += (output / "SHA256SUMS").exists() and content(output) != content(home / "whole")
    assert broken > 0


@pytest.mark.parametrize("part", [0, *more(range(1, 8))])
def test_after_any_loss_of_power_the_next_run_ends_in_the_same_archive(world, tmp_path, part):
    home, history = world
    whole = content(home / "whole")
    for seed in range(part, LOSSES, 8):
        chance = random.Random(seed)
        output = tmp_path / str(seed)
        history.after_power_loss(chance.randrange(len(history.steps) + 1), chance, output)
        if (output / "SHA256SUMS").exists():
            finished = {name: raw for name, raw in content(output).items() if not name.startswith("hub-export.")}
            assert finished == whole, f"seed {seed}: SHA256SUMS promises what is not there"
            continue
        done = run("hub-export", *create(home, output), env=EPOCH)
        assert done.status == 0, f"seed {seed}: {done.stderr}"
        assert content(output) == whole, f"seed {seed}"


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
