"""`render --install`: what openshift-install needs of an archive, checked by the installer's own rules."""

from __future__ import annotations

import base64

import pytest
import trustme
import yaml

from common.errors import UsageError
from common.oci.image import Digest
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.configure.files.install import BUNDLE, FRAGMENT, README, REGISTRIES, install_files
from importer.mapping import Mirror
from tests.fakes.carried_releases import COMPONENTS, PAYLOADS, Carried, inventory
from tests.fakes.install_config import (
    check_bundle,
    check_fragment,
    check_manifest_name,
    check_registries_conf,
    mirror_of_release,
)
from tests.fakes.inventories import catalog, image

MIRROR = Mirror.parse("mirror.example:5000/hub")
RELEASES, POOL = f"{MIRROR}/openshift/release-images", f"{MIRROR}/openshift/release"
CA = trustme.CA().cert_pem.bytes().decode()
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def rendered(carried, mirror=MIRROR, version=None, expected=None, insecure=False, **options):
    files, built = install_files(
        carried, mirror, ResourceOptions(**options), version=version, expected=expected, insecure=insecure
    )
    return {name: raw.decode() for name, raw in files.items()}, built


def fragment(files):
    return yaml.safe_load(files[FRAGMENT])


def manifests(files):
    found = {}
    for name, text in files.items():
        if name.startswith("openshift/"):
            check_manifest_name(name)
            (found[name.removeprefix("openshift/99_hub-")],) = list(yaml.safe_load_all(text))
    return found


@pytest.mark.parametrize(
    ("version", "field"),
    [
        ("4.18.45", "imageDigestSources"),
        ("4.14.0", "imageDigestSources"),
        ("4.13.9", "imageContentSources"),
        ("4.11.5", "imageContentSources"),
        ("4.14.0-rc.1", "imageDigestSources"),
    ],
)
def test_the_install_config_has_the_fields_that_the_installer_of_the_release_knows(version, field):
    """imageDigestSources since 4.14 (openshift/installer#6235), additionalTrustBundlePolicy since 4.12 (#6232)."""
    target = Carried(version)
    files, built = rendered(inventory(target), registry_ca=KEY + CA)
    known = Release.parse(version)
    rules = check_fragment(fragment(files), (known.major, known.minor))
    assert rules == {PAYLOADS: [RELEASES], COMPONENTS: [POOL]}
    assert field in fragment(files)
    assert fragment(files)["additionalTrustBundle"] == CA  # certificates only: the key stays where it is
    assert fragment(files).get("additionalTrustBundlePolicy") == ("Always" if known.minor >= 12 else None)
    assert check_registries_conf(files[REGISTRIES]) == rules
    check_bundle(files[BUNDLE])
    # An installer that names the release by its source finds the mirror (OCPBUGS-10207).
    assert mirror_of_release(target.source, rules) == f"{RELEASES}@{target.digest}"
    assert [each.severity for each in built.problems] == []


def test_without_a_ca_nothing_is_said_of_trust():
    files, _ = rendered(inventory(Carried("4.18.45")))
    assert set(fragment(files)) == {"imageDigestSources"}
    assert BUNDLE not in files
    assert "render again with `--ca`" in files[README]


@pytest.mark.parametrize(
    ("mirror", "places"),
    [
        (
            Mirror.parse("mirror.example", releases_by_source=True),
            ("mirror.example/openshift-release-dev/ocp-release", "mirror.example/openshift-release-dev/ocp-v4.0-art-dev"),
        ),
        (
            Mirror.parse("mirror.example/hub", max_path_components=2),
            ("mirror.example/hub/openshift-release-images", "mirror.example/hub/openshift-release"),
        ),
        (
            Mirror.parse("mirror.example/hub", keep_source_host=True),
            ("mirror.example/hub/openshift/release-images", "mirror.example/hub/openshift/release"),
        ),
    ],
)
def test_places_are_those_of_push(mirror, places):
    files, _ = rendered(inventory(Carried("4.18.45")), mirror)
    listed = {each["source"]: each["mirrors"] for each in fragment(files)["imageDigestSources"]}
    assert listed == {PAYLOADS: [places[0]], COMPONENTS: [places[1]]}
    for option in ("--release-layout source", "--max-path-components 2", "--keep-source-host"):
        flag = option.split(" ")[0].strip("-").replace("-", "_")
        given = {"release_layout": mirror.releases_by_source, "max_path_components": mirror.max_path_components}
        assert (option in files[README]) == bool(given.get(flag, getattr(mirror, flag, False)))


def test_sources_are_those_of_the_release_that_is_installed():
    """OKD and 5.0 have other repositories; other releases of the archive are rules of the cluster."""
    okd = Carried(
        "4.18.0-okd-scos.8", payloads="registry.ci.openshift.org/origin/release-scos", pool="quay.io/okd/scos-content", okd=True
    )
    newer = Carried("5.0.1", pool="quay.io/openshift-release-dev/ocp-v5.0-art-dev")
    files, _ = rendered(inventory(okd, newer), version="4.18.0-okd-scos.8")
    assert check_fragment(fragment(files), (4, 18)) == {
        "registry.ci.openshift.org/origin/release-scos": [RELEASES],
        "quay.io/okd/scos-content": [POOL],
    }
    rules = manifests(files)["imagedigestmirrorset-hub-openshift-release.yaml"]["spec"]["imageDigestMirrors"]
    assert "quay.io/openshift-release-dev/ocp-v5.0-art-dev" in [each["source"] for each in rules]
    # The newest by default; rules that the install config has are not written a second time.
    files, _ = rendered(inventory(okd, newer))
    assert check_fragment(fragment(files), (5, 0)).keys() == {PAYLOADS, "quay.io/openshift-release-dev/ocp-v5.0-art-dev"}
    files, _ = rendered(inventory(newer))
    assert not [name for name in manifests(files) if "mirrorset" in name]


