"""The table of targets: each reader of strangers' bytes, its seeds, and what has to be true of that which it lets through.

Seeds are small, so that an input costs microseconds or a few milliseconds: most of them are parts of real files in tests/data.
A reader raises HubError for what it refuses; anything else that it raises is a defect.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common.archive import checksums, frames, inventory_file, receipt, rerequest
from common.archive.signature import Verifier
from common.oci.compression import decompressed
from common.oci.image import Descriptor, digest_of, parse_digest
from common.oci.image_file import ImageFile
from common.registry.settings import RegistrySettings
from common.sbom.document import identifiers
from common.sbom.document import read as read_sbom
from common.sbom.envelope import unwrapped
from common.text import is_visible
from exporter.archive import output
from exporter.catalog.readers import bundle_image, catalog_image, file_based, layer_tree, oci_layout, package_manifests, sqlite
from exporter.catalog.selection import select
from exporter.catalog.validation import validate
from exporter.cli import listing
from exporter.distributed import plan_file
from exporter.imageset import file as imageset
from exporter.imageset.model import ImageSet, OperatorRequest
from exporter.kit.lock_file import LockFile
from exporter.kit.settings import PLATFORMS, RELEASE_LOCK, Runtime
from exporter.plan import mapping as plan_mapping
from exporter.report.preview import Preview
from exporter.settings import ExportSettings
from importer.programs.stamp import IMAGE, VERSION, Stamp
from importer.serving.htpasswd import Htpasswd
from tests.fakes import reports, sboms
from tests.fakes.archives import CUT, noise
from tests.fakes.catalogs import CATALOGS
from tests.fakes.databases import csv, database
from tests.fakes.factories import image, index, layer
from tests.fuzz.mutation import mutated, mutated_json, mutated_text

Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader. `read` takes the input and a folder for files; `share`: of the inputs, next to the 1 of a cheap reader."""

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]
    mutations: tuple[Mutate, ...] = (mutated,)
    share: float = 1.0

    def input(self, chance: random.Random) -> bytes:
        """Return one input."""
        return chance.choice(self.mutations)(chance.choice(_seeds(self)), chance)


@cache
def _seeds(target: Target) -> list[bytes]:
    return target.seeds()


JSON = (mutated_json, mutated_json, mutated_json, mutated)
TEXT = (mutated_text, mutated_text, mutated)
PACKAGE = "community-v4.20/ecr-secret-operator"


def at(folder: Path, name: str, content: bytes) -> Path:
    """Write an input where its reader looks."""
    path = folder / name
    path.write_bytes(content)
    return path


# Archives.


def _inventory(raw, _folder):
    inventory = inventory_file.decode(raw, "fuzz")
    for blob in inventory.blobs.values():
        assert sum(piece.size for piece in blob.pieces) in (0, blob.size)


def _frames(raw, _folder):
    assert len(frames.decompress(raw, 20_000)) <= 20_000


def _checksums(raw, _folder):
    for name, checksum in checksums.parse(raw).items():
        assert "/" not in name
        assert len(checksum) == 64


def _receipts():
    some = tuple(CUT.inventory(CUT.layout()).blobs)[:2]
    return [receipt.encode(receipt.make((digest_of(b"x"),), {"registry.test/one": frozenset(some)}, "mirror.test"))]


def _requests():
    inventory = CUT.inventory(CUT.layout())
    return [rerequest.encode(rerequest.make(inventory, digest_of(b"x"), tuple(inventory.blobs)[:2]))]


@cache
def _journal() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        output.write_journal(Path(folder, "journal"), CUT.layout())
        return Path(folder, "journal").read_bytes()


def _plans():
    made = reports.planned(
        file_based.load([("foo/catalog.json", b"\n".join(json.dumps(each).encode() for each in json.loads(_fbc_json()[0])))]),
        ["foo"],
    )
    settings = ExportSettings(ImageSet(), RegistrySettings(), "2026-01-31T12:00:00Z", output=Path(), volume_size=10_000_000)
    return [
        b"".join(
            plan_file.encode(
                listing.plan_document(Preview(made, settings), explain=False) | listing.making_document(Preview(made, settings))
            )
        )
    ]


# Catalogs.


