"""Files that a command writes, on a file system that is full (ENOSPC) or over its quota: exit status 7, and the old file stays."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ExitCode
from common.files import unwritable
from tests.docs.reading import ROOT
from tests.fakes import hostile
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration

# One process for all commands: the namespace with its mount ends with it. `_full` fills the file system to its last page.
_SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from exporter.cli.app import main as export
from importer.cli.app import main as bring

disk, mirror, archive = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
there = ["--registry", mirror, "--insecure", mirror]
commands = {
    "receipt": (bring, ["receipt", archive, *there, "--output", f"{disk}/receipt.json", "--sign", f"{archive}/key.key"]),
    "render": (bring, ["render", archive, *there, "--openshift-release", "4.18", "--output", f"{disk}/files"]),
    "login": (bring, ["login", mirror, "--insecure", "-u", "me", "--password-stdin", "--authfile", f"{disk}/auth.json"]),
    "keygen": (export, ["keygen", f"{disk}/key"]),
}

def present():
    return {str(path.relative_to(disk)): path.read_text() for path in sorted(disk.rglob("*")) if path.is_file()}

def run(name):
    main, arguments = commands[name]
    sys.argv, sys.stdin, said = ["hub", *arguments], io.StringIO("secret-of-me\\n"), io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return end.code, said.getvalue()

before = {"receipt.json": "old", "receipt.json.sig": "old", "files/operatorhub.yaml": "old", "auth.json": '{"auths": {}}'}
(disk / "files").mkdir()
for name, text in before.items():
    (disk / name).write_text(text)
commands["first key"] = (export, ["keygen", f"{archive}/key"])
assert run("first key") == (0, "")
del commands["first key"]
filler = (disk / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
full = {name: run(name) for name in commands}
(disk / "filler").unlink(), filler.close()
kept = present() == before
print(json.dumps({"full": full, "kept": kept, "left": sorted(present()), "then": {name: run(name) for name in commands}}))
"""


def test_a_full_disk_is_exit_status_7_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    archive, disk = tmp_path / "archive", tmp_path / "disk"
    archive.mkdir()
    disk.mkdir()
    (archive / "volume-0001.tar.zst").write_bytes(hostile.volume(hostile.compact(hostile.inventory())))
    with FakeRegistry() as mirror:
        script = f'mount -t tmpfs -o size=256k none {disk} && exec "$0" -c "$1" {disk} {mirror.host} {archive}'
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, sys.executable, _SCRIPT],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, (status, stderr) in found["full"].items():
        assert status == 7, (name, stderr)
        assert f"error: {disk}/" in stderr, stderr
        assert "cannot be written: No space left on device\n  Free some" in stderr
    assert found["kept"], found["left"]
    assert {name: status for name, (status, _) in found["then"].items()} == dict.fromkeys(found["full"], 0), found["then"]


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, ExitCode.SPACE),
        (errno.EDQUOT, ExitCode.SPACE),
        (errno.EIO, ExitCode.FAILED),
        (errno.ENOTCONN, ExitCode.FAILED),
        (errno.EROFS, ExitCode.USAGE),
        (errno.EACCES, ExitCode.USAGE),
        (errno.ENAMETOOLONG, ExitCode.USAGE),
    ],
)
def test_the_exit_status_is_by_the_cause(number: int, status: ExitCode) -> None:
    assert unwritable("x", OSError(number, "why"), "Name another.").exit_code is status
