"""A source registry, the plan of an archive of several volumes, and the archive that one process makes of its image set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import Result, run
from tests.fakes.servers import Server, docker_registry

PACKAGE = "openshift-cert-manager-operator"
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}


@dataclass(frozen=True)
class World:
    """`home` has plan.json, the archive `whole/`, and the key pair key.key and key.pub that signed it."""

    home: Path
    source: Server

    @property
    def env(self) -> dict[str, str]:
        return {"HUB_EXPORT_REGISTRIES_CONF": str(self.home / "registries.conf"), **EPOCH}

    @property
    def whole(self) -> dict[str, str]:
        return contents(self.home / "whole")

    @property
    def count(self) -> int:
        """How many volumes the archive has."""
        return len(json.loads((self.home / "plan.json").read_text())["volumes"])

    def hub(self, *arguments: str | Path, status: int = 0, env: Mapping[str, str] | None = None) -> Result:
        """Run hub-export, which has to end with a status."""
        done = run("hub-export", *arguments, env={**self.env, **(env or {})})
        assert done.status == status, done.stderr
        return done

    def create(self, output: str | Path, *more: str | Path) -> list[str | Path]:
        """Return the arguments that make the archive of the plan, or a part of it."""
        signed = ("--sign", self.home / "key.key")
        return ["create", "--plan", self.home / "plan.json", *signed, "--output", output, *more]

    def finish(self, output: str | Path, *more: str | Path) -> list[str | Path]:
        """Return the arguments that join what lies in a place, there."""
        return ["finish", output, "--sign", self.home / "key.key", "--output", output, *more]

    @contextmanager
    def without_the_largest_blob(self) -> Iterator[str]:
        """Take a blob of the plan away from the source registry; give its digest."""
        blobs = json.loads((self.home / "plan.json").read_text())["blobs"]
        digest = max(blobs, key=lambda each: (blobs[each]["size"], each))
        name = digest.removeprefix("sha256:")
        lost = self.source.root / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
        kept = lost.read_bytes()
        lost.unlink()
        try:
            yield digest
        finally:
            lost.write_bytes(kept)


@contextmanager
def planned_world(
    home: Path,
    *,
    layer: int = 1_000_000,
    volume: str = "4MiB",
    package: str = PACKAGE,
    more: tuple[str, ...] = ("--full",),
) -> Iterator[World]:
    """Make all of it; `layer`: the size of layers in bytes, `package` and `more`: what is asked of create and plan."""
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[PACKAGE], size=layer, level=0)
    with docker_registry(home, name="source") as source:
        content.seed(f"http://{source.host}")
        (home / "registries.conf").write_text(content.registries_conf(source.host, insecure=True))
        asked = (
            "--catalog",
            sources.CATALOG,
            "--package",
            package,
            "--volume-size",
            volume,
            "--signatures",
            "ignore",
        )
        world = World(home, source)
        world.hub("keygen", home / "key")
        world.hub("create", *asked, *more, "--sign", home / "key.key", "--output", home / "whole")
        world.hub("plan", *asked, *more, "--output", home / "plan.json")
        yield world


def contents(directory: Path) -> dict[str, str]:
    """Return the digest of every file below a directory, by its path."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
