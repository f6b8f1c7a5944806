"""A real Pulp (pulpcore with pulp-container) for tests: PostgreSQL, API, content server, worker and token server, on loopback.

Pulp is installed in an environment of its own, which `make test-all` makes next to the one of the tests (Makefile). No Redis: Pulp
uses it for its cache alone, and PostgreSQL's advisory locks for its workers.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.secrets import REAL_PASSWORD
from tests.fakes.servers import free_port

USER, PASSWORD = "admin", REAL_PASSWORD  # Pulp makes this account; only its password is set
_ACCOUNT = f"{USER}:{PASSWORD}"
BIN = Path(f"{sys.prefix}-pulp/bin")
_PROGRAMS = ("initdb", "postgres")
# Nothing here has to survive a power cut. Connections come through a socket in a directory that only this user may enter.
_UNSAFE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=50")
_SETTINGS = """\
SECRET_KEY = "for-tests"
DB_ENCRYPTION_KEY = "{home}/key"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "pulp", "HOST": "{home}/db"}}}}
DEPLOY_ROOT = "{home}"
MEDIA_ROOT = "{home}/media"
STATIC_ROOT = "{home}/assets"
WORKING_DIRECTORY = FILE_UPLOAD_TEMP_DIR = "{home}/tmp"
ANALYTICS = False
CONTENT_ORIGIN = "http://{content}"
TOKEN_SERVER = "http://{api}/token/"
TOKEN_SIGNATURE_ALGORITHM = "ES256"
PUBLIC_KEY_PATH = "{home}/public.pem"
PRIVATE_KEY_PATH = "{home}/private.pem"
"""


@dataclass(frozen=True)
class Pulp:
    """A running Pulp: `host` is the registry's host:port, `content` where blobs are read; `home` has its logs and files."""

    host: str
    content: str
    home: Path

    @property
    def log(self) -> list[str]:
        """The requests so far, as `METHOD PATH STATUS`, of the registry and its token server."""
        return (self.home / "requests.log").read_text().splitlines()

    def keep_short(self, repository: str, digest: str) -> None:
        """Leave an empty blob under a digest, as a client does whose connection broke while it sent the blob in one PUT."""
        token = self._asked("GET", f"/token/?service={self.host}&scope=repository:{repository}:pull,push", basic_auth=_ACCOUNT)
        bearer = {"Authorization": f"Bearer {json.loads(token.data)['token']}"}
        session = self._asked("POST", f"/v2/{repository}/blobs/uploads/", **bearer).headers["Location"]
        self._asked("PUT", f"{session}?digest={digest}", **bearer)

    def clean_orphans(self) -> None:
        """Delete what no repository has, and wait for the end of that task."""
        body = json.dumps({"orphan_protection_time": 0}).encode()
        task = self._asked("POST", "/pulp/api/v3/orphans/cleanup/", body, basic_auth=_ACCOUNT)
        href = json.loads(task.data)["task"]
        for _ in range(600):
            state = json.loads(self._asked("GET", href, basic_auth=_ACCOUNT).data)["state"]
            if state not in ("waiting", "running"):
                assert state == "completed", state
                return
            time.sleep(0.1)
        raise RuntimeError("Pulp does not clean up")

    def _asked(
        self, method: str, path: str, body: bytes = b"", *, basic_auth: str = "", **headers: str
    ) -> urllib3.BaseHTTPResponse:
        more = urllib3.make_headers(basic_auth=basic_auth) if basic_auth else {}
        if body:
            more["Content-Type"] = "application/json"
        answer = urllib3.request(method, f"http://{self.host}{path}", body=body, headers={**more, **headers})
        assert answer.status < 300, answer.data
        return answer

    def manage(self, *arguments: str) -> None:
        """Run a command of Pulp's own administration."""
        _run([BIN / "pulpcore-manager", *arguments], self.home)


