"""What openshift-install says to the files of an installation, by the rules of its sources.

    check_fragment(yaml.safe_load(text), (4, 18))   # raises AssertionError with the installer's complaint
    rules = check_registries_conf(text)             # source → mirrors
    check_manifest_name("openshift/99_x.yaml")

openshift/installer: pkg/types/installconfig.go (InstallConfig, ImageContentSource, ImageDigestSource),
pkg/types/validation/installconfig.go (ValidateInstallConfig, validateImageDigestSources, validateNamedRepository,
validateAdditionalCABundlePolicy), pkg/validate/validate.go (CABundle), pkg/asset/installconfig (unknown fields are ignored with a
warning, so that they do nothing), pkg/asset/agent/mirror/registriesconf.go (Load, GetMirrorFromRelease) and cabundle.go,
pkg/asset/manifests/openshift.go (Load), pkg/asset/machines/master.go (IsMachineManifest).
Fields by release: openshift/installer#1910 (imageContentSources, 4.2), #2055 (additionalTrustBundle, 4.2), #6232
(additionalTrustBundlePolicy, 4.12), #6235 (imageDigestSources, 4.14).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from cryptography import x509

# github.com/distribution/reference, regexp.go: a name with its domain, and nothing after it.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = (
    r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?"
)
_NAMED = re.compile(rf"{_DOMAIN}(?:/{_PART})+")
_HOST = re.compile(_DOMAIN)
_BLOCK = re.compile(r"\s*-----BEGIN ([A-Z ]+)-----\n(.*?)-----END \1-----\n?", re.DOTALL)
_SINCE = {
    "imageContentSources": (4, 2),
    "additionalTrustBundle": (4, 2),
    "additionalTrustBundlePolicy": (4, 12),
    "imageDigestSources": (4, 14),
}
# Names of the assets of machines, which the installer takes out of the folder.
_MACHINES = (
    "99_openshift-cluster-api_master-user-data-secret.yaml",
    "99_openshift-cluster-api_worker-user-data-secret.yaml",
    "99_openshift-machine-api_master-control-plane-machine-set.yaml",
    "99_openshift-machineconfig_*.yaml",
    "99_openshift-cluster-api_master-machines-*.yaml",
    "99_openshift-cluster-api_worker-machineset-*.yaml",
    "99_openshift-cluster-api_host-bmc-secrets-*.yaml",
    "99_openshift-cluster-api_hosts-*.yaml",
)


def check_fragment(fields: Mapping[str, Any], release: tuple[int, int]) -> dict[str, list[str]]:
    """Raise AssertionError for fields that the installer refuses or does not know; return source → mirrors."""
    for name in fields:
        assert _SINCE.get(name, (99, 0)) <= release, f'unknown field "{name}" in {release}: ignored with a warning'
    old, new = fields.get("imageContentSources") or [], fields.get("imageDigestSources") or []
    assert not (old and new), "cannot set imageContentSources and imageDigestSources at the same time"
    known = {"source", "mirrors", "sourcePolicy"} if new else {"source", "mirrors"}
    for group in (*old, *new):
        assert set(group) <= known
        for name in (group["source"], *group.get("mirrors", ())):
            check_repository(name)
    if "additionalTrustBundle" in fields:
        check_bundle(fields["additionalTrustBundle"])
    policy = fields.get("additionalTrustBundlePolicy", "")
    assert policy in ("", "Proxyonly", "Always"), "supported values: Proxyonly, Always"
    return {group["source"]: list(group.get("mirrors", ())) for group in (*old, *new)}


def check_repository(name: str) -> None:
    """validateNamedRepository: a repository with its registry, or a host; no tag and no digest."""
    assert _NAMED.fullmatch(name) or _HOST.fullmatch(name), f"{name!r}: must be repository--not reference"


def check_bundle(pem: str) -> None:
    """CABundle: every block is a certificate, to the end of the text."""
    rest = pem
    while True:
        block = _BLOCK.match(rest)
        assert block is not None, "invalid block"
        x509.load_pem_x509_certificate(block[0].strip().encode())
        assert block[1] == "CERTIFICATE"
        rest = rest[block.end() :]
        if not rest:
            return


def check_registries_conf(text: str) -> dict[str, list[str]]:
    """Raise AssertionError for what the agent-based installer warns of, or cannot read; return source → mirrors."""
    document = tomllib.loads(text)
    assert set(document) <= {"registry", "unqualified-search-registries"}
    for each in document.get("registry", ()):
        assert each.get("location"), "Location key not found in mirror/registries.conf"
        assert set(each) <= {"location", "prefix", "insecure", "blocked", "mirror-by-digest-only", "mirror"}
        assert each["mirror-by-digest-only"] is True
        for mirror in each["mirror"]:
            assert set(mirror) <= {"location", "insecure"}
            check_repository(mirror["location"])
    return {each["location"]: [mirror["location"] for mirror in each["mirror"]] for each in document.get("registry", ())}


def mirror_of_release(image: str, rules: Mapping[str, list[str]]) -> str:
    """GetMirrorFromRelease: the payload on the mirror; empty where no source is that of the payload (OCPBUGS-10207)."""
    found = re.fullmatch(r"(.+?)(@sha256)?:(.+)", image)
    assert found is not None
    mirrors = rules.get(found[1])
    return f"{mirrors[0]}{found[2] or ''}:{found[3]}" if mirrors else ""


def check_manifest_name(name: str) -> None:
    """Openshift.Load: *.yaml, *.yml, *.json in openshift/, but for the files of machines."""
    folder, _, file = name.rpartition("/")
    assert folder == "openshift"
    assert file.endswith((".yaml", ".yml", ".json"))
    assert not any(fnmatch(file, pattern) for pattern in _MACHINES)