@cache
def _documents() -> dict[str, list[bytes]]:
    """Return the documents of a real package by schema."""
    raw = (CATALOGS / "fbc" / PACKAGE / "catalog.yaml").read_bytes()
    found: dict[str, list[bytes]] = {}
    for part in raw.split(b"\n---\n"):
        kind = part.rpartition(b"schema: ")[2].split(b"\n")[0].decode()
        found.setdefault(kind, []).append(part)
    return found


def _fbc():
    found = _documents()
    package = b"schema: olm.package\nname: ecr-secret-operator\ndefaultChannel: alpha\n"
    channel = b"schema: olm.channel\npackage: ecr-secret-operator\nname: alpha\nentries:\n- name: "
    names = [each.partition(b"\nname: ")[2].partition(b"\n")[0] for each in found["olm.bundle"]]
    return [
        b"\n---\n".join([package, channel + name, each]) for name, each in zip(names[:2], found["olm.bundle"], strict=False)
    ]


def _fbc_json():
    blobs = [
        {"schema": "olm.package", "name": "foo", "defaultChannel": "stable"},
        {"schema": "olm.channel", "package": "foo", "name": "stable", "entries": [{"name": "foo.v1"}, {"name": "foo.v2", "replaces": "foo.v1", "skips": ["x"], "skipRange": "<2.0.0"}]},
        *(
            {"schema": "olm.bundle", "package": "foo", "name": f"foo.v{n}", "image": f"quay.io/foo/foo:v{n}",
             "properties": [{"type": "olm.package", "value": {"packageName": "foo", "version": f"{n}.0.0"}}, {"type": "olm.gvk", "value": {"group": "a", "kind": "B", "version": "v1"}},
                            {"type": "olm.constraint", "value": {"failureMessage": "x", "all": {"constraints": [{"package": {"packageName": "b", "versionRange": ">1"}}]}}}],
             "relatedImages": [{"name": "", "image": f"quay.io/foo/bar:v{n}"}]}
            for n in (1, 2)
        ),
    ]  # fmt: skip
    return [json.dumps(blobs).encode()]


def _catalog(name):
    def read(raw, _folder):
        if name.endswith("json") and raw.startswith(b"["):
            raw = b"\n".join(json.dumps(blob).encode() for blob in json.loads(raw)) if _is_json(raw) else raw
        catalog = file_based.load([(f"foo/{name}", raw)])
        validate(catalog)
        select(catalog, OperatorRequest("registry.test/catalog:v1", full=True))
        select(catalog, OperatorRequest("registry.test/catalog:v1"))

    return read


def _is_json(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), list)
    except (ValueError, RecursionError):
        return False


def _ignore(raw, _folder):
    rules = file_based.IgnoreRules({".indexignore": raw, "a/.indexignore": raw})
    for path in ("a/b/c.yaml", "README.md", "a/.indexignore", "x" * 100):
        rules.ignores(path)


def _sqlite(raw, _folder):
    found = sqlite.read(raw, "fuzz")
    validate(sqlite.catalog_of(found))


def _manifest_files():
    with tarfile.open(CATALOGS / "package-manifests.tar.xz") as archive:
        names = [name for name in archive.getnames() if "/etcd/0.6.1/" in name and "clusterservice" in name]
        content = archive.extractfile(names[0])
        assert content
        return [content.read()[:6000], b"packageName: etcd\nchannels:\n- name: alpha\n  currentCSV: etcdoperator.v0.6.1\ndefaultChannel: alpha\n",
                b"---\n" + csv("etcdoperator.v0.6.1", "0.6.1", "etcdoperator.v0.6.0", ("x",))]  # fmt: skip


def _package_manifests(raw, _folder):
    whole = {
        "etcd/etcd.package.yaml": _seeds(BY_NAME["package manifests"])[1],
        "etcd/0.6.1/a.yaml": _seeds(BY_NAME["package manifests"])[2],
    }
    name = "etcd/etcd.package.yaml" if b"currentCSV" in raw else "etcd/0.6.1/a.yaml"
    found = package_manifests.read({**whole, name: raw}, "fuzz")
    sqlite.catalog_of(found.database)


def _bundle(raw, _folder):
    parts = image(
        [{"manifests/a.clusterserviceversion.yaml": raw}],
        labels={"operators.operatorframework.io.bundle.manifests.v1": "manifests/"},
    )
    _read_bundle(parts)


