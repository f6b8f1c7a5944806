"""What the published registries hold: the catalogs of real publishers, and small images under every name that they mention."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.oci.reference import Reference
from tests.fakes import sources
from tests.fakes.catalogs import CATALOGS
from tests.fakes.cluster import FakeCluster
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry

INDEX = "redhat/redhat-operator-index"
PACKAGES = ("openshift-cert-manager-operator", "aws-load-balancer-operator")
NEWEST = "1.20.0"
ACCOUNT = "12345678|hub-export"  # as Red Hat's service accounts are called
_BUNDLE = {"manifests/operator.clusterserviceversion.yaml": b"kind: ClusterServiceVersion\nspec: {}\n"}
_SERVER = {"Entrypoint": ["/bin/registry-server"], "Cmd": ["--database", "/bundles.db"]}


@dataclass
class Hall:
    """The registries of the world, and a cluster."""

    redhat: FakeRegistry
    quay: FakeRegistry
    cluster: FakeCluster
    files: dict[str, bytes] = field(default_factory=dict)

    def stock(self, site: Mapping[str, Any]) -> None:
        """Fill them, as far as a site's document is about it."""
        size = int(site.get("size", 20_000))
        found = sources.from_directory(CATALOGS / "fbc/redhat", packages=PACKAGES, size=size)
        self.files = dict(found.files)
        for reference, parts in found.images.items():
            self._put(reference, parts)
        self._put(Reference.parse("registry.redhat.io/ubi9/ubi:latest"), image((b"ubi",)))
        python = image(({"bin/python3": b"python"},), config={"Env": ["PYTHON_VERSION=3.11", "PATH=/usr/bin:/bin"]})
        self._put(Reference.parse("registry.redhat.io/ubi9/python-311:latest"), python)
        server = [
            image(({"bin/registry-server": b"registry-server"},), platform=p, config=_SERVER)
            for p in ("linux/amd64", "linux/s390x")
        ]
        self._put(Reference.parse("registry.redhat.io/openshift4/ose-operator-registry:v4.3"), index(server))
        if site.get("public"):
            self._put_public(size)
        self.publish({name: self._older(name, raw) for name, raw in self.files.items() if f"v{NEWEST}" not in name}
                     if site.get("week") == 1 else self.files)  # fmt: skip

    def _put_public(self, size: int) -> None:
        """Publish a catalog that needs no account, with one package whose images are all on quay.io."""
        found = sources.from_directory(CATALOGS / "fbc/community-v4.20", packages=("infinispan",), size=size)
        for reference, parts in found.images.items():
            self._put(reference, parts)
        text = b"".join(found.files.values()).decode()
        for tagged in sorted(set(re.findall(r"image: (quay\.io/[\w./-]+:[\w.-]+)$", text, re.MULTILINE))):
            self._put(Reference.parse(tagged), image(({**_BUNDLE, "bin/operator": tagged.encode()},)))
        self.quay.add_image("operatorhubio/catalog", sources.catalog_image(found.files), tag="latest")

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Move the tag of the catalog to these files."""
        self.redhat.add_image(INDEX, sources.catalog_image(files), tag="v4.18")

    def _put(self, reference: Reference, parts: Any) -> None:
        registry = self.quay if reference.registry == "quay.io" else self.redhat
        registry.add_image(reference.repository, parts, tag=reference.tag)

    @staticmethod
    def _older(name: str, raw: bytes) -> bytes:
        """Return a file of the catalog as it was before the newest version."""
        if not name.endswith("channel.yaml"):
            return raw
        kept = []
        for channel in yaml.load_all(raw, yaml.CSafeLoader):
            channel["entries"] = [entry for entry in channel["entries"] if not entry["name"].endswith(NEWEST)]
            if not channel["name"].endswith(NEWEST.rpartition(".")[0]):
                kept.append(channel)
        return str(yaml.dump_all(kept, Dumper=yaml.CSafeDumper)).encode()

    def bring_manifests(self, folder: Path) -> None:
        """Make folders of package manifests as they were published in 2020, and the images that they name."""
        raw = lzma.decompress((CATALOGS / "package-manifests.tar.xz").read_bytes())
        with tempfile.TemporaryDirectory() as name, tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            tar.extractall(name, filter="data")
            found = sources.from_directory(Path(name, "package-manifests"))
        for path, content in found.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for reference, parts in found.images.items():
            self._put(reference, parts)
