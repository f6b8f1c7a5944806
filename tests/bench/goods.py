"""What the benchmarks move: images of a real catalog under their published names, with layers made up, in a real registry.

The names and their number are those of the largest catalog that is here; layers are shared as real ones are (two of a base
system, one of the operator, three of the image's own), so that the unique bytes are about 0.4 of the sum. A layer is a gzip
member that nothing makes smaller, as the published ones are, made from its own name alone: the same numbers, the same bytes.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import urllib3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from common.oci import media_types
from common.oci.image import Digest, digest_of
from common.oci.reference import Reference
from exporter.catalog.model import Catalog, Package
from exporter.catalog.readers import file_based
from tests.fakes import factories, sources
from tests.fakes.catalogs import real

LARGEST = Path(__file__).parents[3] / "shared" / "data" / "catalogs" / "large" / "community-all.json.xz"
CATALOG = "quay.io/operatorhubio/catalog:bench"
_BASES = 4
_STEP = 1 << 20
_PLATFORMS = ("linux/amd64", "linux/arm64")
_OWN = (0.8, 0.15, 0.05)  # how the bytes of an image itself are spread over its layers
_CSV = {"manifests/operator.clusterserviceversion.yaml": b"kind: ClusterServiceVersion\nspec: {}\n"}  # which names nothing
_WEIGHTS = (1, 1, 2, 2, 4, 6, 8, 16)  # few images are large


@dataclass(frozen=True)
class Shape:
    """How much: about so many images, and so many bytes that no two blobs share."""

    images: int
    unique: int


@dataclass(frozen=True)
class Goods:
    """What a source registry was filled with. `images`: the published name → where it is there, pinned.

    `unique`: bytes of all blobs once; `total`: of all blobs of all images; `blobs`: how many there are; `places`: a repository of each.
    """

    packages: tuple[str, ...]
    images: Mapping[str, str] = field(repr=False)
    blobs: int
    unique: int
    total: int
    registries: tuple[str, ...] = field(repr=False)
    places: Mapping[Digest, str] = field(repr=False)

    def registries_conf(self, host: str) -> str:
        """Return a registries.conf that leads every published registry to `host`."""
        rows = (f'[[registry]]\nprefix = "{n}"\nlocation = "{host}"\ninsecure = true\n' for n in self.registries)
        return "\n".join(rows)

    def image_set(self) -> str:
        """Return the ImageSetConfiguration that asks for every image."""
        rows = [f"    - {{name: {name}}}" for name in self.packages]
        head = ["apiVersion: mirror.openshift.io/v2alpha1", "kind: ImageSetConfiguration", "mirror:", "  operators:"]
        return "\n".join([*head, f"  - catalog: {CATALOG}", "    full: true", "    packages:", *rows]) + "\n"


def is_real() -> bool:
    """Say whether the largest real catalog is here; what is measured with a smaller one is no benchmark."""
    return LARGEST.is_file()


def largest() -> bytes:
    """Return the largest real catalog as one JSON stream; a small one where it is not."""
    if is_real():
        return lzma.decompress(LARGEST.read_bytes())
    return small()


def small() -> bytes:
    """Return some packages of it, 3 MB, which are in this repository."""
    return b"\n".join(raw_package(package) for package in real("fbc/community-v4.20").packages.values())


def fill(url: str, shape: Shape) -> Goods:
    """Put images and catalog into the registry at `url`; return what is there."""
    chosen = chosen_images(file_based.load([("catalog.json", largest())]), shape.images)
    uploads, sizes = _Uploads(url), Sizes(shape, sum(not each.bundle for each in chosen))
    with ThreadPoolExecutor(2) as pool:
        pinned = dict(zip((each.name for each in chosen), pool.map(partial(put_image, uploads, sizes), chosen), strict=True))
    return _with_catalog(url, uploads, [each.package for each in chosen], pinned)


@dataclass(frozen=True)
class Wanted:
    """An image that the catalog names: the `number`th of those with a payload, or a `bundle`, which is small.

    `build`: another one makes other bytes of the same image.
    """

    name: str
    package: Package
    number: int
    bundle: bool
    build: str = ""

    @property
    def seed(self) -> str:
        return self.name + self.build


class Store(Protocol):
    """Takes the content of images, as a registry does."""

    sizes: dict[Digest, int]

    def layer(self, repository: str, name: str, size: int) -> tuple[Digest, int]:
        """Return digest and size of a layer that several repositories may have, made from its name."""

    def blob(self, repository: str, content: bytes) -> Digest:
        """Take content that only this repository has."""

    def document(self, repository: str, body: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        """Take a manifest or an index, and return its descriptor."""


def chosen_images(catalog: Catalog, wanted: int, *, flawed: bool = False) -> list[Wanted]:
    """Return the images of whole packages, in the order of their names, that fit into the number wanted.

    `flawed`: also of packages with images that have no name, which is an error of their publishers.
    """
    found: dict[str, Wanted] = {}
    payloads = 0
    for package in catalog.packages.values():
        more: dict[str, Wanted] = {}
        for bundle in package.bundles.values():
            more[bundle.image] = Wanted(bundle.image, package, 0, bundle=True)
            for image in bundle.related_images:
                more.setdefault(image.image, Wanted(image.image, package, payloads + len(more) // 2, bundle=False))
        if more.pop("", None) and not flawed:
            continue
        if len(found | more) <= wanted:
            found |= more
            payloads += sum(not each.bundle for each in more.values())
    return list(found.values())


class Sizes:
    """How large the layers are, in bytes."""

    def __init__(self, shape: Shape, count: int) -> None:
        self._unit = 0.95 * shape.unique / (count * sum(_WEIGHTS) / len(_WEIGHTS))
        self.base = int(0.65 * shape.unique / count)
        self.group = int(0.48 * shape.unique / count)

    def own(self, number: int, part: float) -> int:
        return max(64, int(self._unit * _WEIGHTS[number % len(_WEIGHTS)] * part))


class _Uploads:
    """A registry that takes each blob once, and mounts it wherever else it is wanted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        self._made: dict[str, tuple[Digest, int]] = {}
        self.places: dict[Digest, str] = {}
        self.sizes: dict[Digest, int] = {}

    def layer(self, repository: str, name: str, size: int) -> tuple[Digest, int]:
        """Return digest and size of a layer that is in the repository now."""
        if name not in self._made:
            content = made(name, size)
            self._made[name] = self.blob(repository, content), len(content)  # by two threads at once, perhaps: no harm
        digest, length = self._made[name]
        if self.places.get(digest) != repository:
            query = f"mount={digest}&from={self.places[digest]}"
            answer = self._pool.request("POST", f"{self._url}/v2/{repository}/blobs/uploads/?{query}")
            assert answer.status == 201, answer.data
        return digest, length

    def blob(self, repository: str, content: bytes) -> Digest:
        digest = digest_of(content)
        location = self._pool.request("POST", f"{self._url}/v2/{repository}/blobs/uploads/").headers["Location"]
        answer = self._pool.request("PUT", f"{location}&digest={digest}", body=content)
        assert answer.status == 201, answer.data
        self.places.setdefault(digest, repository)
        self.sizes[digest] = len(content)
        return digest

    def document(self, repository: str, body: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        raw = msgspec.json.encode(body)
        digest = digest_of(raw)
        url = f"{self._url}/v2/{repository}/manifests/{tag or digest}"
        answer = self._pool.request("PUT", url, body=raw, headers={"Content-Type": media_type})
        assert answer.status == 201, answer.data
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}


