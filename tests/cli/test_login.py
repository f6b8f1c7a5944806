"""`login`: asks the registry, and writes what podman, skopeo and oc read."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
import time

import pytest

from tests.fakes.commands import BIN, run
from tests.fakes.factories import image, seed
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.fakes.servers import PASSWORD as REAL_PASSWORD
from tests.fakes.servers import USER as REAL_USER
from tests.fakes.servers import docker_registry, require


def login(*arguments, stdin=PASSWORD, env=None, program="hub-export"):
    return run(program, "login", *arguments, "--password-stdin", "-u", USER, stdin=stdin, env=env)


@pytest.mark.parametrize(
    ("program", "auth"),
    [
        ("hub-export", "token"),
        ("hub-import", "basic"),
        *(pytest.param(*each, marks=pytest.mark.more) for each in (("hub-export", "basic"), ("hub-import", "token"))),
    ],
)
def test_a_login_is_checked_kept_and_used(tmp_path, auth, program):
    file = tmp_path / "new" / "auth.json"
    with FakeRegistry(tls=True, auth=auth) as registry:
        reference = registry.add_image("org/app", image(), tag="v1")
        done = login(registry.host, "-a", file, "--ca", registry.ca, program=program)
        assert done.status == 0, done.stderr
        assert str(file) in done.stdout
        assert file.stat().st_mode & 0o777 == 0o600
        planned = run("hub-export", "plan", "--image", str(reference), "-a", file, "--ca", registry.ca)
        assert planned.status == 0, planned.stderr


def test_what_else_is_in_the_file_stays(tmp_path):
    file = tmp_path / "auth.json"
    before = {"auths": {"quay.io": {"auth": "eDp5", "email": "x"}}, "unknown": [1], "credHelpers": {"ecr": "aws"}}
    file.write_text(json.dumps(before))
    with FakeRegistry(auth="basic") as registry:
        assert login(f"{registry.host}/org", "-a", file, "--insecure").status == 0
        after = json.loads(file.read_text())
        assert after.pop("auths") == {**before["auths"], f"{registry.host}/org": {"auth": after_auth(USER, PASSWORD)}}
        assert after == {key: value for key, value in before.items() if key != "auths"}


def after_auth(user, password):
    import base64

    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_refused_credentials_change_nothing(tmp_path):
    file = tmp_path / "auth.json"
    file.write_text('{"auths": {}}')
    with FakeRegistry(auth="basic") as registry:
        done = login(registry.host, "-a", file, "--insecure", stdin="not the password")
    assert done.status == 5
    assert "the credentials were refused" in done.stderr
    assert file.read_text() == '{"auths": {}}'


@pytest.mark.parametrize(
    ("content", "told"), [("{", "auth.json"), ('{"auths": []}', "auths is no object"), ("[]", "Expected `object`")]
)
def test_a_broken_file_is_named_before_anybody_is_asked(tmp_path, content, told):
    file = tmp_path / "auth.json"
    file.write_text(content)
    with FakeRegistry(auth="basic") as registry:
        done = login(registry.host, "-a", file, "--insecure")
        assert registry.log() == []
    assert done.status == 2
    assert told in done.stderr
    assert str(file) in done.stderr
    assert file.read_text() == content


@pytest.mark.parametrize("place", ["", "https://quay.io", "quay.io/Org", "a b"])
def test_what_is_no_registry(place):
    done = login(place)
    assert done.status == 2
    assert "not a registry" in done.stderr


def test_empty_standard_input_without_a_terminal():
    assert "standard input is empty" in login("localhost:1", stdin="").stderr
    done = run("hub-export", "login", "localhost:1")
    assert done.status == 2
    assert "standard input is not a terminal" in done.stderr


def test_the_places_are_podmans(tmp_path):
    with FakeRegistry(auth="basic") as registry:
        for name, expected in (
            ({"REGISTRY_AUTH_FILE": str(tmp_path / "named.json")}, tmp_path / "named.json"),
            ({"XDG_RUNTIME_DIR": str(tmp_path)}, tmp_path / "containers/auth.json"),
        ):
            done = login(registry.host, "--insecure", env=name)
            assert done.status == 0, done.stderr
            assert registry.host in json.loads(expected.read_text())["auths"]


def test_a_helper_gets_the_secret_on_its_standard_input(tmp_path):
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f'#!/bin/sh\n[ "$1" = store ] || exit 1\ncat >{tmp_path}/stored\n')
    helper.chmod(0o755)
    file = tmp_path / "auth.json"
    with FakeRegistry(auth="basic") as registry:
        file.write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
        done = login(registry.host, "-a", file, "--insecure", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        assert done.status == 0, done.stderr
        stored = json.loads((tmp_path / "stored").read_text())
        assert stored == {"ServerURL": registry.host, "Username": USER, "Secret": PASSWORD}
        assert PASSWORD not in file.read_text()
        helper.write_text("#!/bin/sh\nexit 3\n")
        failed = login(registry.host, "-a", file, "--insecure", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        assert failed.status == 2
        assert "exit status 3" in failed.stderr


def test_a_person_is_asked_and_the_password_is_not_shown(tmp_path):
    file = tmp_path / "auth.json"
    with FakeRegistry(auth="basic") as registry:
        outside, inside = pty.openpty()
        process = subprocess.Popen(
            [str(BIN / "hub-export"), "login", registry.host, "--insecure", "-a", str(file)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            start_new_session=True,
        )
        os.close(inside)
        shown = b""
        answers = {b"Username": USER, b"Password": PASSWORD}
        while True:
            try:
                shown += os.read(outside, 10_000)
            except OSError:
                break
            for question in [q for q in answers if q in shown]:
                while question == b"Password" and termios.tcgetattr(outside)[3] & termios.ECHO:
                    time.sleep(0.01)  # what is typed before the echo is off is thrown away
                os.write(outside, answers.pop(question).encode() + b"\n")
        assert process.wait(120) == 0, shown
        os.close(outside)
        assert PASSWORD.encode() not in shown
        assert registry.host in json.loads(file.read_text())["auths"]


def test_skopeo_reads_what_login_wrote(tmp_path):
    skopeo = require("skopeo")
    file = tmp_path / "auth.json"
    with docker_registry(tmp_path, tls=True, htpasswd=True) as server:
        seed(f"https://{server.host}", "org/app", image(), tag="v1", login=(REAL_USER, REAL_PASSWORD), ca=server.ca)
        done = run(
            *("hub-import", "login", server.host, "-u", REAL_USER, "--password-stdin", "-a", file, "--ca", server.ca),
            stdin=REAL_PASSWORD + "\n",
        )
        assert done.status == 0, done.stderr
        certs = tmp_path / "certs"
        certs.mkdir()
        (certs / "ca.crt").write_bytes(server.ca.read_bytes())
        seen = subprocess.run(
            [skopeo, "inspect", "--raw", "--authfile", file, "--cert-dir", certs, f"docker://{server.host}/org/app:v1"],
            capture_output=True,
            check=False,
        )
        assert seen.returncode == 0, seen.stderr
        assert seen.stdout == image().raw
