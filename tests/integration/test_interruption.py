"""Ctrl-C: the command ends soon, says how to go on, and the next run gets there."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.link import Link
from tests.fakes.servers import docker_registry
from tests.samples import more

pytestmark = pytest.mark.integration
PACKAGE = "openshift-cert-manager-operator"


@pytest.mark.parametrize("moment", ["fetching", *more(["looking up"])])
def test_ctrl_c_keeps_what_was_done_and_the_next_run_finishes(tmp_path, moment):
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=400_000, level=0)
    with docker_registry(tmp_path, name="source") as source, Link(source.host, rate=2_000_000) as slow:
        content.seed(f"http://{source.host}")
        (tmp_path / "registries.conf").write_text(content.registries_conf(slow.host, insecure=True))
        env = {
            "HUB_EXPORT_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
        }
        chosen = [
            "--catalog",
            sources.CATALOG,
            "--package",
            PACKAGE,
            "--full",
            "--output",
            str(tmp_path / "out"),
            "--jobs",
            "1",
        ]
        command = [str(BIN / "hub-export"), "create", *chosen]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        told = []
        for line in process.stderr:
            told.append(line)
            if moment in line:
                time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                break
        _, rest = process.communicate(timeout=120)
        assert process.returncode == 130, "".join([*told, rest])
        assert "run the same command again" in rest
        assert "Traceback" not in rest
        assert not (tmp_path / "out" / "SHA256SUMS").exists()
        (tmp_path / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        again = run("hub-export", "create", *chosen, env=env)
    assert again.status == 0, again.stderr
    assert run("hub-import", "verify", tmp_path / "out").status == 0
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("volume-")}
    assert left == {"SHA256SUMS", "inventory.json", "report.html"}