def _read_bundle(parts):
    from common.oci.image import parse, walk

    document = parse(parts.raw, parts.media_type)
    bundle_image.read(walk(document, lambda _one: document), lambda blob: iter([parts.blobs[blob.digest]]))


def _config(raw, _folder):
    from common.oci.image import parse_config

    config = parse_config(raw)
    catalog_image.location_of("fuzz", config.labels)
    assert all(isinstance(value, str) for value in (*config.labels.values(), *config.environment.values()))


def _layer(raw, _folder):
    tree = layer_tree.LayerTree("/configs")
    tree.apply(iter([raw[:700], raw[700:]]))
    for path, content in tree.files().items():
        assert not path.startswith(("/", ".."))
        assert isinstance(content, bytes)


class _Program(bytearray):
    """A file that an image has, as `extract` writes it."""

    def begin(self, size):
        self.clear()

    def write(self, chunk):
        self.extend(chunk)


def _image_file(raw, _folder):
    program, stamp = _Program(), Stamp({IMAGE: "mirror.test/release@sha256:0", VERSION: "4.18.3"})
    blob = Descriptor("", digest_of(raw), len(raw))
    ImageFile([blob, blob], lambda _layer: iter([raw[:700], raw[700:]])).copy("configs/h", program)
    done = b"".join([*stamp.feed(bytes(program)), stamp.finish()])
    assert len(done) == len(program)


def _programs():
    content = b"\0_RELEASE_IMAGE_LOCATION_\0".ljust(99, b"X") + b"\0\0_RELEASE_VERSION_LOCATION_\0".ljust(60, b"X") + b"\0"
    return [_tar(tarfile.PAX_FORMAT), layer({"configs/h": content, "configs/.wh.x": b""})]


