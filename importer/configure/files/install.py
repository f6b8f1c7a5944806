"""What the installation of a cluster needs of an archive and its mirror, as files. Pure.

Specification: docs/reference/openshift-releases.md, *Day 1*.

Sources: openshift/installer, pkg/types/installconfig.go, pkg/types/validation/installconfig.go (the fields),
pkg/asset/agent/mirror (registries.conf and ca-bundle.crt), pkg/asset/manifests/openshift.go (further manifests).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from common.archive.inventory import Problem, ProblemCode
from common.errors import UsageError
from common.mapping import map_images, release_tag
from common.serialization import dump_yaml
from common.text import visible
from importer.cluster.kinds import (
    CATALOG_SOURCE,
    DEPLOYMENT,
    ICSP,
    IDMS,
    IMAGE_CONFIG,
    ITMS,
    NETWORK_POLICY,
    OPERATOR_HUB,
    SERVICE,
    Resource,
)
from importer.cluster.release import Release
from importer.cluster.resources.build import Built, ResourceOptions, build, certificates_of, unsupported_operators
from importer.cluster.resources.mirror_rules import MIRROR_KINDS, merge_rules, rules_of
from importer.cluster.resources.openshift_release import is_signatures
from importer.configure.files.install_steps import steps
from importer.configure.files.render import MAPPING, mapping_file
from importer.mapping import pushed_images
from importer.programs.choosing import releases_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from common.archive.inventory import Inventory, ReleaseRecord
    from common.mapping import MappedImage, Mirror

FRAGMENT = "install-config.fragment.yaml"
REGISTRIES = "mirror/registries.conf"
BUNDLE = "mirror/ca-bundle.crt"
MANIFESTS = "openshift"
README = "README.md"
_NOTE = "# Written by hub-import render --install: for install-config.yaml. README.md says what to do with it.\n"
_MIRROR_NOTE = "# Written by hub-import render --install: for the agent-based installer. README.md says what to do with it.\n"
# openshift/installer#6235; an earlier installer ignores the field with a warning.
_DIGEST_SOURCES_SINCE = Release(4, 14)
_POLICY_SINCE = Release(4, 12)  # openshift/installer#6232, openshift-docs#50442
# ClusterCatalogs are left out: their kind exists only once OLM v1 runs, and the bootstrap tries until every manifest is created
# (openshift/library-go, pkg/assets/create, EnsureManifestsCreated).
_WRITTEN = frozenset(
    kind.name for kind in (CATALOG_SOURCE, DEPLOYMENT, ICSP, IDMS, ITMS, NETWORK_POLICY, OPERATOR_HUB, SERVICE)
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A release to install, from which mirror. `releases`: of one version, for one or several architectures."""

    releases: tuple[ReleaseRecord, ...]
    release: Release
    mirror: Mirror
    ca: str | None = None
    insecure: bool = False

    @property
    def version(self) -> str:
        """The version, for people."""
        return visible(self.releases[0].version)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the payloads on the mirror."""
        return tuple(visible(release_tag(each.version, each.architecture)) for each in self.releases)


def install_files(
    inventory: Inventory,
    mirror: Mirror,
    options: ResourceOptions,
    *,
    version: str | None = None,
    expected: Release | None = None,
    insecure: bool = False,
) -> tuple[dict[str, bytes], Built]:
    """Return the files for an installation of a carried release, and the objects in them.

    `version` None: the newest; `expected`: the release that it has to be of, where one is stated; `insecure`: of the mirror.
    Raises UsageError.
    """
    releases = releases_named(inventory, version)
    release = Release.parse(releases[0].version)
    if expected is not None and expected != release:
        raise UsageError(
            f"--openshift-release {expected}: the release of the archive is {visible(releases[0].version)}",
            hint="Leave the option out, or name a release of the archive with --release.",
        )
    ca = _authorities(options.registry_ca) if options.registry_ca is not None else None
    wanted = Installation(releases, release, mirror, ca, insecure)
    images = map_images(inventory, mirror)
    pairs = _pairs(releases, images)
    built = _built(inventory, images, wanted, options)
    resources = (*_manifests(built.resources, pairs), *([_unverified(mirror.host)] if insecure else ()))
    files = {FRAGMENT: _NOTE + dump_yaml(_fragment(pairs, wanted)), REGISTRIES: _registries_conf(pairs, wanted)}
    files |= {BUNDLE: ca} if ca is not None else {}
    files |= {_file(each): dump_yaml(each.body) for each in resources}
    files[MAPPING] = mapping_file(pushed_images(inventory, images))
    files[README] = steps(wanted, catalogs=bool(built.served))
    problems = (*built.problems, *_problems(inventory, wanted))
    built = replace(built, resources=tuple(resources), problems=problems, notes=(f"{README} says what to do with each file",))
    return {name: text.encode() for name, text in sorted(files.items())}, built


def _authorities(pem: str) -> str:
    """Return the certificates. Raises UsageError for one that the installer refuses."""
    from cryptography import x509  # noqa: PLC0415 - takes 0.1 s, which only an installation should cost

    certificates = certificates_of(pem)
    try:
        x509.load_pem_x509_certificates(certificates.encode())
    except ValueError as error:
        # pkg/validate/validate.go, CABundle: one that cannot be parsed ends the installation.
        raise UsageError(
            f"--ca: a certificate in the file cannot be read: {error}", hint="Give the one that signs the mirror's certificate."
        ) from error
    return certificates


def _pairs(releases: Sequence[ReleaseRecord], images: Iterable[MappedImage]) -> tuple[tuple[str, str], ...]:
    """Return the repositories that the releases use, each with its place on the mirror; the payload's first."""
    payloads = {each.source for each in releases}
    components = {component.source for each in releases for component in each.components}
    # Of the images, since the places depend on the layout; repositories alone, for all images of a release have digests.
    found = [
        (image.source.name, image.repository.name)
        for wanted in (payloads, components)
        for image in images
        if image.source is not None and image.record.source in wanted and image.source.name != image.repository.name
    ]
    return tuple(dict.fromkeys((*found[:1], *sorted(found))))


