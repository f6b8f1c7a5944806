"""`-` is standard input for image sets, plans and files like them, as for podman, kubectl and oc."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.commands import run
from tests.samples import more

CATALOG = Path(__file__).parents[1] / "data/catalogs/fbc/redhat"
IMAGE_SET = f"""kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  operators:
  - catalog: {CATALOG}
    packages:
    - name: openshift-cert-manager-operator
"""


@pytest.mark.parametrize("words", [["-"], *more([["-c", "-"], ["--config=-"], ["/dev/stdin"]])])
def test_an_image_set_is_read(words) -> None:
    done = run("hub-export", "list", *words, stdin=IMAGE_SET)
    assert done.status == 0, done.stderr
    assert "openshift-cert-manager-operator" in done.stdout


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        ("hub-export", ["plan", "-"], "/dev/stdin:2: not YAML"),
        ("hub-export", ["create", "--plan", "-", "--output", "a"], "/dev/stdin"),
        ("hub-export", ["create", "--images", "-", "--output", "a", "--image", "localhost:1/a/b:c"], "--images /dev/stdin"),
        ("hub-export", ["create", "--only", "-", "--output", "a"], "/dev/stdin"),
        ("hub-export", ["list", "--catalog", str(CATALOG), "--target", "-"], "/dev/stdin"),
        ("hub-import", ["prune", "--plan", "-", "--yes"], "/dev/stdin: not a plan of prune"),
    ],
)
def test_what_is_no_such_file_is_refused(program, words, said, tmp_path) -> None:
    done = run(program, *words, stdin="no such file: [\n", cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert done.stderr.startswith(f"error: {said}")


def test_a_file_named_so_needs_its_directory(tmp_path) -> None:
    (tmp_path / "-").write_text(IMAGE_SET)
    assert run("hub-export", "list", "./-", stdin="", cwd=tmp_path).status == 0
    assert run("hub-export", "list", "-", stdin="", cwd=tmp_path).status == 2


def test_one_file_alone_is_read() -> None:
    done = run("hub-export", "list", "-", "--target", "-", stdin=IMAGE_SET)
    assert done.status == 2
    assert done.stderr.startswith("error: --target and IMAGESET: standard input is one file\n  Name a file for each but one.")


def test_the_size_is_bounded() -> None:
    done = run("hub-export", "list", "-", stdin="#" * (16 * 1024 * 1024 + 1))
    assert (done.status, "/dev/stdin: larger than 16777216 bytes" in done.stderr) == (2, True)


def test_a_socket_is_read() -> None:
    """sshd gives a command without a terminal a socket, whose name cannot be opened."""
    near, far = socket.socketpair()
    script = "from common.files import STDIN, read_limited; print(read_limited(STDIN, 9))"
    with near, far:
        near.sendall(b"content")
        near.shutdown(socket.SHUT_WR)
        done = subprocess.run([sys.executable, "-c", script], stdin=far, capture_output=True, text=True, check=False)
    assert done.stdout == "b'content'\n", done.stderr
