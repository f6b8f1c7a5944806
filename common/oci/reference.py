"""Image references, `registry/repository[:tag][@digest]`, and the prefixes of transports in front of references and paths.

Grammar: OCI distribution specification (repository, tag) and the package reference of distribution (host, digest).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from common.errors import ContentError, UsageError
from common.oci.image import Digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import Sequence


# Transports (containers-transports(5)). A path may be a file URL (RFC 8089), a reference may begin with `docker://`. All others
# are refused, with the accepted form: taken as a path, one would create a directory named `docker:`.

DOCKER = "docker://"
# One slash or three; with two the next part is a host (RFC 8089, 2), and only localhost is this one.
_FILE = re.compile(r"file:(?://(?:localhost(?=/))?)?(?=/(?!/))", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/{1,2}(?P<rest>.*)", re.DOTALL)
_LAYOUT = re.compile(r"(file|oci|oci-archive|docker-archive|dir|containers-storage|docker-daemon):(?P<rest>.*)", re.DOTALL)
_SHOWN = 200  # characters of an argument in a message


def local_path(text: str) -> Path:
    """Return the path in an argument, which may be a file URL. Raises UsageError for another transport or another host."""
    plain = plain_path(text)
    refuse_transport(plain)
    return Path(plain)


def plain_path(text: str) -> str:
    """Return the path of a file URL on this host, `file:///path` or `file://localhost/path`, without its %-escapes.

    Any other text is returned unchanged.
    """
    found = _FILE.match(text)
    path = unquote(text[found.end() :], errors="surrogateescape") if found else text
    return text if "\0" in path else path  # %00: neither os.environ nor open() accept a NUL


def rejoined(parts: Sequence[str]) -> list[str]:
    """Return the paths of an environment variable that was split at each colon, with file URLs joined again."""
    whole: list[str] = []
    for part in parts:
        # `file` alone is a path too; only with a slash after the colon it was the begin of a URL.
        if whole and whole[-1].lower() == "file" and part.startswith("/"):
            whole[-1] += f":{part}"
        else:
            whole.append(part)
    return whole


def refuse_transport(text: str) -> None:
    """Raise UsageError for a path that begins with a transport; `text` as typed, since a Path joins double slashes."""
    found = _SCHEME.fullmatch(text) or _LAYOUT.fullmatch(text)
    if found is not None:
        why, hint = _refusal(found[1].lower(), found["rest"])
        raise UsageError(f"{text[:_SHOWN]}: {why}", hint=hint)


def _refusal(transport: str, path: str) -> tuple[str, str]:
    """Return why a path with a transport is refused, and the accepted form."""
    rest = path.lstrip("/")[:_SHOWN]
    match transport:
        case "file":
            return (
                "a file URL names a path of this machine from its root: file:///PATH",
                f"Wanted: {rest or 'PATH'}, or file:///PATH.",
            )
        case "docker" | "docker-daemon" | "containers-storage":
            hint = f"Name a directory or a file. A registry to push to is named with --registry {rest or 'HOST'}."
            return "names an image, where a path of this machine is wanted", hint
        case "http" | "https" | "ftp":
            return "an address, where a path of this machine is wanted", "Download it first, and name the file."
        case "s3":
            hint = "Only archives and plans may be in object storage; copy other files here first."
            return "has to be a path of this machine", hint
        case "oci" | "oci-archive" | "docker-archive" | "dir":
            hint = f"Wanted: {path[:_SHOWN] or 'PATH'}. Only --catalog takes one."
            return "a transport of skopeo, where a path is wanted", hint
        case _:
            hint = "Name a path; for one that really has a colon in it, an absolute one."
            return "an unknown kind of address, where a path of this machine is wanted", hint


def without_docker(text: str) -> str:
    """Return a reference or a registry without `docker://`."""
    return text[len(DOCKER) :] if text[: len(DOCKER)].lower() == DOCKER else text


def scheme_of(text: str) -> tuple[str, str] | None:
    """Return the `scheme://` that a reference must not begin with, and the rest of it; None where it has none."""
    head, mark, rest = text.partition("://")
    return (f"{head}://", rest.rstrip("/")) if mark and head.replace("-", "").isalnum() else None


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
MAX_REPOSITORY = 255  # RepositoryNameTotalLengthMax in distribution/reference
_MAX_PORT = 65535
_MAX_HOST = 253 + len(":65535")  # the longest name of DNS in text form (RFC 1035, 2.3.4)
DOCKER_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A parsed, well-formed reference. Without tag and digest it names a repository."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def image(self) -> str:
        """The last two components of the repository: what people call the image."""
        return "/".join(self.repository.split("/")[-2:])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference. Raises UsageError that says which part is wrong."""
        if (scheme := scheme_of(text)) is not None:
            raise _refuse(text, f"{scheme[0][:_SHOWN]} is no host name", scheme[1])
        name, tag, digest_text = _split(text)
        registry, repository = _with_registry(name)
        if not is_host(registry):
            raise _refuse(text, f"{registry[:_SHOWN]!r} is no host name")
        if repository != repository.lower():  # the most frequent mistake, so it has a message of its own
            raise _refuse(text, "a repository has no upper-case letters")
        if not is_repository(repository):
            raise _refuse(text, f"{repository[:_SHOWN]!r} is no repository path")
        if tag is not None and not is_tag(tag):
            raise _refuse(text, f"{tag[:_SHOWN]!r} is no tag")
        try:
            digest = parse_digest(digest_text) if digest_text is not None else None
        except ContentError as error:
            raise _refuse(text, error.message) from error
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    def pinned(self, digest: Digest) -> Reference:
        """Return `registry/repository@digest`, the form that IDMS and ICSP apply to."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def is_host(text: str) -> bool:
    """Return whether `text` is `host[:port]` by the grammar of references."""
    # Not by a split at the last colon: an IPv6 address in brackets has colons and may have no port.
    port = text.rpartition(":")[2] if re.search(r":\d+$", text) else "0"
    return len(text) <= _MAX_HOST and bool(_HOST.fullmatch(text)) and int(port) <= _MAX_PORT


def require_host(text: str, option: str) -> str:
    """Return `HOST[:PORT]` of an option, also from `docker://HOST`. Raises UsageError with the accepted form."""
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

    Raises UsageError, with the accepted form where the text begins with another scheme.
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
    """Return whether `text` is a repository path (`a/b/c`) by the OCI grammar."""
    # The length first: the expression takes a hundred times the bytes of a text that is megabytes long.
    return len(text) <= MAX_REPOSITORY and bool(_REPOSITORY.fullmatch(text))


def is_tag(text: str) -> bool:
    """Return whether `text` is a tag by the OCI grammar."""
    return bool(_TAG.fullmatch(text))


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Return name, tag and digest as written."""
    # A colon before a slash separates a port, not a tag: `localhost:5000/image`.
    rest, at, digest = text.partition("@")
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        return head, tag, digest if at else None
    return rest, None, digest if at else None


def _with_registry(name: str) -> tuple[str, str]:
    """Return registry and repository; a name without a host is one of Docker Hub."""
    # The rule of distribution/reference (ParseNormalizedNamed): the first part is a host if it has a dot or a colon.
    host, slash, path = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        registry, repository = host, path
    else:
        registry, repository = DOCKER_HUB, name
    # Other names of Docker Hub: of its old index, and of the host that serves its API.
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


def contact(registry: str) -> str:
    """Return the host that answers for a registry: that of Docker Hub has another name."""
    return _HUB_HOST if registry == DOCKER_HUB else registry


def split_host(host: str) -> tuple[str, int | None]:
    """Return name (IPv6 without brackets) and port of `host[:port]`."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and not name.endswith(":") and (":" not in name or name.startswith("[")):
        return name.strip("[]"), int(port)
    return host.strip("[]"), None


def is_loopback(host: str) -> bool:
    """Say whether `host[:port]` names this machine."""
    name = split_host(host)[0].lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        # RFC 6761, 6.3: resolvers answer localhost and all names below it with the loopback address.
        return name == "localhost" or name.endswith(".localhost")