@contextmanager
def pulp() -> Iterator[Pulp]:
    """Start Pulp, empty, with USER and PASSWORD. Skips the test where its environment or PostgreSQL is missing."""
    programs = _found()
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="hub-pulp-"))
        stack.callback(shutil.rmtree, home)
        home.chmod(0o711)  # the database's user has to reach its directory below this one
        server = Pulp(f"localhost:{free_port()}", f"localhost:{free_port()}", home)
        _database(stack, home, programs)
        _configure(server)
        server.manage("migrate", "--noinput")
        server.manage("reset-admin-password", "--password", PASSWORD)
        logged = ["--access-logfile", str(home / "requests.log"), "--access-logformat", "%(m)s %(U)s %(s)s"]
        _start(stack, "api", ["pulpcore-api", "-b", server.host, "-w", "2", *logged], home)
        _start(stack, "content", ["pulpcore-content", "-b", server.content, "-w", "1"], home)
        _start(stack, "worker", ["pulpcore-worker"], home)
        for host in (server.host, server.content):
            _wait_for(host, home)
        yield server


def _found() -> Mapping[str, str]:
    """Return the programs of PostgreSQL, which Debian puts beside the path."""
    if not (BIN / "pulpcore-api").exists():
        pytest.skip(f"no Pulp: `make test-all` makes {BIN.parent.name} where Python and the package index allow it")
    beside = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = os.pathsep.join([*beside, os.environ["PATH"]])
    found = {name: shutil.which(name, path=path) or "" for name in _PROGRAMS}
    if not all(found.values()):
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    return found


def _database(stack: ExitStack, home: Path, programs: Mapping[str, str]) -> None:
    """Start a cluster of PostgreSQL that only a socket leads to, as an unprivileged user: initdb and postgres refuse root."""
    folder = home / "db"
    folder.mkdir(0o700)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = ["-D", str(folder / "data")]
    how = ["-U", "pulp", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run([programs["initdb"], *data, *how], cwd="/", env=_environment(home), check=True, capture_output=True, **who)
    options = [part for option in (*_UNSAFE, f"unix_socket_directories={folder}") for part in ("-c", option)]
    command = [programs["postgres"], *data, *options]
    # SIGINT: it disconnects its clients instead of waiting for them.
    _start(stack, "postgres", command, home, stop=signal.SIGINT, **who)
    for _ in range(200):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(folder / ".s.PGSQL.5432"))
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not start:\n{(home / 'postgres.log').read_text()}")


def _configure(server: Pulp) -> None:
    """Write settings and keys."""
    home = server.home
    for name in ("media", "tmp", "assets"):
        (home / name).mkdir()
    (home / "key").write_bytes(Fernet.generate_key())
    key = ec.generate_private_key(ec.SECP256R1())
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (home / "private.pem").write_bytes(private)
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    (home / "public.pem").write_bytes(public)
    (home / "settings.py").write_text(_SETTINGS.format(home=home, api=server.host, content=server.content))


def _environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(BIN), "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PULP_SETTINGS": str(home / "settings.py")}


def _run(command: list[Path | str], home: Path) -> None:
    done = subprocess.run(command, env=_environment(home), cwd=home, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def _start(stack: ExitStack, name: str, command: list[str], home: Path, stop: int = signal.SIGTERM, **who: Any) -> None:
    """Start a process; it ends with the stack, by its own id."""
    program = BIN / command[0] if name != "postgres" else command[0]
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), *command[1:]], stdout=log, stderr=subprocess.STDOUT, env=_environment(home), cwd="/", **who
        )
    stack.callback(process.wait, 60)
    stack.callback(process.send_signal, stop)


def _wait_for(host: str, home: Path) -> None:
    name, _, port = host.partition(":")
    for _ in range(1200):
        with suppress(OSError):
            socket.create_connection((name, int(port)), 1).close()
            return
        time.sleep(0.05)
    logs = "\n".join((home / f"{each}.log").read_text()[-2000:] for each in ("api", "content", "worker"))
    raise RuntimeError(f"Pulp does not start:\n{logs}")
