"""The command `serve`: the archive as a registry, for a site that has none, or has none yet."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli import terminal
from common.cli.options import Level, command
from common.errors import ExitCode, UsageError
from common.log import configure
from importer.cli.options import ArchiveOptions, KeepSourceHost, MaxPathComponents, ReleaseLayout

if TYPE_CHECKING:
    from common.archive.reader import Archive
    from importer.serving.app import Repositories
    from importer.serving.server import Address, ServerCertificate


_ALL = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened at


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where, and who may read."""

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 is any that is free.")] = "127.0.0.1:5000"
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of the server, PEM.")] = None
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None
    self_signed: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make a CA and a certificate for --name there, or use those of last time."),
    ] = None
    name: Annotated[
        list[str], typer.Option("--name", metavar="HOST", help="For --self-signed: what clients call this host; repeatable.")
    ] = field(default_factory=list)
    htpasswd: Annotated[Path | None, typer.Option(metavar="FILE", help="Accounts (bcrypt) of those who may read.")] = None
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Allow what others can read and change on the way.")] = False

    def certificate(self, address: Address) -> ServerCertificate | None:
        """Return certificate and key; None for plain HTTP. Raises UsageError."""
        from importer.serving.server import ServerCertificate, check_certificate, self_signed

        # A certificate without its key, or two sources of a certificate, cannot be meant.
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_cert and self.self_signed):
            raise UsageError(
                "TLS needs --tls-cert and --tls-key together, or --self-signed alone", hint="hub-import serve --help."
            )
        found = None
        if self.self_signed is not None:
            found = self_signed(self.self_signed, self._names(address))
        if self.tls_cert and self.tls_key:
            found = ServerCertificate(self.tls_cert, self.tls_key, self.tls_cert)
        if found is not None:
            check_certificate(found.certificate, found.key)
        # On loopback no other host can read; elsewhere plain HTTP must be asked for by name.
        elif not address.is_loopback and not self.plain_http:
            raise UsageError(
                f"{address} is open to others, and this would be plain HTTP",
                hint="Say --self-signed DIR --name HOST, or --tls-cert and --tls-key; or --plain-http if it has to be.",
            )
        # Basic authentication sends the password with each request (RFC 7617).
        if found is None and self.htpasswd and not address.is_loopback:
            raise UsageError("passwords over plain HTTP can be read on the way", hint="Say --self-signed DIR --name HOST.")
        return found

    def host(self, address: Address) -> str:
        """Return what clients call this host: the first name, else that of the host for all of its addresses."""
        return (self.name or [socket.gethostname() if address.host in _ALL else address.host])[0]

    def _names(self, address: Address) -> list[str]:
        if not self.name and address.host in _ALL:
            raise UsageError(
                "--self-signed for all addresses needs a name", hint="Say --name with what clients call this host."
            )
        return self.name or [address.host]


def add_serve(app: typer.Typer) -> None:
    """Register the command with a program."""
    command(app, "serve")(_serve)


def _serve(
    archive: ArchiveOptions,
    place: ListenOptions,
    max_path_components: MaxPathComponents = None,
    keep_source_host: KeepSourceHost = False,
    release_layout: ReleaseLayout = "openshift",
    log_level: Annotated[Level, typer.Option(help="Level of the log on stderr; info shows every request.")] = Level.WARNING,
) -> ExitCode:
    """The archive as a read-only registry, straight from the media: for a site without one, or until all is pushed."""
    from importer.mapping import Mirror
    from importer.serving.app import RegistryApp, count_pullable, served_repositories
    from importer.serving.authentication import Authentication
    from importer.serving.htpasswd import Htpasswd
    from importer.serving.server import Address, listen, serve

    configure(log_level)
    opened, _ = archive.open_with_neighbours()
    address = Address.parse(place.listen)
    certificate = place.certificate(address)
    accounts = Htpasswd.load(place.htpasswd) if place.htpasswd else None
    # Repository names are those that push would use, so that mirror rules stay valid after the move to a real registry.
    mirror = Mirror("localhost", "", max_path_components, keep_source_host, releases_by_source=release_layout == "source")
    repositories = served_repositories(opened.inventory, mirror)
    app = RegistryApp(opened, repositories)
    pullable = count_pullable(opened.inventory, mirror, opened.is_available)
    with listen(address) as open_socket:
        bound = Address(place.host(address), open_socket.getsockname()[1])
        serve(
            app if accounts is None else Authentication(app, accounts),
            open_socket,
            certificate,
            lambda: _announce(opened, repositories, pullable, bound, certificate),
        )
    return ExitCode.DONE


def _announce(
    archive: Archive,
    repositories: Repositories,
    pullable: tuple[int, int],
    bound: Address,
    certificate: ServerCertificate | None,
) -> None:
    """Print the address, the content and commands for clients."""
    from common.text import counted
    from importer.mapping import left_out_payloads

    tls = "" if certificate else " (plain HTTP)"
    terminal.tell(f"serving {counted(len(repositories), 'repository', 'repositories')} at {bound}{tls}; Ctrl-C ends it")
    terminal.tell(f"content: {archive.label}")
    if archive.missing:
        terminal.tell(f"not here, and not served: the content of {', '.join(archive.missing)}")
    for problem in left_out_payloads(archive.inventory):
        terminal.tell(f"not served: {problem.subject}: {problem.message}")
    terminal.tell(f"{pullable[0]} of {counted(pullable[1], 'image')} can be pulled whole")
    name, tag = next(((name, tag) for name, found in repositories.items() for tag in found.tags), ("NAME", "TAG"))
    unverified = "" if certificate else " --tls-verify=false"
    terminal.tell(f"an image: podman pull{unverified} {bound}/{name}:{tag}")
    if certificate:
        terminal.tell(f"podman and skopeo trust it with {certificate.ca} as /etc/containers/certs.d/{bound}/ca.crt")
    trust = f" --ca {certificate.ca}" if certificate else f" --insecure {bound}"
    terminal.tell(f"on the cluster: hub-import apply ARCHIVE --registry {bound}{trust}")
