"""Graph data: which tarballs are accepted, and the image that is made of one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.archive.inventory import ImageKind
from common.errors import ContentError, UsageError
from common.mapping import Mirror, place_images
from common.oci import media_types
from common.oci.image import Descriptor, Digest, Platform, digest_of
from common.oci.reference import Reference
from exporter.images.resolve import ResolvedImage, WantedImage
from exporter.images.stored import MAX_CONFIG_SIZE
from exporter.plan.plan import make_plan
from exporter.releases import graph_data, graph_image
from exporter.releases.graph_data import GraphData, checked
from exporter.releases.graph_image import GraphImage
from tests.fakes import factories, releases
from tests.fakes.factories import Parts
from tests.samples import more

REAL = releases.graph_data_files()
MADE = {
    "version": b"1.1.0\n",
    "channels/stable-4.18.yaml": b"name: stable-4.18\nversions: [4.18.1, 4.18.2]\n",
    "blocked-edges/4.18.2-Some.yaml": b"to: 4.18.2\nfrom: .*\nurl: https://a\nname: Some\nmessage: It fails.\n",
    "raw/metadata.json": b"{}",
}


def read(files: Mapping[str, bytes] | bytes) -> GraphData:
    return checked(files if isinstance(files, bytes) else releases.graph_data(files), "https://host/graph-data")


def channels(found: GraphData) -> list[str]:
    return sorted(path[9:-5] for path in found.files if path.startswith("channels/") and path.endswith(".yaml"))


def test_real_graph_data() -> None:
    found = read(REAL)
    assert found.version == "1.1.0"
    assert channels(found) == ["eus-4.18", "stable-4.16", "stable-4.17", "stable-4.18"]
    assert {path: content for path, content in found.files.items() if not path.endswith("/")} == REAL


def test_the_tarball_of_a_git_server_has_one_folder() -> None:
    """As https://github.com/openshift/cincinnati-graph-data/archive/master.tar.gz, which older documentation names."""
    inside = {f"cincinnati-graph-data-master/{name}": content for name, content in {**MADE, ".github/a.yaml": b"a"}.items()}
    assert read(inside).files == read(MADE).files


def test_graph_data_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.tar.gz").write_bytes(releases.graph_data(MADE))
    assert channels(graph_data.from_file(tmp_path / "data.tar.gz")) == ["stable-4.18"]
    (tmp_path / "plain.tar").write_bytes(gzip.decompress(releases.graph_data(MADE)))
    assert graph_data.from_file(tmp_path / "plain.tar").files == read(MADE).files
    for name in ("absent", "."):
        with pytest.raises(UsageError, match=str(tmp_path)):
            graph_data.from_file(tmp_path / name)


@pytest.mark.parametrize("version", ["1.0.0", "1.2.0", *more(["1.1.7"])])
def test_versions_that_the_update_service_reads(version: str) -> None:
    assert read({**MADE, "version": version.encode()}).version == version


@pytest.mark.parametrize(
    "case",
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Log in</html>", "but an HTML page"),
        (b'{"kind":"does_not_exist","value":"x"}', "but a JSON document"),
        (gzip.compress(b""), "no readable gzip-compressed tar"),
        (gzip.compress(b"\0" * 10_240), "has no file 'version'"),
        (releases.graph_data(MADE)[:-20], "gzip stream ends early"),
        (b"PK\x03\x04" + bytes(600), "no readable"),
        ({}, "has no file 'version'"),
        ({**MADE, "version": b"2.0.0"}, r"version '2\.0\.0', which is not one from 1\.0 to 1\.2"),
        ({**MADE, "version": b"1.3.0"}, "not one from"),
        ({**MADE, "version": b"\x1b[31m1"}, "not one from"),
        ({**MADE, "channels/stable-4.18.yaml": b"\n"}, "without any channel"),
        ({name: content for name, content in MADE.items() if not name.startswith("blocked")}, "without blocked-edges/"),
        ({**MADE, "raw/metadata.json": b"<html>"}, "raw/metadata.json"),
        *more(
            [
                ({name: content for name, content in MADE.items() if not name.startswith("raw")}, "without raw/"),
                ({**MADE, "raw/metadata.json": b"[" * 100_000}, "raw/metadata.json"),
                ({**MADE, "raw/metadata.json": b'{"4.1.0": 1}'}, "raw/metadata.json"),
                ({"a/version": b"1.1.0", "b/version": b"1.1.0"}, "has no file 'version'"),
            ]
        ),
    ],
)
def test_what_is_no_graph_data(case: tuple[Any, str]) -> None:
    """An empty tarball, or the page of a proxy, was carried as graph data (OCPBUGS-21854, OCPBUGS-38037)."""
    content, message = case
    with pytest.raises(ContentError, match=message) as refused:
        read(content)
    assert str(refused.value).startswith("https://host/graph-data: ")
    assert "graph-data again" in refused.value.hint
    assert "\x1b" not in str(refused.value)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(content)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(made, io.BytesIO(content))
        return buffer.getvalue()


def with_entries(*entries: bytes) -> bytes:
    return gzip.compress(b"".join(entries) + gzip.decompress(releases.graph_data(MADE)), mtime=0)


