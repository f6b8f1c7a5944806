"""The programs compared with the least that other tools take for the same bytes on the same registries, in turns in one run.

imgpkg writes one tar, without flush and checksum: both are added. Where it is missing, curl fetches the same blobs into files, and openssl
hashes them twice: once for their digests, as any client does, and once for a checksum of what was written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from common.oci.image import Digest
from tests.bench import serving
from tests.bench.goods import Shape
from tests.bench.meter import BIN, Measured, Watched, measure
from tests.bench.moving import Bench, pair
from tests.bench.rows import Row, ratio, typical
from tests.fakes.servers import docker_registry, require

_CONNECTIONS = "6"  # as many as --jobs
_SERVED = 1.5  # GB for `serve` and nginx


@dataclass
class Turns:
    """Every measurement, in the order of the rounds."""

    plan: list[Measured] = field(default_factory=list)
    create: list[Measured] = field(default_factory=list)
    unsigned: list[Measured] = field(default_factory=list)
    imgpkg: list[Measured] = field(default_factory=list)
    fetched: list[Measured] = field(default_factory=list)
    resumed: list[Measured] = field(default_factory=list)
    verify: list[Measured] = field(default_factory=list)
    openssl: list[Measured] = field(default_factory=list)
    push: list[Measured] = field(default_factory=list)
    put: list[Measured] = field(default_factory=list)

    def named(self) -> dict[str, Sequence[Measured]]:
        """Return them by their names in the table."""
        return {
            "`plan`, signatures looked for": self.plan,
            "`create`, signatures looked for": self.create,
            "`create --signatures ignore`": self.unsigned,
            "imgpkg, flush, openssl": self.imgpkg,
            "curl, flush, openssl twice": self.fetched,
            "`create` after a kill at 90 %": self.resumed,
            "`verify`": self.verify,
            "openssl, the same volumes": self.openssl,
            "`push`": self.push,
            "curl, the same blobs": self.put,
        }


class Peers:
    """The data set of `moving`, and the commands of the other tools."""

    def __init__(self, home: Path, shape: Shape, stack: ExitStack) -> None:
        for program in ("curl", "openssl", "nginx"):
            require(program)
        self._home = home
        self.bench = Bench(home, shape, stack)

    def run(self, rounds: int) -> Turns:
        """Measure everything so many times; who goes first alternates."""
        found = Turns()
        for number in range(rounds):
            in_turns = _forward if number % 2 == 0 else _backward
            found.plan.append(self._plan())
            in_turns(lambda: self._create(found), lambda: self._create_theirs(found))
            in_turns(lambda: found.verify.append(self._verify()), lambda: found.openssl.append(self._openssl()))
            in_turns(lambda: found.push.append(self._push()), lambda: found.put.append(self._put()))
            shutil.rmtree(self._home / "out")
            self.bench.resume(found.resumed)
        return found

    def _plan(self) -> Measured:
        command = [BIN / "hub-export", "plan", self._home / "imageset.yaml"]
        return measure(command, env=self.bench.env, watched=Watched(self.bench.source.pid, self.bench.source.log))

    def _create(self, found: Turns) -> None:
        found.unsigned.append(self.bench.export())
        shutil.rmtree(self._home / "out")
        found.create.append(self.bench.export("carry"))

    def _create_theirs(self, found: Turns) -> None:
        if shutil.which("imgpkg"):
            found.imgpkg.append(self._imgpkg())
        hashed = "openssl dgst -sha256 $0/*"
        found.fetched.append(self._fetch(self._home / "fetched", f"sync -f $0 && {hashed} && {hashed}"))
        shutil.rmtree(self._home / "fetched")

    def _imgpkg(self) -> Measured:
        pinned = [name for name in self.bench.goods.images.values() if "@" in name]
        lock = self._home / "images.yml"
        rows = "".join(f"- image: {self.bench.source.host}/{name}\n" for name in pinned)
        lock.write_text(f"apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n{rows}")
        script = (
            f"{require('imgpkg')} copy --lock {lock} --to-tar $0 --registry-insecure --concurrency {_CONNECTIONS} "
            "&& sync $0 && openssl dgst -sha256 $0"
        )
        tar = self._home / "imgpkg.tar"
        took = measure(["sh", "-c", script, tar], watched=Watched(self.bench.source.pid, self.bench.source.log))
        tar.unlink()
        return took

    def _fetch(self, folder: Path, then: str = "true") -> Measured:
        """Fetch every blob into a folder, then do what a script says with it."""
        folder.mkdir()
        config = self._home / "fetch.curl"
        blobs = self.bench.goods.places.items()
        url = f"http://{self.bench.source.host}/v2"
        config.write_text(
            "".join(f'url = "{url}/{place}/blobs/{digest}"\noutput = "{_file(folder, digest)}"\n' for digest, place in blobs)
        )
        script = f"{_curl(config)} && {then}"
        watched = Watched(self.bench.source.pid, self.bench.source.log)
        return measure(["sh", "-c", script, folder], watched=watched)

    def _verify(self) -> Measured:
        return measure([BIN / "hub-import", "verify", self._home / "out"], env=self.bench.env)

    def _openssl(self) -> Measured:
        return measure([require("openssl"), "dgst", "-sha256", *sorted((self._home / "out").glob("volume-*"))])

    def _push(self) -> Measured:
        with docker_registry(self._home, name="mirror") as mirror:
            took = self.bench.pushed(mirror)
        shutil.rmtree(self._home / "mirror")
        return took

    def _put(self) -> Measured:
        """Put the same blobs into one repository: no manifests, no mounts."""
        self._fetch(self._home / "blobs")  # not before: they take as much room as an archive
        digests = list(self.bench.goods.places)
        config = self._home / "put.curl"
        with docker_registry(self._home, name="theirs") as mirror:
            begin = f'url = "http://{mirror.host}/v2/peer/blobs/uploads/"\noutput = "/dev/null"\n'
            config.write_text('request = "POST"\nwrite-out = "%header{location}\\n"\n' + begin * len(digests))
            watched = Watched(mirror.pid, mirror.log)
            locations = self._home / "locations"
            began = measure(["sh", "-c", f"{_curl(config)} > {locations}"], watched=watched)
            places = locations.read_text().split()
            assert len(places) == len(digests), began.output[-2000:]
            rows = (
                f'upload-file = "{_file(self._home / "blobs", digest)}"\nurl = "{place}&digest={digest}"\noutput = "/dev/null"\n'
                for digest, place in zip(digests, places, strict=True)
            )
            config.write_text('header = "Expect:"\nheader = "Content-Type: application/octet-stream"\n' + "".join(rows))
            ended = measure(["sh", "-c", _curl(config)], watched=watched)
        shutil.rmtree(self._home / "theirs")
        shutil.rmtree(self._home / "blobs")
        requests = {**began.requests, **ended.requests}
        return Measured(
            began.wall + ended.wall,
            began.cpu + ended.cpu,
            max(began.peak, ended.peak),
            server=began.server + ended.server,
            requests=requests,
        )


def _file(folder: Path, digest: Digest) -> Path:
    return folder / digest.replace(":", "-")


def _curl(config: Path) -> str:
    return f"{require('curl')} --no-progress-meter --fail --parallel --parallel-max {_CONNECTIONS} --config {config}"


def _forward(ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    ours()
    theirs()


def _backward(ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    theirs()
    ours()


def rows(peers: Peers, found: Turns) -> list[Row]:
    """Return the ratios with their bars."""
    images = len(peers.bench.goods.images)
    return [
        *_created(found),
        Row("`create` after a kill at 90 %, wall", *_over(found.resumed, found.unsigned, "wall", 0.4, "first run")),
        Row("`verify`, wall", *_over(found.verify, found.openssl, "wall", 1.5, "openssl")),
        Row("`verify`, CPU", *_over(found.verify, found.openssl, "cpu", float("inf"), "openssl")),
        Row("`push`, wall", *_over(found.push, found.put, "wall", 1.1, "curl")),
        Row(
            "`plan`, CPU for an image",
            1000 * typical(found.plan, "cpu") / images,
            4,
            "ms",
            f"{typical(found.plan, 'cpu'):.1f} s for {images} images, with start and catalog, signatures looked for",
        ),
        *_served(serving.loads(_SERVED, turns=4)),
    ]


def _created(found: Turns) -> list[Row]:
    """Return `create` compared with imgpkg, and with curl, which has no bar."""
    made = []
    for what, unit, bar in (("wall", "wall", 0.8), ("CPU", "cpu", 0.85)):
        if found.imgpkg:
            made.append(Row(f"`create`, {what}", *_over(found.create, found.imgpkg, unit, bar, "imgpkg, flush, openssl")))
        else:
            missing = "imgpkg is not on this machine"
            made.append(Row(f"`create`, {what}", float("nan"), bar, "× imgpkg, flush, openssl", missing))
        no_bar = float("inf")
        made.append(Row(f"`create`, {what}", *_over(found.create, found.fetched, unit, no_bar, "curl, flush, openssl twice")))
        made.append(
            Row(
                f"… without signatures, {what}",
                *_over(found.unsigned, found.fetched, unit, no_bar, "curl, flush, openssl twice"),
            )
        )
    return made


def _over(
    ours: Sequence[Measured], theirs: Sequence[Measured], what: str, bar: float, name: str
) -> tuple[float, float, str, str]:
    return ratio(ours, theirs, what), bar, f"× {name}", pair(ours, theirs, what, "s")


def _served(turns: Sequence[tuple[serving.Load, serving.Load]]) -> list[Row]:
    """Return `serve` compared with nginx: the first time, when it hashes what it sends, and the median of later times."""
    first, *later = turns
    ours, theirs = median(mine.cpu for mine, _ in later), median(other.cpu for _, other in later)
    return [
        Row(
            "`serve`, large blobs, CPU",
            ours / max(theirs, 0.01),
            4,
            "× nginx",
            f"{ours:.2f} s and {theirs:.2f} s for {_SERVED} GB that were sent before",
        ),
        Row(
            "… sent for the first time, hashed",
            first[0].cpu / max(first[1].cpu, 0.01),
            float("inf"),
            "× nginx",
            f"{first[0].cpu:.2f} s and {first[1].cpu:.2f} s",
        ),
    ]
