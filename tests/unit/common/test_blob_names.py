"""Names of blobs for progress."""

from __future__ import annotations

import pytest

from common.archive.naming import BlobNames
from common.oci.reference import Reference

BUNDLE = Reference.parse("registry.example/cert-manager/cert-manager-operator-bundle")
PROXY = Reference.parse("registry.example/openshift4/ose-kube-rbac-proxy-rhel9")
ELSEWHERE = Reference.parse("mirror.example:5000/ocp/cert-manager/cert-manager-operator-bundle")
USERS = [
    (BUNDLE, ["redhat-operator-index/cert-manager/cert-manager.v1.15.0"]),
    (BUNDLE, ["redhat-operator-index/cert-manager/cert-manager.v1.14.0", "other-index/cert-manager/cert-manager.v1.14.0"]),
    (PROXY, ["redhat-operator-index/cert-manager/cert-manager.v1.15.0", "redhat-operator-index/logging/logging.v6.1.0"]),
]


@pytest.mark.parametrize(
    ("places", "name"),
    [
        ([BUNDLE], "cert-manager: cert-manager-operator-bundle"),
        ([PROXY], "openshift4/ose-kube-rbac-proxy-rhel9"),
        ([PROXY, BUNDLE], "openshift4/ose-kube-rbac-proxy-rhel9"),
        ([ELSEWHERE], "cert-manager/cert-manager-operator-bundle"),
        ([], ""),
    ],
)  # fmt: skip
def test_a_blob_has_the_name_of_its_operator_where_there_is_one(places, name):
    assert BlobNames(lambda _digest: places, USERS).name("sha256:0") == name


def test_an_image_that_no_operator_needs_has_its_own_name():
    """Neighbours: an image of the request, a component of a release; and an untrusted text that has no package."""
    names = BlobNames(lambda _digest: [BUNDLE], [(BUNDLE, []), (BUNDLE, ["release-4.18.1"])])
    assert names.name("sha256:0") == "cert-manager/cert-manager-operator-bundle"
