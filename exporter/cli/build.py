"""The command `build-catalog`: its options, and what it prints."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli import terminal
from common.cli.options import (
    REGISTRIES,
    Authfile,
    CaFile,
    Jobs,
    OutputOptions,
    RegistriesConf,
    RegistryOptions,
    command,
    read_secret,
)
from common.cli.results import problem_lines
from common.errors import ExitCode, UsageError
from common.oci.reference import Reference, without_docker
from common.text import paragraphs
from exporter.cli.options import platforms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import PackageRecord
    from exporter.catalog_builder import BuildSettings, BuiltCatalog


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What `oc adm catalog build` knew."""

    base: Annotated[str, typer.Option("--from", metavar="REF", help="Image that serves a database (operator-registry).")]
    target: Annotated[str, typer.Option("--to", metavar="REF", help="Where the catalog image goes.")]
    manifest_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Package manifests to build from.")] = None
    appregistry_org: Annotated[str, typer.Option(metavar="NAME", help="Namespace of an app registry to build from.")] = ""
    appregistry_endpoint: Annotated[str, typer.Option(metavar="URL", help="The app registry.")] = "https://quay.io/cnr"
    auth_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The token of the app registry, as its login gave it; - is standard input."),
    ] = None
    auth_token: Annotated[
        str,
        typer.Option(metavar="TOKEN", help="The token itself, which others can read in the process list."),
    ] = ""
    platform: Annotated[
        list[str], typer.Option("--filter-by-os", "--platform", metavar="OS/ARCH", help="Only these platforms; repeatable.")
    ] = field(default_factory=list)
    authfile: Authfile = None
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Plain HTTP or unverified TLS for all that is named.",
            rich_help_panel=REGISTRIES,
        ),
    ] = False
    registries_conf: RegistriesConf = None
    ca: CaFile = None
    jobs: Jobs = 6

    def settings(self) -> BuildSettings:
        """Return the settings of a build. Raises UsageError."""
        from common.registry.cnr import split_endpoint
        from exporter.catalog_builder import BuildSettings

        if bool(self.manifest_dir) == bool(self.appregistry_org):
            raise UsageError(
                "one of --manifest-dir and --appregistry-org",
                hint="The manifests come from a directory or from an app registry.",
            )
        base, target = Reference.parse(without_docker(self.base)), Reference.parse(without_docker(self.target))
        # `oc adm catalog build --insecure` has no value and means every registry of the command.
        hosts = [base.registry, target.registry, split_endpoint(self.appregistry_endpoint)[0]] if self.insecure else []
        registry = RegistryOptions(self.authfile, self.registries_conf, hosts, self.ca, self.jobs)
        return BuildSettings(
            registry.settings(),
            base,
            target,
            self.manifest_dir,
            self.appregistry_org,
            self.appregistry_endpoint,
            self._token(),
            platforms_of(self.platform),
            self.jobs,
        )

    def _token(self) -> str:
        """Return the token of the app registry; empty for none. Raises UsageError."""
        if self.auth_token_file is not None:
            if self.auth_token:
                raise UsageError("--auth-token-file and --auth-token at once", hint="Give the file alone.")
            return read_secret(self.auth_token_file, "--auth-token-file")
        # ps shows the arguments of a process to every user, and its environment only to its own (proc(5)).
        if self.auth_token and self.auth_token != os.environ.get("HUB_EXPORT_AUTH_TOKEN"):
            terminal.tell(
                "warning: --auth-token is visible in the process list; use --auth-token-file or HUB_EXPORT_AUTH_TOKEN"
            )
        return self.auth_token


def add_build(app: typer.Typer) -> None:
    """Add the command to the exporter's."""
    command(app, "build-catalog")(_build_catalog)


def _build_catalog(
    build: BuildOptions,
    output: OutputOptions,
) -> ExitCode:
    """Make a catalog image of package manifests, as oc adm catalog build did, for OpenShift 4.3 to 4.5; and push it."""
    from exporter import catalog_builder, workflow

    built = catalog_builder.build(build.settings(), output.begin())
    document = _document(built)
    output.emit(document, lambda: _table(built, document["packages"]))
    return workflow.outcome(built.problems, strict=False)


def _document(built: BuiltCatalog) -> dict[str, Any]:
    """Return the JSON of `build-catalog`."""
    from exporter.catalog import records

    return {
        "image": str(built.target),
        "digest": built.digest,
        "packages": records.package_records(built.catalog),
        "problems": built.problems,
    }


def _table(built: BuiltCatalog, packages: Sequence[PackageRecord]) -> list[str]:
    """Return `build-catalog` for people."""
    from exporter.cli.listing import channel_lines

    return paragraphs(problem_lines(built.problems), channel_lines(packages), [f"{built.target}", f"{built.digest}"])