def _tar(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind, link in (("configs", tarfile.DIRTYPE, ""), ("configs/é" + "n" * 120, tarfile.REGTYPE, ""), ("configs/s", tarfile.SYMTYPE, "../configs/f"),
                                 ("configs/f", tarfile.REGTYPE, ""), ("configs/h", tarfile.LNKTYPE, "configs/f"), ("configs/.wh.f", tarfile.REGTYPE, "")):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            content = b"schema: olm.package\n" if kind == tarfile.REGTYPE else b""
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()[:6144]


def _layout_tar():
    parts = image([{"a": b"b"}])
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', f"blobs/sha256/{parts.digest[7:]}": parts.raw}
    listed = {"mediaType": parts.media_type, "digest": parts.digest, "size": len(parts.raw)}
    # An image, and an attestation of it: what belongs to one image is found out from their descriptors.
    first = listed | {
        "annotations": {"org.opencontainers.image.ref.name": "x"},
        "platform": {"os": "linux", "architecture": "a"},
    }
    second = listed | {"digest": f"sha256:{0:064}", "platform": {"os": "unknown", "architecture": "unknown"}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [first, second]}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return [buffer.getvalue()[:6144]]


def _layout(raw, folder):
    with oci_layout.opened(at(folder, "layout.tar", raw)) as layout:
        document = layout.root()
        assert digest_of(document.raw) == document.digest


# Files of a person.

_OWN_IMAGE_SET = b"""\
apiVersion: hub-airgap/v1
Kind: ImageSetConfiguration
mirror:
  operators:
  - &first
    catalog: a.b/c:v1
    packages: &shared [{name: x, optional: true}, {NAME: w, channels: [{name: z}]}]
    exclude: [odf-*, mcg]
  - {<<: [*first, {full: true}], targetTag: t}
  - {catalog: a.b/d:v1, packages: *shared}
  platform: {graph: true, channels: [{name: stable}]}
"""
_IMAGE_SET = b"""\
kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18
    full: false
    targetCatalog: a/b
    packages:
    - name: cert-manager
      minVersion: 4.18.0
      maxVersion: "4.18.9"
    - name: odf-operator
      channels: [{name: stable-4.18, minVersion: 4.18.1}]
  additionalImages: [{name: quay.io/a/b:v1}]
  blockedImages: [{name: "quay.io/.*"}]
"""


def _lock(raw, folder):
    lock = LockFile(at(folder, "pylock.toml", raw), ["httpx>=0.28,<0.29", "bcrypt>=5; platform_machine == 'x86_64'"])
    for wheel in lock.select(Runtime(PLATFORMS[0], "3.11"), parity=True).wheels.values():
        assert "/" not in wheel.filename
        assert len(wheel.sha256) == 64


def _locks():
    packages = RELEASE_LOCK.read_bytes().split(b"\n[[packages]]")
    wanted = [each for each in packages[1:] if each.startswith((b'\nname = "httpx"', b'\nname = "bcrypt"'))]
    return [b"\n[[packages]]".join([packages[0], *wanted])]


def _key(raw, folder):
    assert not Verifier.load(at(folder, "key.pub", raw)).accepts(b"content", noise("signature", 64))


_PUBLIC = (
    b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
)
_ACCOUNT = b"# accounts\nuser:$2y$05$" + b"a" * 53 + b"\nother:$2b$04$" + b"B" * 53 + b"\n"


@cache
def _shipped_keys():
    from exporter.releases.signing import public_keys

    return [*public_keys.shipped(okd=False), *public_keys.shipped(okd=True)]


def _release_signature(raw, _folder):
    from common.openshift.release_signature import read_payload
    from exporter.releases.signing.openpgp import verify
    from tests.fakes import openpgp

    verified = verify(raw, _shipped_keys(), expired=True)
    assert read_payload(verified.content).digest[7:] in {path.name.split(".sha256-")[1][:64] for path in openpgp.SAMPLES}


def _release_signatures():
    from tests.fakes import openpgp

    return [
        each
        for name in ("ocp-4.15.0", "ocp-ci", "rhel7")
        for each in (openpgp.sample(name), openpgp.plain(openpgp.sample(name)))
    ]


def _signed_document(raw, _folder):
    from common.openshift.release_signature import read_payload

    payload = read_payload(raw)
    assert payload.reference.isprintable()
    assert len(payload.digest) == 71


def _signed_documents():
    from tests.fakes import openpgp

    return [openpgp.payload("sha256:" + "1" * 64)]


def _release_keys(raw, _folder):
    from common.text import visible
    from exporter.releases.signing.public_keys import read_keys

    for key in read_keys(raw, "fuzz"):
        assert len(key.fingerprint) == 40
        assert visible(str(key)) == str(key)
        assert key.rsa_key.key_size >= 2048


def _release_key_files():
    from tests.fakes import openpgp

    return [(openpgp.SHIPPED / "openshift-ci-4.asc").read_bytes(), *openpgp.published_keys()[:2]]


def _profiles():
    from common import target_profile as t

    operator = t.InstalledOperator("odf-operator", "stable", "odf-operator.v4.18.1", "4.18.1", "x", "openshift-storage")
    mirror = t.TargetRegistry("mirror.test:5000", nested_paths=False, sparse_indexes=None, referrers=True)
    return [t.encode(t.TargetProfile(t.MEDIA_TYPE, "4.18.7", ("linux/amd64",), (operator,), mirror, ("x",)))]


def _profile(raw, folder):
    from common import target_profile

    target_profile.load(at(folder, "profile.json", raw))


def _descriptors(raw, _folder):
    from common.oci.image import parse, parse_descriptor

    if raw.lstrip()[1:9] == b'"digest"':
        parse_descriptor(raw)
        return
    document = parse(raw)
    assert document.digest == digest_of(raw)
    for one in getattr(document, "manifests", ()) or getattr(document, "layers", ()):
        assert isinstance(one, Descriptor)


def _manifests():
    parts = image([{"a": b"b"}], annotations={"a": "b"})
    return [
        parts.raw,
        index([parts, image([{"c": b"d"}], platform="linux/arm64")]).raw,
        json.dumps({"digest": parts.digest, "mediaType": "a/b", "size": 3}).encode(),
    ]


def _sboms() -> list[bytes]:
    digest = digest_of(b"image")
    packages = [sboms.rpm("bash", "5.1.8", "GPL-3.0-or-later"), sboms.root("app", digest)]
    licences = [sboms.licensed("MIT"), {"expression": "MIT OR Zlib"}, {"license": {"name": "Acme, v1"}}]
    cyclonedx = sboms.cyclonedx([sboms.component("a", "1", *licences, components=[sboms.component("b", "2")])], about=digest)
    statement = sboms.statement(sboms.SPDX_PREDICATE, sboms.spdx(packages), digest)
    documents = (sboms.spdx(packages), cyclonedx, statement, sboms.envelope(statement), sboms.bundle(statement))
    return [sboms.dumped(document) for document in documents]


def _sbom(raw: bytes, _folder: Path) -> None:
    opened = unwrapped(raw)
    if opened is None:
        return
    found = read_sbom(opened.document)
    for package in found.packages:
        assert all(len(text) <= 500 and all(map(is_visible, text)) for text in package)
        assert identifiers(package.licence)
    assert all(parse_digest(digest) for digest in (*found.named, *(opened.subjects or ())))


TARGETS = (
    Target("inventory", lambda: [inventory_file.encode(CUT.inventory(CUT.layout()))], _inventory, JSON),
    Target("frame", lambda: [frames.compress(noise("frame", 3000) + bytes(5000))], _frames),
    Target("SHA256SUMS", lambda: [checksums.render({"inventory.json": "0" * 64, "volume-0001.tar.zst": "1" * 64})], _checksums, TEXT),
    Target("receipt", _receipts, lambda raw, folder: receipt.load(at(folder, "receipt.json", raw)), JSON),
    Target("re-request", _requests, lambda raw, folder: rerequest.load(at(folder, "request.json", raw)), JSON),
    Target("journal", lambda: [_journal()], lambda raw, folder: output.read_journal(at(folder, "journal", raw)), JSON),
    Target("plan", _plans, lambda raw, _folder: plan_file.decode(raw, "fuzz"), JSON),
    Target("catalog, YAML", _fbc, _catalog("catalog.yaml"), TEXT, 0.2),
    Target("catalog, JSON", _fbc_json, _catalog("catalog.json"), JSON, 0.5),
    Target(".indexignore", lambda: [b"# a\n*.md\n/a/**/b\n!c.yaml\n[a-z]?/x*\n\\#d\nfoo/\n"], _ignore, TEXT, 0.5),
    Target("SQLite", lambda: [database(13), database(5)], _sqlite, (mutated,), 0.3),
    Target("package manifests", _manifest_files, _package_manifests, TEXT, 0.2),
    Target("bundle", lambda: [csv("foo.v1", "1.0.0"), _manifest_files()[0]], _bundle, TEXT, 0.2),
    Target("config of an image", lambda: [image(labels={"operators.operatorframework.io.index.configs.v1": "/configs"}).config], _config, JSON),
    Target("manifest", _manifests, _descriptors, JSON),
    Target("tar layer", lambda: [_tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)], _layer),
    Target("program of an image", _programs, _image_file),
    Target("layer of files", lambda: [layer({"configs/a/catalog.yaml": b"schema: olm.package\n"})], lambda raw, _folder: catalog_image.read_configs([decompressed([raw], 100_000)], "/configs")),
    Target("OCI layout", _layout_tar, _layout),
    Target("image set", lambda: [_IMAGE_SET, _OWN_IMAGE_SET], lambda raw, _folder: imageset.parse(raw, "fuzz"), TEXT, 0.3),
    Target("list of images", lambda: [b"# a\nregistry.test/a/b@sha256:0=a/b:v1\nregistry.test/c\n"], lambda raw, folder: plan_mapping.read(at(folder, "images", raw)), TEXT),
    Target("SBOM", _sboms, _sbom, JSON),
    Target("SBOM, tag-value", lambda: [sboms.tag_value("left-pad", "1.3.0", "MIT OR Zlib").encode()], _sbom, TEXT),
    Target("target profile", _profiles, _profile, JSON),
    Target("lock file", _locks, _lock, TEXT, 0.2),
    Target("public key", lambda: [_PUBLIC], _key, TEXT),
    Target("release signature", _release_signatures, _release_signature),
    Target("signed document", _signed_documents, _signed_document, JSON),
    Target("release keys", _release_key_files, _release_keys, (mutated, mutated_text)),
    Target("htpasswd", lambda: [_ACCOUNT], lambda raw, folder: Htpasswd.load(at(folder, "htpasswd", raw)), TEXT),
)  # fmt: skip
BY_NAME = {target.name: target for target in TARGETS}
