"""What a person with nothing but a stock Linux does with an archive (docs/reference/archive-format.md): the tools agree with us."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from common.archive.volume import entry_header
from common.oci.image import digest_of, encode
from tests.fakes.archives import CUT, Content, noise, write

pytestmark = pytest.mark.integration
NEEDED = ("zstd", "tar", "bsdtar", "sha256sum", "skopeo")
SOURCE = "registry.test/org/image:v1"


@pytest.fixture(autouse=True)
def tools():
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")


def run(*command: object, cwd: Path, stdin: bytes | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, input=stdin, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, (command, done.stderr.decode(errors="replace"))
    return done.stdout.decode()


def layer() -> tuple[bytes, bytes]:
    """Return a layer, plain and as it is stored."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 700_000
        tar.addfile(entry, io.BytesIO(noise("file", 700_000)))
    return raw.getvalue(), gzip.compress(raw.getvalue(), mtime=0)


class RealImage(Content):
    """One image whose config is its own, as skopeo wants it."""

    plain, stored = layer()

    @property
    def config(self) -> bytes:
        history = {"type": "layers", "diff_ids": [digest_of(self.plain)]}
        return encode({"architecture": "amd64", "os": "linux", "rootfs": history, "config": {}})

    def manifest(self, layers):
        document = json.loads(super().manifest(layers))
        document["config"] |= {"digest": digest_of(self.config), "size": len(self.config)}
        return encode(document)

    @property
    def blobs(self):
        return {digest_of(blob): blob for blob in (self.config, self.stored)}

    def planned(self):
        return [plan for plan in super().planned() if plan.descriptor.digest in self.blobs]

    def _record(self, layers):
        return replaced_blobs(super()._record(layers), tuple(self.blobs))


def replaced_blobs(record, blobs):
    return type(record)(record.media_type, record.size, blobs=blobs)


IMAGE = RealImage(images={SOURCE: [RealImage.stored]}, bound=20_000, volume_size=400_000)


@pytest.fixture(
    params=[CUT, replace(CUT, missing=frozenset([digest_of(CUT.images["registry.test/large:v1"][0])])), IMAGE],
    ids=["cut", "missing", "image"],
)
def archive(request, tmp_path) -> Path:
    write(tmp_path / "archive", request.param)
    return tmp_path / "archive"


def volumes(archive: Path) -> list[Path]:
    return sorted(archive.glob("volume-*.tar.zst"))


def test_sha256sum_checks_it_one_medium_at_a_time(archive):
    assert "FAILED" not in run("sha256sum", "-c", "SHA256SUMS", cwd=archive)
    volumes(archive)[0].unlink()
    assert "FAILED" not in run("sha256sum", "-c", "--ignore-missing", "SHA256SUMS", cwd=archive)


def test_zstd_proves_the_structure(archive):
    run("zstd", "-t", *volumes(archive), cwd=archive)


def test_zstd_finds_the_uncompressed_size_of_raw_frames(tmp_path):
    write(tmp_path, Content(images={}))
    assert "oci-layout" in run("tar", "--zstd", "-tf", tmp_path / "volume-0001.tar.zst", cwd=tmp_path)


def test_tar_and_bsdtar_list_the_same(archive):
    for volume in volumes(archive):
        gnu = run("tar", "--zstd", "-tf", volume, cwd=archive).splitlines()
        bsd = run("bsdtar", "-tf", volume, cwd=archive).splitlines()
        assert gnu == bsd
        assert gnu[0] == "oci-layout"
        assert gnu[-1] == "inventory.json"
        assert "index.json" in gnu


def unpack(archive: Path, layout: Path, order: int = 1) -> None:
    """Do what the format's description tells a person to do."""
    layout.mkdir()
    for volume in volumes(archive)[::order]:
        run("sh", "-c", f"zstd -dc '{volume}' | tar -xf - -C '{layout}'", cwd=archive)
    blobs = layout / "blobs" / "sha256"
    for first in list(blobs.glob("*.piece-001-of-*")):
        name = first.name.partition(".")[0]
        run("sh", "-c", f"cat {name}.piece-* > {name} && rm {name}.piece-*", cwd=blobs)


@pytest.mark.parametrize("order", [1, -1])
def test_it_unpacks_into_an_oci_layout_in_any_order(archive, tmp_path, order):
    layout = tmp_path / "layout"
    unpack(archive, layout, order)
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    inventory = json.loads((layout / "inventory.json").read_bytes())
    assert (layout / "inventory.json").read_bytes() == (archive / "inventory.json").read_bytes()
    wanted = {digest[7:] for digest, blob in inventory["blobs"].items() if "pieces" in blob} | {
        d[7:] for d in inventory["manifests"]
    }
    files = {path.name: path for path in (layout / "blobs" / "sha256").iterdir()}
    assert set(files) == wanted
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        assert path.stat().st_mode & 0o777 == 0o644
        assert path.stat().st_mtime == 0 or len(inventory["blobs"]["sha256:" + name]["pieces"]) > 1


def test_skopeo_copies_the_image_by_its_source_reference(tmp_path):
    write(tmp_path / "archive", IMAGE)
    assert len(volumes(tmp_path / "archive")) > 1
    unpack(tmp_path / "archive", tmp_path / "layout")
    run("skopeo", "copy", "--insecure-policy", f"oci:layout:{SOURCE}", f"dir:{tmp_path / 'out'}", cwd=tmp_path)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == next(iter(IMAGE.manifests.values()))
    assert (tmp_path / "out" / digest_of(IMAGE.stored)[7:]).read_bytes() == IMAGE.stored


@pytest.mark.parametrize("size", [8 * 1024**3 - 1, 8 * 1024**3, 9 * 1024**3 + 5])
def test_tar_and_bsdtar_read_headers_of_large_entries(tmp_path, size):
    path = tmp_path / "sparse.tar"
    header = entry_header("blobs/sha256/" + "ab" * 32, size)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size + -size % 512 + 1024)
    for tool in ("tar", "bsdtar"):
        listed = run(tool, "-tvf", path, cwd=tmp_path)
        assert str(size) in listed.split()
        assert listed.strip().endswith("blobs/sha256/" + "ab" * 32)
