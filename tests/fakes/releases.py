"""Synthetic OpenShift releases: payloads, components and their `.sig` tags, made from a real list of components.

    first = releases.release("4.12.0")                                   # 183 components, amd64
    then = releases.release("4.12.1", before=first, changed=("cli",))    # one component is another image
    small = releases.release("4.12.2", names=("cli", "installer"))       # two components: cheap
    many = releases.multi("4.12.3", names=("cli",))                      # a list; components are lists too

    with FakeRegistry() as registry:
        first.put(registry)                                              # or first.seed(url) for any registry
        conf = releases.registries_conf(registry.host, first)            # quay.io is that registry

The images have Docker's media types, as published ones have. Each component has three layers: one that all components share, one
that some share, and one of its own. `release_hosts.py` has the update service, the signature stores and the graph data.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from common.oci.image import Descriptor, Document, Tree, hex_of, parse, walk
from tests.fakes import factories
from tests.fakes.factories import ImageParts, Parts
from tests.fakes.registry import FakeRegistry

DATA = Path(__file__).parents[1] / "data" / "releases"
PAYLOADS = "quay.io/openshift-release-dev/ocp-release"
COMPONENTS = "quay.io/openshift-release-dev/ocp-v4.0-art-dev"
OKD_PAYLOADS, OKD_COMPONENTS = "quay.io/okd/scos-release", "quay.io/okd/scos-content"  # see `payloads` and `pool`
REFERENCES = DATA / "image-references" / "ocp-4.12.0-amd64.json"
BOOTIMAGES = "release-manifests/0000_50_installer_coreos-bootimages.yaml"
# Of tags and of the bootimages (openshift/installer, docs of the stream); the other names are the same.
NAMES = {"amd64": "x86_64", "arm64": "aarch64"}
ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x")
# What `oc adm release extract` replaces in a binary (openshift/oc, pkg/cli/admin/release/extract_tools.go; openshift/installer,
# pkg/asset/releaseimage/default.go): a name between NULs, and room to a fixed length.
IMAGE_MARKER = b"\0_RELEASE_IMAGE_LOCATION_\0".ljust(326, b"X") + b"\0"
VERSION_MARKER = b"\0_RELEASE_VERSION_LOCATION_\0".ljust(92, b"X") + b"\0"
_SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass(frozen=True)
class Release:
    """A release. `components` by the names of image-references; `payloads` and `pool`: where they are published."""

    version: str
    architecture: str
    payload: Parts
    components: Mapping[str, Parts]
    kubevirt: tuple[ImageParts, ...] = ()
    payloads: str = PAYLOADS
    pool: str = COMPONENTS
    files: Mapping[str, bytes] = field(default_factory=dict)  # of the top layer

    @property
    def digest(self) -> str:
        return self.payload.digest

    @property
    def source(self) -> str:
        """The payload by digest, as the update service names it."""
        return f"{self.payloads}@{self.digest}"

    @property
    def tag(self) -> str:
        return f"{self.version}-{NAMES.get(self.architecture, self.architecture)}"

    def component(self, name: str) -> str:
        """Return a component by digest, as image-references names it."""
        return f"{self.pool}@{self.components[name].digest}"

    def published(self, *, signed: bool = True) -> Iterator[tuple[str, Parts, str | None]]:
        """Yield repository, image and tag of everything; payload and components have `.sig` tags where `signed` is set."""
        for repository, images in ((self.pool, (*self.components.values(), *self.kubevirt)), (self.payloads, (self.payload,))):
            for image in {image.digest: image for image in images}.values():
                yield repository, image, self.tag if image is self.payload else None
                if signed:
                    yield repository, signature(image, repository), f"sha256-{hex_of(image.digest)}.sig"

    def put(self, registry: FakeRegistry, *, signed: bool = True) -> None:
        """Put everything into the registry of the tests, without requests."""
        for repository, image, tag in self.published(signed=signed):
            registry.add_image(repository.partition("/")[2], image, tag)

    def seed(self, url: str, *, signed: bool = True, **access: Any) -> None:
        """Put everything into any registry; `access`: see `factories.seed`."""
        known: set[tuple[str, str]] = set()
        for repository, image, tag in self.published(signed=signed):
            factories.seed(url, repository.partition("/")[2], image, tag=tag, known=known, **access)


def registries_conf(host: str, *releases: Release, insecure: bool = True) -> str:
    """Return a registries.conf that leads the registries of releases to `host`."""
    names = sorted({name.partition("/")[0] for each in releases for name in (each.payloads, each.pool)})
    flag = str(insecure).lower()
    return "\n".join(f'[[registry]]\nprefix = "{name}"\nlocation = "{host}"\ninsecure = {flag}\n' for name in names)


def release(
    version: str = "4.12.0",
    architecture: str = "amd64",
    *,
    names: Collection[str] = (),
    before: Release | None = None,
    changed: Collection[str] = (),
    same: Mapping[str, str] | None = None,
    lists: Collection[str] = (),
    kubevirt: bool = False,
    previous: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    more: Mapping[str, bytes] | None = None,
    payloads: str = PAYLOADS,
    pool: str = COMPONENTS,
) -> Release:
    """Return a release for one architecture.

    `names`: its components; none: all 183. `before`: a release whose images it has, but for the components in `changed`. `same`:
    components, by name, that have the image of another one, as the placeholders of s390x. `lists`: components that are a list
    of two platforms. `kubevirt`: with the image for virtual machines in the bootimages. `more`: files of the top layer, by
    path, which go before those made here.
    """
    made: dict[str, Parts] = {}
    for name in names or all_names():
        kept = before and name not in changed and before.components.get(name)
        made[name] = kept or _component(name, version, architecture, name in lists)
    made |= {name: made[other] for name, other in (same or {}).items()}
    machines = (_machine(version, architecture),) if kubevirt else ()
    files = {
        "release-manifests/image-references": references(version, made, pool),
        "release-manifests/release-metadata": release_metadata(version, previous, metadata),
        BOOTIMAGES: bootimages({architecture: machines}, pool),
        **(more or {}),
    }
    return Release(version, architecture, payload(files, made, version, architecture), made, machines, payloads, pool, files)


def multi(
    version: str = "4.12.0",
    *,
    names: Collection[str] = (),
    architectures: Collection[str] = ARCHITECTURES,
    before: Release | None = None,
    changed: Collection[str] = (),
    kubevirt: bool = False,
    previous: Iterable[str] = (),
    children: Mapping[str, Mapping[str, bytes]] | None = None,
    payloads: str = PAYLOADS,
    pool: str = COMPONENTS,
) -> Release:
    """Return a multi-architecture release: a list of payloads, all with the lists of components (openshift/oc, release/new.go).

    `children`: other files in the payload of an architecture.
    """
    made: dict[str, Parts] = {}
    for name in names or all_names():
        kept = before and name not in changed and before.components.get(name)
        made[name] = kept or factories.index([_component(name, version, one) for one in architectures], docker=True)
    machines = {one: (_machine(version, one),) for one in architectures if kubevirt and one in ("amd64", "s390x")}
    files = {
        "release-manifests/image-references": references(version, made, pool),
        "release-manifests/release-metadata": release_metadata(
            version, previous, {"release.openshift.io/architecture": "multi"}
        ),
        BOOTIMAGES: bootimages({one: machines.get(one, ()) for one in architectures}, pool),
    }
    payloads_of = [payload({**files, **(children or {}).get(one, {})}, made, version, one) for one in architectures]
    every = tuple(image for images in machines.values() for image in images)
    return Release(version, "multi", factories.index(payloads_of, docker=True), made, every, payloads, pool, files)


@cache
def all_names() -> tuple[str, ...]:
    """Return the names of the components of 4.12.0."""
    return tuple(tag["name"] for tag in json.loads(REFERENCES.read_bytes())["spec"]["tags"])


def references(version: str, components: Mapping[str, Parts], pool: str = COMPONENTS) -> bytes:
    """Return an image-references: the real one with other digests, for names that it has, and tags made alike for others."""
    document = json.loads(REFERENCES.read_bytes())
    known = {tag["name"]: tag for tag in document["spec"]["tags"]}
    model = known["cli"]
    document["metadata"]["name"] = version
    document["spec"]["tags"] = [
        {**known.get(name, model), "name": name, "from": {"kind": "DockerImage", "name": f"{pool}@{image.digest}"}}
        for name, image in components.items()
    ]
    return json.dumps(document, indent=2).encode()


def release_metadata(version: str, previous: Iterable[str] = (), metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a release-metadata (openshift/oc, pkg/cli/admin/release/new.go, `CincinnatiMetadata`)."""
    more = {"url": f"https://access.redhat.com/errata/RHBA-2023:{len(version):04}", **(metadata or {})}
    return json.dumps(
        {"kind": "cincinnati-metadata-v0", "version": version, "previous": [*previous], "metadata": more}
    ).encode()


