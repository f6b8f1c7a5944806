"""What happens between the commands of a document, without one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from pathlib import Path

import yaml

from tests.docs.goods import ACCOUNT, Hall
from tests.fakes.commands import run
from tests.fakes.secrets import FAKE_PASSWORD


def _archive(folder: Path, key: Path | None = None) -> None:
    """Make an archive with the head of one package; `key`: the pair that is made to sign it with."""
    if key:
        assert run("hub-export", "keygen", key).status == 0
    signed = ["--sign", f"{key}.key"] if key else []
    catalog = "registry.redhat.io/redhat/redhat-operator-index:v4.18"
    with tempfile.TemporaryDirectory() as name:
        auth = base64.b64encode(f"{ACCOUNT}:{FAKE_PASSWORD}".encode()).decode()
        authfile = Path(name, "auth.json")
        authfile.write_text(json.dumps({"auths": {"registry.redhat.io": {"auth": auth}}}))
        done = run(
            *("hub-export", "create", "--catalog", catalog, "--package", "openshift-cert-manager-operator:stable-v1"),
            *("--authfile", authfile, "--output", folder, *signed),
            env={"SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]},
            cwd=Path(name),
        )
    assert done.status == 0, done.stderr


def happen(words: tuple[str, ...], hall: Hall, home: Path) -> None:
    """Let one thing happen.

    `week`: the publisher moves on; `scratch FILE`: bytes in its middle go bad; `lose FILE`; `archive DIR [KEY]`: one comes from the other side, signed with KEY;
    `apply FILE`: somebody else writes an object; `node NAME FAULT`: a node cannot pull any more (cluster_kubelets.py); `burn DIR NUMBER DISC`: a volume and the
    small files, instead of what was there; `manifests DIR`: package manifests.
    """
    what, *names = words
    paths = [home / name for name in names]
    if what == "week":
        hall.publish(hall.files)
    elif what == "scratch":
        raw = bytearray(paths[0].read_bytes())
        middle = len(raw) // 2
        raw[middle : middle + 4096] = bytes(255 - byte for byte in raw[middle : middle + 4096])
        paths[0].write_bytes(raw)
    elif what == "lose":
        paths[0].unlink()
    elif what == "archive":
        _archive(*paths)
    elif what == "apply":
        hall.cluster.put(yaml.safe_load(paths[0].read_bytes()), "oc-mirror")
    elif what == "node":
        hall.cluster.kubelets.nodes[names[0]].fault = names[1]
    elif what == "burn":
        archive, number, disc = paths[0], int(names[1]), paths[2]
        for old in disc.iterdir():
            old.unlink()
        for pattern in ("[!v]*", f"volume-{number:04}*"):
            for found in archive.glob(pattern):
                shutil.copy(found, disc)
    elif what == "manifests":
        hall.bring_manifests(paths[0])
    else:
        raise ValueError(f"nobody knows what happens: {words}")
