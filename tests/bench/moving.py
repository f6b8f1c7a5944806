"""`create` and `push` beside Debian's skopeo, on the same images of the same registry, in turns."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.goods import Goods, Shape, fill
from tests.bench.meter import BIN, Measured, Watched, measure, size_of
from tests.bench.rows import Row, ratio, typical
from tests.fakes.servers import Server, docker_registry, require

MIB = 1024**2
_PARALLEL = "4"


@dataclass
class Rounds:
    """Every measurement of every kind, in the order of the rounds."""

    create: list[Measured] = field(default_factory=list)
    pull: list[Measured] = field(default_factory=list)
    push: list[Measured] = field(default_factory=list)
    again: list[Measured] = field(default_factory=list)
    theirs: list[Measured] = field(default_factory=list)
    resumed: list[Measured] = field(default_factory=list)
    archive: int = 0
    pulled: int = 0


class Bench:
    """A source registry full of goods in `home`, and what is measured around it."""

    def __init__(self, home: Path, shape: Shape, stack: ExitStack) -> None:
        self.home = home
        self.source = stack.enter_context(docker_registry(home, name="source"))
        self.goods: Goods = fill(f"http://{self.source.host}", shape)
        (home / "registries.conf").write_text(self.goods.registries_conf(self.source.host))
        (home / "imageset.yaml").write_text(self.goods.image_set())
        (home / "tmp").mkdir()
        self.env = {"TMPDIR": str(home / "tmp"), "HUB_EXPORT_REGISTRIES_CONF": str(home / "registries.conf")}

    def described(self) -> str:
        """Return what is moved, in words."""
        goods = self.goods
        return (
            f"{len(goods.images)} images of {len(goods.packages)} operators, {goods.blobs} blobs: {goods.unique / 1e9:.2f} GB, "
            f"and {goods.total / 1e9:.2f} GB counted with every image ({goods.unique / goods.total:.2f})."
        )

    def run(self, rounds: int, *, peers: bool = True) -> Rounds:
        """Measure everything so many times, one's turn before the other's and the other way round."""
        found = Rounds()
        if peers:
            require("skopeo")
        for number in range(rounds):
            steps = [lambda: self._pull(found), lambda: self._create(found)]
            for step in (steps if number % 2 else steps[::-1]) if peers else steps[1:]:
                step()
            pushes = [lambda: self._push_theirs(found), lambda: self._push(found)]
            for step in (pushes if number % 2 else pushes[::-1]) if peers else pushes[1:]:
                step()
            shutil.rmtree(self.home / "out")
            shutil.rmtree(self.home / "dirs", ignore_errors=True)
        return found

    def resume(self, found: list[Measured]) -> None:
        """Kill an export at nine tenths and run it again."""
        killed = self.export(kill_at=int(0.9 * self.goods.unique))
        assert killed.status == -9, "it was killed"
        found.append(self.export())
        shutil.rmtree(self.home / "out")

    def _create(self, found: Rounds) -> None:
        found.create.append(self.export())
        found.archive = sum(path.stat().st_size for path in (self.home / "out").iterdir())

    def export(self, signatures: str = "ignore", kill_at: int = 0) -> Measured:
        """Make the archive, in `out`."""
        command = [
            BIN / "hub-export",
            "create",
            self.home / "imageset.yaml",
            "--output",
            self.home / "out",
            "--signatures",
            signatures,
        ]
        watched = Watched(self.source.pid, self.source.log, (self.home / "tmp", self.home / "out"))
        return measure(command, env=self.env, watched=watched, kill_at=kill_at)

    def _pull(self, found: Rounds) -> None:
        (self.home / "dirs").mkdir()
        script = (
            f"{require('skopeo')} copy --quiet --all --preserve-digests --src-tls-verify=false "
            f"docker://{self.source.host}/$0 dir:{self.home}/dirs/$(echo $0 | tr / _)"
        )
        found.pull.append(self._skopeo(script, Watched(self.source.pid, self.source.log)))
        found.pulled = size_of(self.home / "dirs")

    def _push_theirs(self, found: Rounds) -> None:
        with docker_registry(self.home, name="theirs") as mirror:
            script = (
                f"{require('skopeo')} copy --quiet --all --preserve-digests --dest-tls-verify=false "
                f"dir:{self.home}/dirs/$(echo $0 | tr / _) "
                f"docker://{mirror.host}/$(echo $0 | cut -d@ -f1 | cut -d: -f1):$(echo $0 | tail -c 9 | tr : x)"
            )
            found.theirs.append(self._skopeo(script, Watched(mirror.pid, mirror.log)))
        shutil.rmtree(self.home / "theirs")

    def _push(self, found: Rounds) -> None:
        with docker_registry(self.home, name="mirror") as mirror:
            found.push.append(self.pushed(mirror))
            found.again.append(self.pushed(mirror))
        shutil.rmtree(self.home / "mirror")

    def pushed(self, mirror: Server) -> Measured:
        """Push what is in `out`."""
        command = [BIN / "hub-import", "push", self.home / "out", "--registry", mirror.host, "--insecure", mirror.host]
        watched = Watched(mirror.pid, mirror.log, (self.home / "tmp",))
        return measure(command, env=self.env, watched=watched)

    def _skopeo(self, script: str, watched: Watched) -> Measured:
        names = "\n".join(self.goods.images.values()) + "\n"
        return measure(["xargs", "-P", _PARALLEL, "-n", "1", "sh", "-c", script], stdin=names, watched=watched)


def rows(bench: Bench, found: Rounds) -> list[Row]:
    """Return what was found beside the bars of the specification."""
    goods = bench.goods
    again = found.again[-1].requests
    made = [
        Row(
            "`create`, wall",
            ratio(found.create, found.pull, "wall"),
            0.5,
            "× skopeo",
            pair(found.create, found.pull, "wall", "s"),
        ),
        Row(
            "`create`, CPU",
            ratio(found.create, found.pull, "cpu"),
            0.5,
            "× skopeo",
            pair(found.create, found.pull, "cpu", "s"),
        ),
        Row(
            "`push`, wall",
            ratio(found.push, found.theirs, "wall"),
            0.6,
            "× skopeo",
            pair(found.push, found.theirs, "wall", "s"),
        ),
        Row("`push`, CPU", ratio(found.push, found.theirs, "cpu"), 0.5, "× skopeo", pair(found.push, found.theirs, "cpu", "s")),
        Row(
            "`push` again, wall",
            ratio(found.again, found.push, "wall"),
            0.1,
            "× first",
            pair(found.again, found.push, "wall", "s"),
        ),
        Row(
            "`push` again, requests that are no HEAD of a manifest",
            sum(number for kind, number in again.items() if kind not in ("HEAD manifests", "GET /v2/")),
            0,
            "",
            f"{again.get('HEAD manifests', 0)} HEADs; {again.get('GET /v2/', 0)} ask for the registry itself: TLS, credentials",
        ),
    ]
    if found.resumed:
        made.append(
            Row(
                "`create` again after a kill at 90 %, wall",
                ratio(found.resumed, found.create, "wall"),
                0.2,
                "× first",
                pair(found.resumed, found.create, "wall", "s"),
            )
        )
    return made + sizes(goods, found)


def sizes(goods: Goods, found: Rounds) -> list[Row]:
    """Return memory and disk."""
    return [
        Row("archive", found.archive / goods.unique, 1.01, "× unique blobs", f"{found.archive} and {goods.unique} bytes"),
        Row(
            "disk next to the volumes, `create`",
            max(one.disk for one in found.create) / MIB,
            64,
            "MiB",
            "catalogs, journal, report",
        ),
        Row("disk, `push`", max(one.disk for one in found.push) / MIB, 64, "MiB"),
        Row("peak memory, `create`", max(one.peak for one in found.create) / MIB, 200, "MiB"),
        Row("peak memory, `push`", max(one.peak for one in found.push) / MIB, 200, "MiB"),
    ]


def everything(found: Rounds) -> dict[str, Sequence[Measured]]:
    """Return what was measured by its name in the tables."""
    return {
        "`create`": found.create,
        "skopeo, to directories": found.pull,
        "`push`": found.push,
        "skopeo, from directories": found.theirs,
        "`push` again": found.again,
        "`create` after a kill": found.resumed,
    }


def figures(kinds: Mapping[str, Sequence[Measured]]) -> str:
    """Return medians of everything beside what the registry needed meanwhile."""
    head = "| what | wall | CPU | CPU of the registry | memory | requests |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_figure(kind, measured) for kind, measured in kinds.items() if measured)])


def _figure(kind: str, measured: Sequence[Measured]) -> str:
    wall, cpu, server, peak = (typical(measured, what) for what in ("wall", "cpu", "server", "peak"))
    requests = ", ".join(f"{number} {what}" for what, number in sorted(measured[-1].requests.items()))
    return f"| {kind} | {wall:.1f} s | {cpu:.1f} s | {server:.1f} s | {peak / MIB:.0f} MiB | {requests} |"


def pair(ours: Sequence[Measured], theirs: Sequence[Measured], what: str, unit: str) -> str:
    """Return both medians in words."""
    return f"{typical(ours, what):.1f} {unit} and {typical(theirs, what):.1f} {unit}"