def _fragment(pairs: Iterable[tuple[str, str]], wanted: Installation) -> dict[str, Any]:
    """Return the fields of an install config."""
    # Never both fields, which the installer refuses (validation/installconfig.go, ValidateInstallConfig).
    field = "imageDigestSources" if wanted.release >= _DIGEST_SOURCES_SINCE else "imageContentSources"
    listed = [{"source": source, "mirrors": [mirror]} for source, mirror in pairs]
    fragment: dict[str, Any] = {field: listed} if listed else {}  # none where the archive was made from this mirror
    if wanted.ca is not None:
        fragment["additionalTrustBundle"] = wanted.ca
        # The default, Proxyonly, leaves the bundle out of the cluster's Proxy where no proxy is configured.
        if wanted.release >= _POLICY_SINCE:
            fragment["additionalTrustBundlePolicy"] = "Always"
    return fragment


def _registries_conf(pairs: Iterable[tuple[str, str]], wanted: Installation) -> str:
    """Return registries.conf (containers-registries.conf(5)), as the installer makes it of an install config."""
    flag = "insecure = true\n" if wanted.insecure else ""
    parts = [_MIRROR_NOTE]
    for source, mirror in pairs:
        parts.append(f"[[registry]]\nlocation = {json.dumps(source)}\nmirror-by-digest-only = true\n")
        parts.append(f"[[registry.mirror]]\nlocation = {json.dumps(mirror)}\n{flag}")
    return "\n".join(parts)


def _built(inventory: Inventory, images: Sequence[MappedImage], wanted: Installation, options: ResourceOptions) -> Built:
    """Return the objects of the archive for a cluster of the release."""
    # Before 4.14 the installer makes an ImageContentSourcePolicy of the fragment, next to which 4.13 has no other kind.
    icsp = wanted.release < _DIGEST_SOURCES_SINCE
    # The CA comes with the install config, and an UpdateService needs its operator.
    plain = replace(options, registry_ca=None)
    return build(inventory, images, wanted.mirror, wanted.release, plain, existing_icsp=icsp, updates=None)


def _manifests(resources: Sequence[Resource], pairs: Sequence[tuple[str, str]]) -> Iterator[Resource]:
    """Yield the objects for the folder of manifests; mirror rules that the install config has are left out."""
    rule_kinds = {kind.name for kind in MIRROR_KINDS}
    for each in merge_rules([each for each in resources if each.kind in rule_kinds], []).write:
        covered = each.kind != ITMS.name and all((r.source, m) in pairs for r in rules_of(each.body) for m in r.mirrors)
        if not covered:
            yield each
    for each in resources:
        if each.kind not in rule_kinds and (each.kind in _WRITTEN or is_signatures(each)):
            yield each


def _file(resource: Resource) -> str:
    """Return the name of a manifest: with one object, since not every reader of the folder takes several."""
    # The installer takes *.yaml there, without those whose names are of its own machines (asset/machines, IsMachineManifest).
    kind = "release-signature" if is_signatures(resource) else resource.kind.lower()
    return f"{MANIFESTS}/99_hub-{kind}-{resource.name}.yaml"


def _unverified(host: str) -> Resource:
    """Return the object by which nodes pull from a mirror without verified TLS."""
    # The machine config operator reads it in the bootstrap too (pkg/controller/bootstrap/bootstrap.go).
    spec = {"registrySources": {"insecureRegistries": [host]}}
    body = {"apiVersion": IMAGE_CONFIG.api_version, "kind": IMAGE_CONFIG.name, "metadata": {"name": "cluster"}, "spec": spec}
    return Resource.of(body, shared=True)


def _problems(inventory: Inventory, wanted: Installation) -> Iterator[Problem]:
    yield from unsupported_operators(inventory, wanted.release)
    if wanted.insecure:
        message = (
            "an install config has no field for a mirror without verified TLS, and a bootstrap machine cannot pull from it; "
            f"the agent-based installer does, with {REGISTRIES}"
        )
        yield Problem("warning", ProblemCode.MIRROR_UNVERIFIED, wanted.mirror.host, message)
