"""SBOMs in the form in which syft, Konflux, BuildKit and Trivy write them, and the ways on which registries have them.

Written from the formats' documentation: SPDX 2.3, CycloneDX 1.6, in-toto/attestation, secure-systems-lab/dsse,
sigstore/cosign (specs/SBOM_SPEC.md, specs/BUNDLE_SPEC.md), moby/buildkit (docs/attestations/attestation-storage.md).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.oci.image import Digest, hex_of
from tests.fakes.factories import ImageParts, artifact, image

SPDX, SPDX_TEXT, CYCLONEDX = "text/spdx+json", "text/spdx", "application/vnd.cyclonedx+json"
DSSE, IN_TOTO = "application/vnd.dsse.envelope.v1+json", "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SPDX_PREDICATE, CYCLONEDX_PREDICATE = "https://spdx.dev/Document", "https://cyclonedx.org/bom"
PROVENANCE = "https://slsa.dev/provenance/v0.2"
SUPPRESSED = "NOASSERTION"


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def package(name: str, version: str, licence: str = SUPPRESSED, purl: str = "", concluded: str = SUPPRESSED) -> dict[str, Any]:
    """Return a package as syft writes it in SPDX, with its CPE before its package URL."""
    cpe = {
        "referenceCategory": "SECURITY",
        "referenceType": "cpe23Type",
        "referenceLocator": f"cpe:2.3:a:{name}:{name}:{version}",
    }
    url = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
    return {
        "name": name,
        "SPDXID": f"SPDXRef-Package-{name}",
        "versionInfo": version,
        "supplier": "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": concluded,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "externalRefs": [cpe, *([url] if purl else [])],
    }


def rpm(name: str, version: str, licence: str) -> dict[str, Any]:
    return package(name, version, licence, f"pkg:rpm/redhat/{name}@{version}?arch=x86_64&distro=rhel-9.4")


def root(name: str, digest: Digest) -> dict[str, Any]:
    """Return the image itself, as syft lists it among the packages."""
    found = package(name, digest, purl=f"pkg:oci/{name}@sha256%3A{hex_of(digest)}?arch=amd64")
    return found | {
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": hex_of(digest)}],
    }


def spdx(packages: Sequence[Mapping[str, Any]], *, tool: str = "syft-1.18.1", version: str = "SPDX-2.3") -> dict[str, Any]:
    return {
        "spdxVersion": version,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "app",
        "documentNamespace": "https://anchore.com/syft/image/app-0d9c",
        "creationInfo": {
            "licenseListVersion": "3.25",
            "creators": ["Organization: Anchore, Inc", f"Tool: {tool}"],
            "created": "2026-01-02T03:04:05Z",
        },
        "packages": list(packages),
        "files": [{"fileName": "/usr/bin/app", "SPDXID": "SPDXRef-File-1", "licenseConcluded": "NOASSERTION"}],
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": "SPDXRef-Package-app", "relationshipType": "DESCRIBES"}
        ],
    }


def konflux(name: str, digest: Digest, packages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a document as Konflux makes it: syft's and Hermeto's packages, the image, and the images it was built with."""
    builder = package(
        "ubi9-go-toolset",
        "1.22",
        purl=f"pkg:oci/go-toolset@sha256:{'b' * 64}?repository_url=registry.redhat.io/ubi9/go-toolset",
    )
    return spdx([root(name, digest), *packages, builder], tool="Hermeto")


def tag_value(name: str, version: str, licence: str) -> str:
    """Return a document as `syft -o spdx-tag-value` writes it, with a comment that looks like a field."""
    return f"""SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: app
Creator: Organization: Anchore, Inc
Creator: Tool: syft-1.18.1

##### Package: {name}

PackageName: {name}
SPDXID: SPDXRef-Package-{name}
PackageVersion: {version}
PackageLicenseConcluded: NOASSERTION
PackageLicenseDeclared: {licence}
PackageComment: <text>generated
PackageName: not-a-package
</text>
ExternalRef: SECURITY cpe23Type cpe:2.3:a:{name}:{name}:{version}:*:*:*:*:*:*:*
ExternalRef: PACKAGE-MANAGER purl pkg:npm/{name}@{version}

FileName: /usr/lib/x
LicenseConcluded: GPL-3.0-only
"""


def cyclonedx(
    components: Sequence[Mapping[str, Any]], *, about: Digest | None = None, version: str = "1.6", tools: Any = None
) -> dict[str, Any]:
    """Return a document as Trivy writes it."""
    subject = {
        "bom-ref": "root",
        "type": "container",
        "name": "registry.example/org/app:v1",
        "purl": f"pkg:oci/app@{about.replace(':', '%3A')}?arch=amd64" if about else "",
    }
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        "version": 1,
        "metadata": {
            "timestamp": "2026-01-02T03:04:05+00:00",
            "tools": tools
            or {"components": [{"type": "application", "group": "aquasecurity", "name": "trivy", "version": "0.58.0"}]},
            "component": subject,
        },
        "components": list(components),
        "dependencies": [{"ref": "root", "dependsOn": []}],
    }


def component(
    name: str, version: str, *licenses: Mapping[str, Any], purl: str = "", kind: str = "library", **more: Any
) -> dict[str, Any]:
    return {"type": kind, "name": name, "version": version, "licenses": list(licenses), "purl": purl, **more}


def licensed(identifier: str) -> dict[str, Any]:
    return {"license": {"id": identifier}}


def statement(predicate_type: str, predicate: Any, *digests: Digest) -> dict[str, Any]:
    subjects = [
        {"name": "pkg:docker/org/app@v1?platform=linux%2Famd64", "digest": {"sha256": hex_of(each)}} for each in digests
    ]
    return {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate_type,
        "subject": subjects,
        "predicate": predicate,
    }


def envelope(content: Any) -> dict[str, Any]:
    return {
        "payloadType": IN_TOTO,
        "payload": base64.b64encode(dumped(content)).decode(),
        "signatures": [{"keyid": "", "sig": "MEUCIQDx"}],
    }


def bundle(content: Any) -> dict[str, Any]:
    """Return a Sigstore bundle, as cosign 3 makes it."""
    return {"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "a"}}, "dsseEnvelope": envelope(content)}


def attached(content: Any, layer_type: str, *, note: Mapping[str, str] | None = None, **more: Any) -> ImageParts:
    """Return the manifest that a registry has for an SBOM, with an annotation on its layer; see `factories.image`."""
    raw = content if isinstance(content, bytes) else dumped(content)
    made = artifact(image([raw], **more), layer_type=layer_type, config_type="application/vnd.oci.image.config.v1+json")
    if note:
        document = json.loads(made.raw)
        document["layers"][0]["annotations"] = dict(note)
        made = replace(made, raw=dumped(document))
    return made


def attestation(predicate_type: str, predicate: Any, *digests: Digest) -> ImageParts:
    """Return what `cosign attest` puts under the tag .att."""
    return attached(envelope(statement(predicate_type, predicate, *digests)), DSSE, note={"predicateType": predicate_type})


def in_index(predicate_type: str, predicate: Any, *digests: Digest) -> ImageParts:
    """Return the manifest that BuildKit lists in the index of an image."""
    note = {"in-toto.io/predicate-type": predicate_type}
    return replace(attached(statement(predicate_type, predicate, *digests), IN_TOTO, note=note), platform="unknown/unknown")
