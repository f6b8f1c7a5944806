"""Image references: `registry/repository[:tag][@digest]`, as podman, oc and CRI-O read them.

Grammar: OCI distribution specification (repository, tag) and the reference grammar of distribution; short names are Docker
Hub's, as the container tools do. Parsing is the only way in: a `Reference` is always well formed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from common.digest import Digest, parse_digest
from common.errors import ContentError, UsageError
from common.transports import scheme_of, without_docker

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_MAX_REPOSITORY = 255
_MAX_PORT = 65535
_MAX_HOST = 253 + len(":65535")  # a longer name is no name of DNS (RFC 1035, 2.3.4)
DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A parsed reference. Without tag and digest it names a repository."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference. Raises UsageError that says which part is wrong."""
        if (scheme := scheme_of(text)) is not None:
            raise _refuse(text, f"{scheme[0]} is no host name", scheme[1])
        name, tag, digest_text = _split(text)
        registry, repository = _with_registry(name)
        if not is_host(registry):
            raise _refuse(text, f"{registry!r} is no host name")
        if repository != repository.lower():
            raise _refuse(text, "a repository has no upper-case letters")
        if not is_repository(repository):
            raise _refuse(text, f"{repository!r} is no repository path")
        if tag is not None and not is_tag(tag):
            raise _refuse(text, f"{tag!r} is no tag")
        try:
            digest = parse_digest(digest_text) if digest_text is not None else None
        except ContentError as error:
            raise _refuse(text, error.message) from error
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same reference pinned to a digest."""
        return replace(self, digest=digest)

    def pinned(self, digest: Digest) -> Reference:
        """Return `registry/repository@digest`, the form that mirror rules act on."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def is_host(text: str) -> bool:
    """Say whether `text` is `host[:port]` by the grammar of references."""
    port = text.rpartition(":")[2] if re.search(r":\d+$", text) else "0"
    return len(text) <= _MAX_HOST and bool(_HOST.fullmatch(text)) and int(port) <= _MAX_PORT


def require_host(text: str, option: str) -> str:
    """Return `HOST[:PORT]` of an option, also from `docker://HOST`. Raises UsageError with the value that is wanted."""
    host = without_docker(text)
    if not is_host(host):
        scheme = scheme_of(host)
        example = (scheme[1] if scheme else host).partition("/")[0][:200]
        raise UsageError(
            f"{option}: not a host: {text[:200]!r}",
            hint=f"Wanted: HOST[:PORT], for example {example if is_host(example) else 'registry.example:5000'}",
        )
    return host


def split_registry(text: str, path: str, example: str) -> tuple[str, str]:
    """Return host and path of `HOST[:PORT][/PATH]`, also after `docker://`; `path` and `example` are what an error shows.

    Raises UsageError, with the value that is wanted where the text begins with another scheme.
    """
    plain = without_docker(text).removesuffix("/")
    host, slash, rest = plain.partition("/")
    if is_host(host) and (not slash or is_repository(rest)):
        return host, rest
    scheme = scheme_of(plain)
    if scheme is not None and is_host(scheme[1].partition("/")[0]):
        example = scheme[1][:200]
    raise UsageError(f"not a registry: {text[:200]!r}", hint=f"Wanted: HOST[:PORT][/{path}], for example {example}")


def is_repository(text: str) -> bool:
    """Say whether `text` is a repository path (`a/b/c`) by the OCI grammar."""
    return bool(_REPOSITORY.fullmatch(text)) and len(text) <= _MAX_REPOSITORY


def is_tag(text: str) -> bool:
    """Say whether `text` is a tag by the OCI grammar."""
    return bool(_TAG.fullmatch(text))


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Return name, tag and digest as written."""
    rest, at, digest = text.partition("@")
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        return head, tag, digest if at else None
    return rest, None, digest if at else None


def _with_registry(name: str) -> tuple[str, str]:
    """Return registry and repository; a name without a host is Docker Hub's."""
    host, slash, path = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        registry, repository = host, path
    else:
        registry, repository = DOCKER_HUB, name
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _refuse(text: str, why: str, example: str = "") -> UsageError:
    return UsageError(
        f"not an image reference: {text[:200]!r}: {why}",
        hint=f"Wanted: registry/repository[:tag][@sha256:digest], for example {example[:200] or 'quay.io/org/image:v1'}",
    )