@pytest.mark.parametrize(
    "case",
    [
        (entry("../../etc/passwd"), r"name '\.\./\.\./etc/passwd'"),
        (entry("/etc/passwd"), "name '/etc/passwd'"),
        (entry("channels/.wh..wh..opq"), "a file with the name"),
        (entry("channels/a\x1b[2J.yaml"), "a file with the name"),
        (entry("channels/a.yaml", tarfile.SYMTYPE, "../../../etc/passwd"), "leads to no file"),
        (entry("channels/a.yaml", tarfile.SYMTYPE, "a.yaml"), "leads to no file"),
        (entry("channels/a.yaml", tarfile.LNKTYPE, "/etc/passwd"), "leads to no file"),
        (entry("channels/a", tarfile.FIFOTYPE), "neither a file"),
        (entry("channels", content=b"x"), "a file and a directory"),
        *more(
            [
                (entry("channels/a.yaml", tarfile.SYMTYPE, "."), "leads to no file"),
                (entry("x" * 5_000), "a file with the name"),
                (entry("channels/a", tarfile.CHRTYPE), "neither a file"),
                (entry("version/a", content=b"x"), "a file and a directory"),
            ]
        ),
    ],
)
def test_entries_that_are_refused(case: tuple[bytes, str]) -> None:
    content, message = case
    with pytest.raises(ContentError, match=message):
        read(with_entries(content))


def test_links_within_the_tarball_are_files() -> None:
    links = (
        entry("channels/a.yaml", tarfile.SYMTYPE, "b.yaml"),
        entry("channels/b.yaml", tarfile.LNKTYPE, "channels/stable-4.18.yaml"),
    )
    found = read(with_entries(*links))
    assert found.files["channels/a.yaml"] == found.files["channels/stable-4.18.yaml"] == MADE["channels/stable-4.18.yaml"]


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("what", ["tarball", "file", *more(["files", "headers", "unpacked"])])
def test_limits(what: str, over: int) -> None:
    match what:
        case "tarball":
            # What follows the end of a tar in a gzip stream is padding.
            content = releases.graph_data(MADE)
            content += bytes(graph_data.MAX_TARBALL + over - len(content))
        case "file":
            content = _fast({**MADE, "LICENSE": bytes(graph_data.MAX_FILE + over)})
        case "files":
            count, rest = divmod(graph_data.MAX_SIZE - sum(map(len, MADE.values())) + over, graph_data.MAX_FILE)
            big = {f"raw/{number}": bytes(graph_data.MAX_FILE) for number in range(count)}
            content = _fast({**MADE, **big, "raw/rest": bytes(rest)})
        case "headers":
            # Beside them: two directories of a name, four files, and the block at the end.
            plain = gzip.decompress(releases.graph_data(MADE))
            header = tarfile.TarInfo("raw/empty").tobuf(tarfile.USTAR_FORMAT)
            content = gzip.compress(header * (graph_data.MAX_HEADERS + over - 8) + plain, 1)
        case _:
            plain = gzip.decompress(releases.graph_data(MADE))
            content = gzip.compress(plain + bytes(graph_data.MAX_UNPACKED + over - len(plain)), 1)
    if over:
        with pytest.raises(ContentError, match=r"limit|more than|more headers"):
            read(content)
    else:
        assert read(content).version == "1.1.0"


def _fast(files: Mapping[str, bytes]) -> bytes:
    return gzip.compress(gzip.decompress(releases.graph_data(files)), 1)


# The image.


def base(parts: Parts, repository: str = "openshift-release-dev/ocp-v4.0-art-dev") -> tuple[ResolvedImage, Any]:
    tree, stored = releases.opened(parts)
    return ResolvedImage(WantedImage(Reference("quay.io", repository, digest=parts.digest), ImageKind.COMPONENT), tree), stored


def build(files: Mapping[str, bytes], *parts: Parts, **tarball: Any) -> GraphImage:
    bases = [base(each) for each in parts]

    def stored(blob: Descriptor) -> Iterator[bytes]:
        return next(iter([each.blobs[blob.digest]]) for each in _all(parts) if blob.digest in each.blobs)

    return graph_image.build(checked(releases.graph_data(files, **tarball), "x"), [image for image, _ in bases], stored)


def _all(parts: tuple[Parts, ...]) -> Iterator[Parts]:
    for each in parts:
        yield from (each, *each.manifests)


def cli(architecture: str = "amd64") -> Parts:
    return releases.release("4.18.3", architecture, names=("cli",)).components["cli"]