def made(name: str, size: int) -> bytes:
    """Return a gzip member of about `size` bytes, which is as random as its name is new."""
    packer = zlib.compressobj(0, wbits=31)
    stream = Cipher(AES256(bytes.fromhex(digest_of(name.encode())[7:])), CTR(bytes(16))).encryptor()
    zeros = bytes(_STEP)
    parts = [packer.compress(stream.update(zeros[: min(_STEP, size - done)])) for done in range(0, size, _STEP)]
    return b"".join([*parts, packer.flush()])


def put_image(uploads: Store, sizes: Sizes, image: Wanted) -> tuple[str, int]:
    """Put one image into a registry, every third with two platforms; return its digest and the sum of its blobs."""
    name, number = image.seed, image.number
    repository = Reference.parse(image.name).repository
    platforms = _PLATFORMS if number % 3 == 0 and not image.bundle else _PLATFORMS[:1]
    shared = [(f"base {number % _BASES} {half}", sizes.base // 2) for half in "ab"] + [
        (f"of {image.package.name}", sizes.group)
    ]
    children, total = [], 0
    for platform in platforms:
        if image.bundle:
            layer = factories.layer({**_CSV, "metadata/name": name.encode()}, 1)
            layers = [(uploads.blob(repository, layer), len(layer))]
        else:
            own = [(f"{name} {platform} {part}", int(sizes.own(number, part) / len(platforms))) for part in _OWN]
            layers = [uploads.layer(repository, *each) for each in (*shared, *own)]
        system, _, architecture = platform.partition("/")
        raw = msgspec.json.encode(
            {"architecture": architecture, "os": system, "config": {}, "rootfs": {"type": "layers", "diff_ids": [name]}}
        )
        config = uploads.blob(repository, raw)
        body = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {"mediaType": media_types.OCI_CONFIG, "digest": config, "size": len(raw)},
            "layers": [{"mediaType": media_types.OCI_LAYER_GZIP, "digest": d, "size": s} for d, s in layers],
        }
        described = uploads.document(repository, body, media_types.OCI_MANIFEST)
        children.append({**described, "platform": {"os": system, "architecture": architecture}})
        total += len(raw) + sum(size for _, size in layers)
    if len(children) == 1:
        return str(children[0]["digest"]), total
    body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": children}
    return str(uploads.document(repository, body, media_types.OCI_INDEX)["digest"]), total


def _with_catalog(url: str, uploads: _Uploads, packages: list[Package], pinned: Mapping[str, tuple[str, int]]) -> Goods:
    """Add the catalog, its references led to the new images."""
    renamed = {}
    for name, (digest, _) in pinned.items():
        old = Reference.parse(name)
        renamed[name] = str(old.pinned(Digest(digest)))
    unique = {package.name: package for package in packages}
    files = {f"{name}/catalog.json": _renamed(raw_package(package), renamed) for name, package in unique.items()}
    reference = Reference.parse(CATALOG)
    image = sources.catalog_image(files, platforms=_PLATFORMS[:1])
    factories.seed(url, reference.repository, image, tag=reference.tag)
    images = {new: f"{Reference.parse(new).repository}@{Reference.parse(new).digest}" for new in renamed.values()}
    images[CATALOG] = f"{reference.repository}:{reference.tag}"
    return Goods(
        packages=tuple(sorted(unique)),
        images=images,
        blobs=len(uploads.sizes),
        unique=sum(uploads.sizes.values()),
        total=sum(size for _, size in pinned.values()),
        registries=tuple(sorted({Reference.parse(name).registry for name in images})),
        places=dict(uploads.places),
    )


def raw_package(package: Package) -> bytes:
    """Return a package as its publisher wrote it."""
    blobs = [package.blob, *(c.blob for c in package.channels.values()), *(b.blob for b in package.bundles.values())]
    return b"\n".join(blob.raw for blob in blobs)


def _renamed(content: bytes, names: Mapping[str, str]) -> bytes:
    for old, new in names.items():
        content = content.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    return content