def bootimages(machines: Mapping[str, Iterable[ImageParts]], pool: str = COMPONENTS) -> bytes:
    """Return the ConfigMap `coreos-bootimages` with the images for virtual machines of each architecture."""
    streams: dict[str, Any] = {}
    for architecture, images in machines.items():
        disks = {"rhel-coreos-extensions": {"azure-disk": {"release": "415.92", "url": "https://rhcos.example/disk.vhd"}}}
        found: dict[str, Any] = {}
        for each in images:
            found["kubevirt"] = {"release": "415.92", "image": f"{pool}:kubevirt", "digest-ref": f"{pool}@{each.digest}"}
        streams[NAMES.get(architecture, architecture)] = {**disks, **({"images": found} if found else {})}
    stream = json.dumps({"stream": "rhcos-4.15", "metadata": {}, "architectures": streams}, indent=2)
    lines = "\n".join(f"    {line}" for line in stream.splitlines())
    name = "metadata:\n  name: coreos-bootimages\n  namespace: openshift-machine-config-operator\n"
    return f"apiVersion: v1\ndata:\n  releaseVersion: 0.0.1-snapshot\n  stream: |\n{lines}\nkind: ConfigMap\n{name}".encode()


def payload(
    files: Mapping[str, bytes], components: Mapping[str, Parts], version: str, architecture: str = "amd64"
) -> ImageParts:
    """Return a payload: the cluster-version-operator with a last layer of these files (openshift/oc, release/new.go)."""
    base = components.get("cluster-version-operator") or _component("cluster-version-operator", version, architecture)
    below = base if isinstance(base, ImageParts) else next(one for one in base.manifests if one.platform.endswith(architecture))
    labels = {"io.openshift.release": version, "io.openshift.release.base-image-digest": base.digest}
    assert isinstance(below, ImageParts)
    return factories.image(
        (*below.layers, manifests_layer(files)), platform=f"linux/{architecture}", docker=True, labels=labels
    )


