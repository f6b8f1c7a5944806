"""The command `login`, the same in both programs: a site behind the gap may have no podman."""

from __future__ import annotations

import sys
import termios
from pathlib import Path
from typing import Annotated

import typer

from common.cli import terminal
from common.cli.options import command, read_secret
from common.errors import ExitCode, UsageError
from common.log import configure
from common.oci.reference import split_registry


def add_login(app: typer.Typer) -> None:
    """Register the command with a program."""
    command(app, "login")(_login)


def _login(
    registry: Annotated[str, typer.Argument(metavar="HOST[:PORT][/NAMESPACE]", help="The registry to log in to.")],
    username: Annotated[str | None, typer.Option("--username", "-u", metavar="NAME", help="Asked for when left out.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password or token from standard input.")
    ] = False,
    authfile: Annotated[
        Path | None,
        typer.Option("--authfile", "-a", metavar="FILE", help="Where to keep it, instead of where podman login does."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain HTTP or unverified TLS for this registry.")] = False,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Further CA certificates to trust, PEM.")] = None,
) -> ExitCode:
    """Check credentials with a registry, and keep them where podman, skopeo and oc find them too."""
    import os

    from common.registry.credentials import Credential
    from common.registry.login import login
    from common.registry.settings import RegistrySettings

    configure("warning")
    user = username or _ask("Username")
    password = read_secret(Path("-"), "--password-stdin") if password_stdin else _ask("Password", hidden=True)
    # Credentials may be limited to a namespace (containers-auth.json(5)); the check contacts the host.
    host, _namespace = split_registry(registry, "NAMESPACE", "registry.example:5000")
    settings = RegistrySettings(
        authfile=authfile, insecure=frozenset({host} if insecure else ()), ca=ca, environ=dict(os.environ)
    )
    where = login(settings, registry, Credential(user, password))
    terminal.show([f"{registry} takes the credentials; kept in {where}"])
    return ExitCode.DONE


def _ask(what: str, *, hidden: bool = False) -> str:
    # Scripts never hang at a prompt: without a terminal the missing option is an error.
    if not sys.stdin.isatty():
        raise UsageError(
            f"no {what.lower()} given, and standard input is not a terminal", hint="Say --username, and --password-stdin."
        )
    try:
        answer: str = typer.prompt(what, hide_input=hidden, err=True)
    except termios.error as error:  # no OSError: the terminal was closed at the question, and getpass cannot restore it
        raise typer.Abort from error
    return answer
