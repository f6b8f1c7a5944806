"""What the OpenShift Update Service finds in a mirror: its graph builder, over HTTP, without our client.

    found = graph_builder.releases_of("http://localhost:5000", "ocp/openshift/release-images")
    assert [(one.version, one.architecture) for one in found] == [("4.18.3", "amd64")]

Source: openshift/cincinnati, graph_builder/release_scrape_dockerv2/registry/mod.rs: tags by pages of 20; manifests of Docker's media
types only, others are left out; `multi` for a list of several; the layers from the top, up to the first with release-metadata.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import urllib3

from common.oci import media_types
from common.oci.image import digest_of

_ACCEPT = f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_SCHEMA_1_SIGNED};q=0.8, {media_types.DOCKER_LIST};q=0.5"
_METADATA = "release-manifests/release-metadata"


@dataclass(frozen=True)
class Found:
    """A release of the graph; `digest` is what its payload is pulled by."""

    version: str
    architecture: str
    digest: str
    tag: str
    previous: tuple[str, ...] = ()


def releases_of(url: str, repository: str, **pool: Any) -> list[Found]:
    """Return the releases of a repository, sorted; `pool`: options of urllib3, such as `ca_certs` and `headers`."""
    with urllib3.PoolManager(retries=False, **pool) as http:
        found = [one for tag in _tags(http, url, repository) if (one := _release(http, f"{url}/v2/{repository}", tag))]
    return sorted(found, key=lambda one: (one.version, one.architecture))


def _tags(http: urllib3.PoolManager, url: str, repository: str) -> Iterator[str]:
    page: str | None = f"{url}/v2/{repository}/tags/list?n=20"
    while page:
        answer = http.request("GET", page)
        assert answer.status == 200, answer.data
        yield from json.loads(answer.data)["tags"] or ()
        link = answer.headers.get("Link", "")
        page = urljoin(url, link[link.index("<") + 1 : link.index(">")]) if 'rel="next"' in link else None


def _manifest(http: urllib3.PoolManager, base: str, reference: str) -> tuple[Any, str] | None:
    answer = http.request("GET", f"{base}/manifests/{reference}", headers={**http.headers, "Accept": _ACCEPT})
    kind = answer.headers.get("Content-Type", "")
    if answer.status != 200 or kind not in (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST):
        return None  # "unknown media type": the tag is left out, with a line in the log
    return json.loads(answer.data), digest_of(answer.data)


def _release(http: urllib3.PoolManager, base: str, tag: str) -> Found | None:
    got = _manifest(http, base, tag)
    if got is None:
        return None
    (document, digest), architecture = got, ""
    if "manifests" in document:
        listed = [child["platform"]["architecture"] for child in document["manifests"]]
        architecture = listed[0] if len(set(listed)) == 1 else "multi"
        child = _manifest(http, base, document["manifests"][0]["digest"])
        assert child is not None
        document = child[0]
    architecture = architecture or json.loads(_blob(http, base, document["config"]["digest"]))["architecture"]
    for layer in reversed(document["layers"]):
        raw = gzip.decompress(_blob(http, base, layer["digest"]))
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            if _METADATA in tar.getnames():
                metadata = json.load(tar.extractfile(_METADATA))  # type: ignore[arg-type]
                return Found(metadata["version"], architecture, digest, tag, tuple(metadata.get("previous", ())))
    return None


def _blob(http: urllib3.PoolManager, base: str, digest: str) -> bytes:
    answer = http.request("GET", f"{base}/blobs/{digest}")
    assert answer.status == 200, answer.data
    return answer.data