def manifests_layer(files: Mapping[str, bytes]) -> bytes:
    """Return the last layer of a payload, gzip-compressed: the directories, then the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in files):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def opened(parts: Parts) -> tuple[Tree, Callable[[Descriptor], Iterator[bytes]]]:
    """Return an image as `fetch_tree` gives it, and what reads its blobs."""
    documents: dict[str, Document] = {}
    blobs: dict[str, bytes] = {}

    def add(one: Parts) -> None:
        for child in one.manifests:
            add(child)
        documents[one.digest] = parse(one.raw, one.media_type)
        blobs.update(one.blobs)

    add(parts)
    return walk(documents[parts.digest], lambda child: documents[child.digest]), lambda blob: iter([blobs[blob.digest]])


def signature(image: Parts, repository: str) -> ImageParts:
    """Return the cosign signature of an image (sigstore/cosign, specs/SIGNATURE_SPEC.md): an OCI image with the signed JSON."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": image.digest},
        "type": "cosign container image signature",
    }
    content = json.dumps({"critical": critical, "optional": None}).encode()
    return factories.artifact(factories.image((content,)), layer_type=_SIGNATURE)


def graph_data_files() -> dict[str, bytes]:
    """Return real graph data, cut, by path."""
    root = DATA / "graph-data"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def graph_data(files: Mapping[str, bytes] | None = None, *, mtime: int = 1_700_000_000) -> bytes:
    """Return a tarball as the update service serves it: directories, files in the order given, times, owners."""
    buffer = io.BytesIO()
    given = graph_data_files() if files is None else files
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in given if "/" in name):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime, entry.uid = tarfile.DIRTYPE, 0o775, mtime, 1000
            tar.addfile(entry)
        for name, content in given.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime, entry.uid, entry.uname = len(content), 0o664, mtime, 1000, "builder"
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=mtime)


@cache
def _component(name: str, version: str, architecture: str, is_list: bool = False) -> Parts:
    if is_list:
        images = [_component(name, version, one) for one in dict.fromkeys((architecture, "amd64", "arm64"))][:2]
        return factories.index(images, docker=True)
    group = sum(name.encode()) % 8
    layers = (
        _shared("base", architecture, 2_000),
        _shared(f"group {group}", architecture, 700),
        factories.layer(_files(name, version, architecture)),
    )
    return factories.image(layers, platform=f"linux/{architecture}", docker=True, labels={"name": f"openshift/ose-{name}"})


@cache
def _shared(what: str, architecture: str, size: int) -> bytes:
    return factories.layer({f"usr/lib/{what}": random.Random(f"{what} {architecture}").randbytes(size)})


@cache
def _machine(version: str, architecture: str) -> ImageParts:
    disk = {"disk/rhcos.qcow2": f"disk of {version} for {architecture}".encode()}
    return factories.image((disk,), platform=f"linux/{architecture}", docker=True)


def _files(name: str, version: str, architecture: str) -> dict[str, bytes]:
    """Return the files of a component's own layer; those that hold programs have them at their places."""
    text = f"{name} of {version} for {architecture}".encode()
    program = b"\x7fELF " + text
    match name:
        case "installer" | "baremetal-installer":
            return {"usr/bin/openshift-install": program + IMAGE_MARKER + VERSION_MARKER + text}
        case "cli":
            return {"usr/bin/oc": program + IMAGE_MARKER + VERSION_MARKER + text, "usr/bin/cp": b"cp", "bin/bash": b"bash"}
        case "cli-artifacts":
            root = "usr/share/openshift"
            return {f"{root}/linux_{one}/oc": program + one.encode() for one in ARCHITECTURES} | {f"{root}/mac/oc": program}
        case "installer-artifacts":
            return {"usr/share/openshift/mac/openshift-install": program + IMAGE_MARKER + VERSION_MARKER}
    return {f"usr/bin/{name}": program}
