"""A registry on loopback, made for tests: real sockets, the whole push and pull protocol, a log, and faults on demand.

    with FakeRegistry(tls=True, auth="token") as registry:
        reference = registry.add_image("org/app", image(), tag="v1")
        registry.fault("GET", "/blobs/", cut_after=1000)
        ...
        assert [r.status for r in registry.log("GET", "/blobs/")] == [200, 206]

State may be read and changed from the test at any time. What it cannot do by itself it refuses as a real one would.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import trustme

from common.oci import media_types
from common.oci.image import Descriptor, Digest, digest_of
from common.oci.reference import Reference
from tests.fakes.factories import Parts
from tests.fakes.registry_profile import Profile
from tests.fakes.registry_protocol import OtherOriginHandler, RegistryHandler
from tests.fakes.registry_server import Fault, Request, Server
from tests.fakes.secrets import FAKE_PASSWORD, FAKE_USER

USER, PASSWORD = FAKE_USER, FAKE_PASSWORD


@dataclass
class Repository:
    """What one repository holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Quay:
    """What Quay's token server grants (quay/quay, endpoints/v2/v2auth.py, `_authorize_or_downscope_request`).

    `pull` only of a repository that exists; `push` creates one in the namespaces in `creates`. `readers` may pull alone: they
    get less than they ask for. `refuses`: the status with which servers answer that grant all of a scope or nothing.
    `only_in`: the namespace that an account is for, as robots are. `needs_repository`: `/v2/` alone is 401 to every account.
    """

    creates: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    refuses: int = 0
    only_in: dict[str, str] = field(default_factory=dict)
    needs_repository: bool = False

    def actions(self, user: str | None, name: str, actions: set[str], exists: bool) -> set[str]:
        """Return which actions are granted; a repository is to be created where `push` is, and it does not exist."""
        namespace = name.partition("/")[0]
        if user is None or not self.allows(user, name):
            return set()
        pushes = user not in self.readers and (exists or namespace in self.creates)
        granted = {"push"} & actions if pushes else set()
        return granted | ({"pull"} & actions if exists or granted else set())

    def allows(self, user: str, name: str) -> bool:
        """Say whether an account is for a repository; empty for `/v2/`."""
        return not self.needs_repository if not name else f"{name}/".startswith(f"{self.only_in.get(user, name)}/")