def test_an_archive_that_was_made_from_the_mirror_needs_no_rules():
    own = Carried("4.18.45", payloads=RELEASES, pool=POOL)
    files, _ = rendered(inventory(own), registry_ca=CA)
    assert set(fragment(files)) == {"additionalTrustBundle", "additionalTrustBundlePolicy"}
    assert check_registries_conf(files[REGISTRIES]) == {}


def test_manifests_have_what_the_install_config_cannot_say():
    """One object in each file; signatures for later updates (openshift/library-go, pkg/verify/store/configmap)."""
    target = Carried("4.18.45")
    operator = image("quay.io/x/operator@sha256:" + "5" * 64, Digest("sha256:" + "5" * 64))
    files, built = rendered(inventory(target, catalogs=(catalog(),), images=(operator,)), registry_ca=CA)
    found = manifests(files)
    signature = f"release-signature-sha256-{target.digest.partition(':')[2][:16]}.yaml"
    (name,) = [each for each in found if each.startswith("catalogsource-")]
    (rules,) = [each for each in found if each.startswith("imagedigestmirrorset-")]
    assert found.keys() == {signature, name, rules, "operatorhub-cluster.yaml"}
    assert found["operatorhub-cluster.yaml"]["spec"] == {"disableAllDefaultSources": True}
    assert found[signature]["binaryData"] == {
        f"sha256-{target.digest.partition(':')[2]}-1": base64.b64encode(b"signed").decode()
    }
    assert [each["source"] for each in found[rules]["spec"]["imageDigestMirrors"]] == ["quay.io/x/operator"]
    assert found[name]["spec"]["image"].startswith(f"{MIRROR}/")
    assert len(built.resources) == len(found)
    assert f"={RELEASES}:4.18.45-x86_64\n" in files["mapping.txt"]
    assert "marketplace" in files[README]
    for folder in (files, found):
        assert not [each for each in folder if "kustomization" in each or "clustercatalog" in each or "updateservice" in each]


def test_before_4_14_the_rules_of_operators_are_of_the_kind_that_the_installer_makes():
    """Up to 4.14 the machine config operator refuses both kinds in one cluster; of imageContentSources it is the former one."""
    operator = image("quay.io/x/operator@sha256:" + "5" * 64, Digest("sha256:" + "5" * 64))
    for version, kind in (("4.13.9", "imagecontentsourcepolicy"), ("4.14.9", "imagedigestmirrorset")):
        files, _ = rendered(inventory(Carried(version), images=(operator,)))
        assert [name.partition("-")[0] for name in manifests(files) if "mirror" in name or "policy" in name] == [kind]


def test_several_architectures_are_one_installation_with_programs_for_each():
    both = [Carried("4.18.45"), Carried("4.18.45", "arm64")]
    files, _ = rendered(inventory(*both, Carried("4.18.44")))
    assert check_fragment(fragment(files), (4, 18)) == {PAYLOADS: [RELEASES], COMPONENTS: [POOL]}
    for tag in ("4.18.45-x86_64", "4.18.45-aarch64"):
        assert f"hub-import extract openshift-install ARCHIVE --registry {MIRROR} --release {tag} --output bin" in files[README]
    assert "several architectures" in files[README]
    files, _ = rendered(inventory(*both), version="4.18.45-aarch64")
    assert "4.18.45-x86_64" not in files[README]


def test_a_mirror_without_verified_tls_is_for_the_agent_based_installer():
    """No field of an install config says it; nodes have it from the Image `cluster`, in the bootstrap too."""
    files, built = rendered(inventory(Carried("4.18.45")), insecure=True)
    check_registries_conf(files[REGISTRIES])
    assert files[REGISTRIES].count("insecure = true") == 2
    assert manifests(files)["image-cluster.yaml"]["spec"] == {
        "registrySources": {"insecureRegistries": ["mirror.example:5000"]}
    }
    assert [(each.severity, each.code) for each in built.problems] == [("warning", "mirror-unverified")]


@pytest.mark.parametrize(
    ("carried", "options", "why"),
    [
        ([], {}, "no OpenShift release"),
        ([Carried("4.18.45")], {"version": "4.18.46"}, "does not have it"),
        ([Carried("4.18.45")], {"expected": Release(4, 17)}, "the release of the archive is 4.18.45"),
        ([Carried("4.18.45")], {"registry_ca": KEY}, "no certificate"),
        (
            [Carried("4.18.45")],
            {"registry_ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
            "cannot be read",
        ),
    ],
)
def test_what_the_installer_would_refuse_is_refused_here(carried, options, why):
    with pytest.raises(UsageError, match=why):
        rendered(inventory(*carried), **options)


@pytest.mark.parametrize(
    ("fields", "release", "complaint"),
    [
        (
            {"imageDigestSources": [{"source": "a.b/c"}], "imageContentSources": [{"source": "a.b/c"}]},
            (4, 18),
            "at the same time",
        ),
        ({"imageDigestSources": [{"source": "a.b/c:v1"}]}, (4, 18), "not reference"),
        ({"imageDigestSources": [{"source": "a.b/c"}]}, (4, 13), "unknown field"),
        ({"additionalTrustBundle": "x"}, (4, 18), "invalid block"),
        ({"additionalTrustBundlePolicy": "always"}, (4, 18), "supported values"),
    ],
)
def test_the_checker_refuses_what_the_installer_refuses(fields, release, complaint):
    """pkg/types/validation/installconfig_test.go has these cases."""
    with pytest.raises(AssertionError, match=complaint):
        check_fragment(fields, release)