def test_the_image() -> None:
    made = build(MADE, cli())
    tree = made.resolved.tree
    assert tree is not None
    (manifest,) = tree.images
    assert made.digest == manifest.digest
    assert (manifest.media_type, manifest.layers[-1].media_type) == (
        media_types.DOCKER_MANIFEST,
        media_types.DOCKER_LAYER_GZIP,
    )
    config = json.loads(made.held[manifest.config.digest])
    assert config["config"]["Cmd"] == [
        *("/bin/bash", "-c"),
        "exec cp -rp /var/lib/cincinnati-graph-data/* /var/lib/cincinnati/graph-data",
    ]
    layer = gzip.decompress(made.held[manifest.layers[-1].digest])
    assert config["rootfs"]["diff_ids"][-1] == digest_of(layer)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = tar.getmembers()
        assert {(one.uid, one.gid, one.mtime, one.mode) for one in members} == {(0, 0, 0, 0o755), (0, 0, 0, 0o644)}
        assert all(one.isdir() == (one.mode == 0o755) for one in members)
        content = {one.name: tar.extractfile(one).read() for one in members if one.isfile()}  # type: ignore[union-attr]
    assert content == {f"var/lib/cincinnati-graph-data/{name}": raw for name, raw in MADE.items()}
    assert {one.name for one in members if one.isdir()} >= {f"var/lib/cincinnati-graph-data/{n}" for n in graph_data.FOLDERS}


def test_what_the_plan_needs() -> None:
    made = build(MADE, cli())
    wanted = made.resolved.wanted
    assert (wanted.kind, wanted.source) == (ImageKind.GRAPH_DATA, "openshift/graph-image")
    assert wanted.reference.name == releases.COMPONENTS  # where the layers of the base are
    below = [one.digest for one in made.resolved.tree.images[0].layers[:-1]]  # type: ignore[union-attr]
    assert below == [digest_of(layer) for layer in cli().layers]  # type: ignore[union-attr]
    assert set(made.held) == {blob.digest for blob in made.resolved.tree.blobs} - set(below)  # type: ignore[union-attr]


def test_the_place_on_the_mirror() -> None:
    made = build(MADE, cli())
    plan = make_plan([], [made.resolved], made.held, [])
    (record,) = plan.images
    assert (record.kind, record.complete, record.digest) == (ImageKind.GRAPH_DATA, True, made.digest)
    (placed,) = place_images([], plan.images, Mirror.parse("mirror.test:5000/ocp"))
    assert placed.repository.name == "mirror.test:5000/ocp/openshift/graph-image"
    assert made.held.keys() <= {blob.descriptor.digest for blob in plan.blobs}


def test_the_same_data_give_the_same_digest() -> None:
    backwards = dict(reversed(MADE.items()))
    digests = {build(files, cli(), mtime=time).digest for files in (MADE, backwards) for time in (1, 1_700_000_000)}
    assert len(digests) == 1
    assert build({**MADE, "LICENSE": b"x"}, cli()).digest not in digests


def test_every_architecture_of_the_base() -> None:
    many = releases.multi("4.18.3", names=("cli",)).components["cli"]
    made = build(MADE, many)
    tree = made.resolved.tree
    assert tree is not None
    assert tree.root.media_type == media_types.DOCKER_LIST
    assert made.resolved.platforms == ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
    assert len(tree.images) == 4


def test_bases_of_several_releases() -> None:
    """A site with clusters of two architectures has a payload for each, and one update service."""
    made = build(MADE, cli(), cli("arm64"))
    assert made.resolved.platforms == ("linux/amd64", "linux/arm64")
    assert made.resolved.tree is not None
    assert made.resolved.tree.root.media_type == media_types.DOCKER_LIST
    assert build(MADE, cli(), cli()).digest == build(MADE, cli()).digest
    other = ResolvedImage(WantedImage(Reference("other.test", "a", digest=Digest("x")), ImageKind.COMPONENT))
    tree, stored = base(cli())
    assert graph_image.build(read(MADE), [tree, other], stored).resolved.platforms == ()


def test_a_base_of_oci_stays_one() -> None:
    plain = factories.image(({"bin/bash": b"bash"},), config={"Entrypoint": ["/usr/bin/tini"], "User": "1001"})
    listed = factories.index([plain, factories.attestation()])
    made = build(MADE, listed)
    tree = made.resolved.tree
    assert tree is not None
    assert tree.root.media_type == media_types.OCI_INDEX
    (manifest,) = tree.images
    assert manifest.layers[-1].media_type == media_types.OCI_LAYER_GZIP
    settings = json.loads(made.held[manifest.config.digest])["config"]
    assert "Entrypoint" not in settings  # the command would be its arguments
    assert settings["User"] == "1001"
    assert made.resolved.absent_platforms == ()
    assert Platform.parse(made.resolved.platforms[0]) == Platform("linux", "amd64")


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_of_the_config_of_a_base(over: int) -> None:
    parts = cli()
    config = parts.config + b" " * (MAX_CONFIG_SIZE + over - len(parts.config))  # type: ignore[union-attr]
    document = json.loads(parts.raw)
    document["config"] |= {"size": len(config), "digest": digest_of(config)}
    parts = replace(parts, raw=json.dumps(document).encode(), config=config)  # type: ignore[call-arg]
    if over:
        with pytest.raises(ContentError, match="a config of"):
            build(MADE, parts)
    else:
        assert build(MADE, parts).held


@pytest.mark.parametrize("parts", [factories.helm_chart(), factories.index([factories.attestation()])])
def test_a_base_that_is_no_image(parts: Parts) -> None:
    with pytest.raises(ContentError, match="no image that runs"):
        build(MADE, parts)