class FakeRegistry:
    """See the module. Options are attributes too: change them while it runs."""

    def __init__(
        self,
        *,
        tls: bool = False,
        auth: Literal["basic", "token"] | None = None,
        anonymous: bool = False,
        token_life_s: float | None = 300,
        certificate_for: str = "localhost",
        address: tuple[str, int] = ("127.0.0.1", 0),
        authority: trustme.CA | None = None,
        certificate_until: datetime | None = None,
        mounts: bool = True,
        ranges: bool = True,
        redirect: bool = False,
        relative_locations: bool = True,
        sparse: bool = False,
        referrers: bool = True,
        max_body: int | None = None,
        chunk_min_length: int | None = None,
        page: int = 100,
        profile: Profile | None = None,
    ) -> None:
        self.profile = profile or Profile()
        self.auth, self.anonymous, self.token_life_s = auth, anonymous, token_life_s
        self.mounts, self.ranges, self.redirect, self.relative_locations = mounts, ranges, redirect, relative_locations
        self.sparse, self.referrers, self.max_body, self.chunk_min_length = sparse, referrers, max_body, chunk_min_length
        self.page = page
        self.deletes = True
        self.max_depth: int | None = None  # components of a repository's name
        self.deep_token = 0  # what its token server says of a name of more: 200 is a token that grants nothing
        # A rule of the registry about a manifest: repository, reference, Content-Type to status, code, text; None: it is taken.
        self.manifest_rule: Callable[[str, str, str], tuple[int, str, str] | None] = lambda *_manifest: None
        self.quay: Quay | None = None
        self.refused_mounts: dict[str, int] = {}  # statuses, by source
        self.readers: set[str] = set()  # accounts that may only pull
        self.prepared: set[str] = set()  # projects or repositories that somebody made, where the profile wants that
        self.passwords = {USER: PASSWORD}
        self.identity_tokens: set[str] = set()
        self.realm: str | None = None  # where tokens are; None: here
        self.repositories: defaultdict[str, Repository] = defaultdict(Repository)
        self.requests: list[Request] = []
        self.elsewhere: list[Request] = []  # what the second origin was asked
        self.lock = threading.RLock()
        self.handshakes = 0  # connections that began TLS
        self._faults: list[Fault] = []
        self.tokens: dict[str, tuple[set[str], float]] = {}
        self.holders: dict[str, str | None] = {}  # of tokens, by the Authorization header
        self.sessions: dict[str, bytearray] = {}
        self.chunks: defaultdict[str, list[int]] = defaultdict(list)  # of each session
        self.arrivals: dict[str, int] = {}  # of blobs: how many requests there had been
        self.asked = 0  # requests so far; `requests` may be cleared
        self.signatures: set[str] = set()
        self.errors: list[BaseException] = []
        self._tls = tls
        self._certificate_for = certificate_for
        self._address = address
        self._authority = authority or trustme.CA()
        self._certificate_until = certificate_until

    # Life.

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        context = self._context() if self._tls else None
        self._server = Server(RegistryHandler, self, context, self._address)
        self._other = Server(OtherOriginHandler, self, context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()
        self._other.stop()
        self._folder.cleanup()
        if self.errors and error is None:
            raise self.errors[0]

    def _context(self) -> ssl.SSLContext:
        authority = self._authority
        authority.cert_pem.write_to_path(str(self.ca))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        begin = datetime(2000, 1, 1, tzinfo=UTC) if self._certificate_until else None
        authority.issue_cert(self._certificate_for, not_before=begin, not_after=self._certificate_until).configure_cert(context)
        return context

    @property
    def ca(self) -> Path:
        return Path(self._folder.name) / "ca.pem"

    @property
    def host(self) -> str:
        return f"localhost:{self._server.port}"

    @property
    def elsewhere_host(self) -> str:
        return f"localhost:{self._other.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    # Content.

    def add_blob(self, repository: str, content: bytes, media_type: str = media_types.OCI_LAYER_GZIP) -> Descriptor:
        digest = digest_of(content)
        with self.lock:
            self.repositories[repository].blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    def add_manifest(self, repository: str, raw: bytes, media_type: str, tag: str | None = None) -> Digest:
        digest = digest_of(raw)
        with self.lock:
            self.repositories[repository].manifests[digest] = (media_type, raw)
            if tag:
                self.repositories[repository].tags[tag] = digest
        return digest

    def add_image(self, repository: str, parts: Parts, tag: str | None = None) -> Reference:
        """Store an image or index with all below it; return its reference by tag, or by digest without one."""
        for child in parts.manifests:
            self.add_image(repository, child)
        for content in parts.blobs.values():
            self.add_blob(repository, content)
        digest = self.add_manifest(repository, parts.raw, parts.media_type, tag)
        return Reference(self.host, repository, tag, None if tag else digest)

    def reference(self, repository: str, tag: str | None = None) -> Reference:
        return Reference(self.host, repository, tag)

    # Behaviour.

    def fault(self, method: str, part: str, **what: Any) -> Fault:
        """Let something go wrong; see `Fault`. Earlier faults go first."""
        fault = Fault(method, part, **what)
        with self.lock:
            self._faults.append(fault)
        return fault

    def drop_faults(self) -> None:
        with self.lock:
            self._faults.clear()

    def revoke_tokens(self) -> None:
        with self.lock:
            self.tokens.clear()

    def forget_uploads(self) -> None:
        with self.lock:
            self.sessions.clear()

    def expire_signatures(self) -> None:
        with self.lock:
            self.signatures.clear()

    def log(self, method: str = "", part: str = "") -> list[Request]:
        """Return the requests so far of `method` whose path contains `part`; the token server's are not among them unless asked."""
        with self.lock:
            return [
                r
                for r in self.requests
                if method in ("", r.method) and part in r.path and (part or r.path != self.profile.token_path)
            ]

    # For the handlers.

    def is_too_deep(self, name: str) -> bool:
        return self.max_depth is not None and name.count("/") >= self.max_depth

    def take_fault(self, method: str, path: str, length: int = 0) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if (
                    fault.times > 0
                    and length >= fault.read_before_drop
                    and fault.method in ("*", method)
                    and fault.part in path
                ):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def find_blob(self, repository: str, digest: str) -> bytes | None:
        with self.lock:
            return self.repositories[repository].blobs.get(digest) if repository in self.repositories else None
