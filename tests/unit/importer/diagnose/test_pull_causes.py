"""Containers that wait for images: which rule, archive or registry is missing.

Texts: kubernetes, pkg/kubelet/images/image_manager.go; containers/image, docker/docker_image_src.go (`Mirrors also failed`). Reports:
grafana-operator#763, argocd-operator#510, tektoncd/operator#490, oadp-operator#569, node-feature-discovery#220.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from importer.cluster.kinds import IDMS, ITMS
from importer.cluster.readiness.readiness import ExpectedCatalog
from importer.cluster.release import Release
from importer.cluster.resources.mirror_rules import Listed, Rule
from importer.diagnose.rules import diagnose
from importer.diagnose.snapshot import PodState
from importer.diagnose.workloads import WaitingImage
from tests.fakes.snapshots import snapshot, source, subscription
from tests.samples import more

HOST = "mirror.example:5000"
DIGEST = "sha256:" + "ab" * 32
CARRIED = "registry.redhat.io/ubi"
RECORD = ExpectedCatalog("index", "m", f"{HOST}/index@{DIGEST}", {}, ((CARRIED, f"{HOST}/ubi"),), mirror=f"{HOST}/ocp")
X509 = "tls: failed to verify certificate: x509: certificate signed by unknown authority"


def rule(name=CARRIED, mirror=f"{HOST}/ubi", kind=IDMS):
    return Listed(Rule(name, (mirror,)), kind.name, "hub-index", owned=True)


def waits(image, message="", reason="ImagePullBackOff", pod="op-1", namespace="site", **fields):
    return WaitingImage(namespace, pod, "manager", image, reason, message, "worker-1", **fields)


def found(*waiting, rules=(), expected=(RECORD,), release="4.18", **fields):
    state = snapshot(
        subscription(),
        release=Release.parse(release),
        waiting=waiting,
        mirror_rules=None if rules is None else tuple(rules),
        expected=expected,
        **{"sources": [source()], **fields},
    )
    return diagnose(state)


def failed(image, mirror_said, last=""):
    end = last or f"{image}: pinging container registry registry.redhat.io: dial tcp: lookup registry.redhat.io: no such host"
    return f'Failed to pull image "{image}": rpc error: code = Unknown desc = (Mirrors also failed: [{HOST}/ubi@{DIGEST}: {mirror_said}]): {end}'


def twice(said):
    """Return what CRI-O says since it tries an image that cannot be pulled as an artifact."""
    start, _, error = said.partition("rpc error: code = Unknown desc = ")
    image = start.split('"')[1]
    first = f"unable to pull image or OCI artifact: pull image err: initializing source docker://{image}: {error}"
    return f"{start}{first}; artifact err: get manifest: build image source: {error}"


BLOCKED = "is blocked in /etc/containers/registries.conf or /root/.config/containers/registries.conf.d"
BY_DIGEST, BY_TAG = f"{CARRIED}@{DIGEST}", f"{CARRIED}:9.4"
OTHER = "nvcr.io/nvidia/driver:550"
LOOKUP = "rpc error: code = Unknown desc = pinging container registry nvcr.io: dial tcp: lookup nvcr.io: no such host"
CAUSES = {
    "no rule, though it was imported": (waits(BY_DIGEST), (), "image-without-rule"),
    "a rule, which the node does not have": (
        waits(
            BY_DIGEST,
            "rpc error: pinging container registry registry.redhat.io: dial tcp: lookup registry.redhat.io: no such host",
        ),
        [rule()],
        "image-without-rule",
    ),
    "by tag, and rules for digests": (waits(BY_TAG), [rule()], "image-by-tag"),
    "by tag, imported, and no rule at all": (waits(BY_TAG), (), "image-by-tag"),
    "in no archive": (waits(OTHER, LOOKUP), [rule()], "image-not-carried"),
    "in no archive, without a reason": (
        waits(OTHER, 'Back-off pulling image "nvcr.io/nvidia/driver:550"'),
        [rule()],
        "image-not-carried",
    ),
    "in no archive, and its registry is blocked": (
        waits(OTHER, "rpc error: registry nvcr.io is blocked in /etc/containers/registries.conf"),
        [rule()],
        "image-not-carried",
    ),
    "the mirror lacks it": (waits(BY_DIGEST, failed(BY_DIGEST, "manifest unknown")), [rule()], "image-not-in-mirror"),
    "the mirror lacks it, and the source may not be contacted": (
        waits(BY_DIGEST, f"rpc error: reading manifest {DIGEST} in {HOST}/ubi: manifest unknown"),
        [rule()],
        "image-not-in-mirror",
    ),
    "the mirror lacks it, and the source is blocked": (
        waits(BY_DIGEST, failed(BY_DIGEST, "manifest unknown", f"{BY_DIGEST}: registry {CARRIED} {BLOCKED}")),
        [rule()],
        "image-not-in-mirror",
    ),
    # CRI-O, internal/storage/image.go (pullImageImplementation)
    "as an image and as an artifact": (
        waits(BY_DIGEST, twice(failed(BY_DIGEST, "manifest unknown"))),
        [rule()],
        "image-not-in-mirror",
    ),
    "as an image and as an artifact, by the mirrors of an unreachable source": (
        waits(BY_DIGEST, twice(failed(BY_DIGEST, "the moon is full"))),
        [rule()],
        "unknown",
    ),
    "the mirror is not trusted": (waits(BY_DIGEST, failed(BY_DIGEST, X509)), [rule()], "registry-untrusted"),
    "the mirror wants a credential": (waits(BY_DIGEST, failed(BY_DIGEST, "unauthorized")), [rule()], "pull-unauthorized"),
    # The registry itself answers through a proxy: its words do not count, those of the mirror do.
    "the mirror is unreachable, and the source says unauthorized": (
        waits(BY_DIGEST, failed(BY_DIGEST, "dial tcp 10.0.0.1:5000: i/o timeout", f"{BY_DIGEST}: unauthorized")),
        [rule()],
        "registry-unreachable",
    ),
    "by tag, with a rule for tags, and not in the mirror": (
        waits(BY_TAG, failed(BY_TAG, "manifest unknown")),
        [rule(kind=ITMS)],
        "image-not-in-mirror",
    ),
    "by the mirror's own name": (waits(f"{HOST}/ubi@{DIGEST}", f"rpc error: {X509}"), (), "registry-untrusted"),
    "a name that is none": (
        waits("quay.io/Acme/{{VERSION}}", "couldn't parse image", "InvalidImageName"),
        (),
        "image-name-invalid",
    ),
    "a short name": (
        waits("web:1", 'rpc error: short-name "web:1" did not resolve', "ImageInspectError"),
        (),
        "image-name-invalid",
    ),
    # CRI-O, when it looks for an image by a name without a registry; the kubelet's reason is ImageInspectError.
    "a short name that is enforced": (
        waits("nginx", 'Failed to inspect image "": short name mode is enforcing, but image name nginx returns ambiguous list'),
        (),
        "image-name-invalid",
    ),
    "a policy without pulls": (
        waits(BY_DIGEST, "not present with pull policy of Never", "ErrImageNeverPull"),
        (),
        "image-never-pulled",
    ),
    "a full disk": (waits(BY_DIGEST, failed(BY_DIGEST, "write /var/tmp/x: no space left on device")), [rule()], "node-disk"),
    # containers/image, docker/errors.go (httpResponseToError, newUnexpectedHTTPStatusError) and manifest (ChooseInstance)
    "too many requests": (waits(BY_DIGEST, failed(BY_DIGEST, "too many requests to registry")), [rule()], "registry-busy"),
    "a proxy that fails": (
        waits(BY_DIGEST, failed(BY_DIGEST, "received unexpected HTTP status: 503 Service Unavailable")),
        [rule()],
        "registry-failing",
    ),
    "a transfer that ends early": (waits(BY_DIGEST, failed(BY_DIGEST, "unexpected EOF")), [rule()], "registry-failing"),
    "another architecture": (
        waits(
            BY_DIGEST,
            'rpc error: code = Unknown desc = choosing image instance: no image found in image index for architecture "arm64"',
        ),
        [rule()],
        "image-architecture",
    ),
    "another architecture, by the mirror's own name": (
        waits(f"{HOST}/ubi@{DIGEST}", "rpc error: no image found in manifest list for architecture s390x, OS linux"),
        (),
        "image-architecture",
    ),
    "a name server that fails": (
        waits(BY_DIGEST, failed(BY_DIGEST, "dial tcp: lookup mirror.example on 10.0.0.2:53: server misbehaving")),
        [rule()],
        "registry-unreachable",
    ),
    "the limit of a public registry": (
        waits("corp.example/app:1", "rpc error: toomanyrequests: You have reached your unauthenticated pull rate limit"),
        (),
        "registry-busy",
    ),
    "a registry that nodes reach themselves": (waits("corp.example/app:1", f"rpc error: {X509}"), (), "registry-untrusted"),
    "a registry inside of the cluster": (
        waits("image-registry.openshift-image-registry.svc:5000/site/app:1", "rpc error: authentication required"),
        (),
        "pull-unauthorized",
    ),
    "a rule, and no reason": (waits(BY_DIGEST), [rule()], "unknown"),
    "a reason that is not known": (waits(BY_DIGEST, failed(BY_DIGEST, "the moon is full")), [rule()], "unknown"),
    "no rule, and a reason that is not known": (waits(OTHER, "rpc error: the moon is full"), (), "unknown"),
    "the next try, with a reason that is not known": (
        waits(OTHER, f'Back-off pulling image "{OTHER}": ErrImagePull: the moon is full'),
        (),
        "unknown",
    ),
    "rules that may not be read": (waits(OTHER, LOOKUP), None, "registry-unreachable"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_cause_of_a_failed_pull(case):
    waiting, rules, code = CAUSES[case]
    (one,) = found(waiting, rules=rules)
    assert (one.code, one.severity) == (code, "error")
    assert any(waiting.image in line and "site/op-1" in line and "worker-1" in line for line in one.evidence)
    if waiting.message and code != "image-name-invalid":
        assert any(waiting.message[:50] in line for line in one.evidence)


def test_what_was_never_carried_has_its_line_of_the_image_set():
    digest = f"ghcr.io/acme/cli@{DIGEST}"
    one, two = found(waits(OTHER, LOOKUP), waits(digest, LOOKUP.replace("nvcr.io", "ghcr.io"), pod="op-2"), rules=[rule()])
    assert f"`- name: {OTHER}` under additionalImages" in one.fix
    assert f"`- name: {digest}` under additionalImages" in two.fix
    assert (one.subject, two.subject) == (f"image {OTHER}", f"image {digest}")


def test_without_a_record_nothing_is_said_about_archives():
    (one,) = found(waits(OTHER, LOOKUP), expected=())
    assert one.code == "image-without-rule"


def test_releases_without_rules_for_tags_are_not_told_to_carry_a_tag():
    (one,) = found(waits(BY_TAG), rules=[rule()], release="4.12")
    assert one.code == "image-by-tag"
    assert "by digest" in one.fix
    assert "additionalImages" not in one.fix


def test_hundreds_of_pods_with_one_cause_are_one_bounded_finding():
    pods = [
        waits(f"{CARRIED}-{number % 40}@{DIGEST}", f"rpc error: {HOST}/x: {X509}", pod=f"op-{number}") for number in range(800)
    ]
    rules = [rule(f"{CARRIED}-{number}") for number in range(40)]
    (one,) = found(*pods, rules=rules)
    assert one.subject == f"registry {HOST}"
    assert len(one.evidence) < 12
    assert len("".join(one.evidence)) < 8000


def test_an_application_that_waits_is_a_warning():
    app = waits(OTHER, LOOKUP, namespace="shop")
    assert [each.severity for each in found(app, rules=[rule()])] == ["warning"]
    # An operand in another namespace than its operator: its owner is a custom resource, or its labels name an operator.
    operand = waits(OTHER, LOOKUP, namespace="shop", of_operator=True)
    assert [each.severity for each in found(app, operand, rules=[rule()])] == ["error"]
    assert [each.severity for each in found(waits(OTHER, LOOKUP, namespace="openshift-logging"), rules=[rule()])] == ["error"]


def catalog_pod(name="index-x1"):
    said = f"ImagePullBackOff: {HOST}: {X509}"
    return PodState(
        name,
        frozenset(),
        ready=False,
        runs_image=False,
        states=(said,),
        reasons=frozenset(("ImagePullBackOff",)),
        memory_limit="",
        events=(),
        log="",
        created="",
    )


def test_the_pod_of_a_catalog_is_not_reported_twice_and_other_pods_are_its_evidence():
    here = source(state="TRANSIENT_FAILURE", expected=RECORD)
    here.body["spec"]["image"] = RECORD.image
    here = replace(here, pods=(catalog_pod(),))
    own = waits(RECORD.image, X509, pod="index-x1", namespace=here.namespace)
    (one,) = found(own, waits(BY_DIGEST, failed(BY_DIGEST, X509)), rules=[rule()], sources=[here])
    assert (one.code, one.subject) == ("registry-untrusted", "CatalogSource index")
    assert any("site/op-1" in line for line in one.evidence)


@pytest.mark.parametrize("source_of_rule", more(["registry.redhat.io", "*.redhat.io"]))
def test_broader_rules_count(source_of_rule):
    wide = rule(source_of_rule, f"{HOST}/all")
    (one,) = found(waits(BY_DIGEST, failed(BY_DIGEST, "manifest unknown")), rules=[wide])
    assert one.code == "image-not-in-mirror"


def test_the_pods_of_a_deleted_catalog_are_no_finding_and_those_of_another_namespace_are():
    """Garbage collection deletes them some seconds after `doctor --fix` has switched the default sources off."""
    gone = waits(BY_DIGEST, pod="redhat-operators-x", namespace="openshift-marketplace", catalog="redhat-operators")
    assert found(gone) == []
    theirs = source("theirs", place="team-b", labels={})
    pod = waits(BY_DIGEST, pod="theirs-x", namespace="team-b", catalog="theirs")
    assert [each.code for each in found(gone, pod, elsewhere=[theirs])] == ["image-without-rule"]
