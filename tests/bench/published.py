"""A source registry with every image of the largest real catalog, as files that nginx serves.

The images are those of `tests.bench.goods`, small ones. Real registries take milliseconds of CPU for each of 100,000 files that
they are given, and for each that they give; nginx takes microseconds, so that what is measured beside it is the client.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from common.oci import media_types
from common.oci.image import Digest, digest_of
from common.oci.reference import Reference
from exporter.catalog.readers import file_based
from tests.bench.goods import CATALOG, Shape, Sizes, Wanted, chosen_images, largest, made, put_image, raw_package
from tests.fakes import factories
from tests.fakes.servers import Server, answers, free_port, require

_IMAGE = 150_000  # bytes that an image has for itself, about
_CHANGED = 200  # of so many bundles, one is another one a week later
_NAMES = re.compile(rb'("image":\s*")([^"]+)"')
_KINDS = {media_types.OCI_MANIFEST: "images", media_types.OCI_INDEX: "indexes"}
_CONFIG = """\
daemon off; master_process off; {user} pid {home}/nginx.pid; error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log {home}/log combined; root {home}; sendfile on; tcp_nopush on; keepalive_requests 10000000;
  open_file_cache off; client_body_temp_path {home}/tmp; proxy_temp_path {home}/tmp; fastcgi_temp_path {home}/tmp;
  uwsgi_temp_path {home}/tmp; scgi_temp_path {home}/tmp; types {{ }}
  server {{
    listen 127.0.0.1:{port}; server_name localhost; error_page 404 @missing;
    location = /v2/ {{ default_type application/json; return 200 '{{}}'; }}
    location ~ "^/v2/.+/blobs/sha256:(?<a>..)(?<b>.+)$" {{ default_type application/octet-stream; try_files /blobs/$a/$a$b =404; }}
    location ~ "^/v2/.+/manifests/sha256:(?<a>..)(?<b>.+)$" {{ default_type {manifest}; try_files /images/$a/$a$b @index; }}
    location ~ "^/v2/(?<c>.+)/tags/list$" {{ default_type application/json; try_files /tags/$c/:list =404; }}
    location ~ "^/v2/(?<c>.+)/manifests/(?<d>[^:]+)$" {{ default_type {index}; try_files /tags/$c/$d =404; }}
    location @index {{ default_type {index}; try_files /indexes/$a/$a$b =404; }}
    location @missing {{ default_type application/json; return 404 '{{"errors":[{{"code":"MANIFEST_UNKNOWN","message":"unknown"}}]}}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Index:
    """What is published. `images`: how many the catalog names; `changed`: how many of them are others a week later.

    `blobs` and `unique`, their bytes: in the first week, with those of the catalog.
    """

    images: int
    packages: int
    bundles: int
    blobs: int
    unique: int
    changed: int
    registries: tuple[str, ...] = field(repr=False)
    weeks: tuple[bytes, bytes] = field(repr=False)

    def publish(self, home: Path, week: int) -> None:
        """Let the catalog's tag be that of a week, 0 or 1."""
        reference = Reference.parse(CATALOG)
        path = home / "tags" / reference.repository / reference.tag
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.weeks[week])

    def registries_conf(self, host: str) -> str:
        """Return a registries.conf that leads every published registry to `host`."""
        rows = (f'[[registry]]\nprefix = "{n}"\nlocation = "{host}"\ninsecure = true\n' for n in self.registries)
        return "\n".join(rows)


class Files:
    """The files of a registry below a folder: blobs, images and indexes by their digest."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made: dict[str, tuple[Digest, int]] = {}
        self._lock = threading.Lock()
        self.sizes: dict[Digest, int] = {}
        for kind in ("blobs", *_KINDS.values()):
            for number in range(256):
                (home / kind / f"{number:02x}").mkdir(parents=True)

    def layer(self, repository: str, name: str, size: int) -> tuple[Digest, int]:
        """Return digest and size of a layer."""
        if name not in self._made:
            content = made(name, size)
            self._made[name] = self.blob(repository, content), len(content)
        return self._made[name]

    def blob(self, repository: str, content: bytes) -> Digest:
        """Write a blob."""
        digest = digest_of(content)
        self._write("blobs", digest, content)
        self.sizes[digest] = len(content)
        return digest

    def document(self, repository: str, body: Any, media_type: str, tag: str = "") -> dict[str, Any]:
        """Write a manifest or an index."""
        raw = msgspec.json.encode(body)
        digest = digest_of(raw)
        self._write(_KINDS[media_type], digest, raw)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def _write(self, kind: str, digest: Digest, content: bytes) -> None:
        name = digest.removeprefix("sha256:")
        (self._home / kind / name[:2] / name).write_bytes(content)


def fill(home: Path, size: Fraction, raw: bytes = b"") -> Index:
    """Write a part of a catalog, the largest one by default, with all of its images: whole packages, about `size` of all images."""
    catalog = file_based.load([("catalog.json", raw or largest())])
    everything = chosen_images(catalog, 10**9, flawed=True)
    chosen = chosen_images(catalog, int(len(everything) * size), flawed=True)
    files = Files(home)
    sizes = Sizes(Shape(len(chosen), len(chosen) * _IMAGE), sum(not each.bundle for each in chosen))
    pinned = _put(files, sizes, chosen)
    packages = {each.package.name: each.package for each in chosen}
    content = b"\n".join(map(raw_package, packages.values()))
    first = _catalog(files, _renamed(content, pinned))
    blobs, unique = len(files.sizes), sum(files.sizes.values())
    _tag_lists(home, chosen)
    others = _put(files, sizes, _rebuilt(chosen))
    weeks = first, _catalog(files, _renamed(content, {**pinned, **others}))
    names = {Reference.parse(each.name).registry for each in chosen} | {Reference.parse(CATALOG).registry}
    bundles = sum(each.bundle for each in chosen)
    return Index(len(chosen), len(packages), bundles, blobs, unique, len(others), tuple(sorted(names)), weeks)


def _put(files: Files, sizes: Sizes, images: list[Wanted]) -> dict[str, str]:
    """Write images; return the name of each, pinned."""
    with ThreadPoolExecutor(2) as pool:
        found = zip(images, pool.map(partial(put_image, files, sizes), images), strict=True)
        return {each.name: str(Reference.parse(each.name).pinned(Digest(digest))) for each, (digest, _) in found}


def _tag_lists(home: Path, images: list[Wanted]) -> None:
    """Write the tags of each repository: one for each image, and none of a signature."""
    catalog = Reference.parse(CATALOG)
    by_repository = {catalog.repository: [str(catalog.tag)]}
    for number, each in enumerate(images):
        by_repository.setdefault(Reference.parse(each.name).repository, []).append(f"v{number}")
    for repository, tags in by_repository.items():
        path = home / "tags" / repository / ":list"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode({"name": repository, "tags": tags}))


def _rebuilt(images: list[Wanted]) -> list[Wanted]:
    """Return the images that are other ones a week later: of a few bundles, with the images that come after them."""
    bundles = [number for number, each in enumerate(images) if each.bundle]
    first = bundles[:: max(1, min(_CHANGED, len(bundles) // 3))]
    return [replace(each, build=" again") for number in first for each in images[number : number + 4]]


def _renamed(raw: bytes, pinned: Mapping[str, str]) -> bytes:
    new = {name.encode(): reference.encode() for name, reference in pinned.items()}
    return _NAMES.sub(lambda match: match[1] + new[match[2]] + b'"', raw)


def _catalog(files: Files, raw: bytes) -> bytes:
    """Write the image of the catalog, and return its index."""
    repository = Reference.parse(CATALOG).repository
    layer = factories.layer({"configs/catalog.json": raw}, 1)
    parts = factories.image((layer,), labels={"operators.operatorframework.io.index.configs.v1": "/configs"})
    for blob in (parts.config, layer):
        files.blob(repository, blob)
    files.document(repository, msgspec.Raw(parts.raw), media_types.OCI_MANIFEST)
    return factories.index([parts]).raw


@contextmanager
def served(home: Path) -> Iterator[Server]:
    """Serve a folder of `fill` as a registry."""
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # its files are this user's
    kinds = {"manifest": media_types.OCI_MANIFEST, "index": media_types.OCI_INDEX}
    (home / "nginx.conf").write_text(_CONFIG.format(home=home, port=port, user=user, **kinds))
    process = subprocess.Popen([require("nginx"), "-c", home / "nginx.conf", "-e", home / "nginx.log"])
    try:
        assert answers(process, "127.0.0.1", port), (home / "nginx.log").read_text()
        yield Server(f"localhost:{port}", None, home / "log", home, process.pid)
    finally:
        process.terminate()
        process.wait(30)
