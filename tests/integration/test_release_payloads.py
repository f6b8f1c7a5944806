"""`status --ask-mirror`: the mirror is asked for payloads by tag and digest, and for their `.sig` tags."""

from __future__ import annotations

import msgspec
import pytest

from common.oci import media_types
from common.oci.image import digest_of, hex_of
from common.registry.settings import RegistrySettings
from importer.cluster.updates.expected import ExpectedRelease
from importer.push.payloads import asking
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
REPOSITORY, TAG = "hub/openshift/release-images", "4.18.45-x86_64"
RAW = b'{"schemaVersion": 2, "config": {"digest": "sha256:0"}, "layers": []}'
DIGEST = digest_of(RAW)


def fault(mirror, **fields):
    """Return what the mirror lacks of a release."""
    place = f"{mirror.host}/{REPOSITORY}:{TAG}"
    release = ExpectedRelease("4.18.45", "amd64", DIGEST, "quay.io/openshift-release-dev/ocp-release", place, sigstore=True)
    asked = msgspec.structs.replace(release, **fields)
    settings = RegistrySettings(insecure=frozenset((mirror.host,)), environ={"HUB_REGISTRY_PATIENCE": "1"})
    return asking(settings)([asked]).get(asked.name, "")


def test_a_payload_is_looked_for_by_digest_by_tag_and_with_its_signature():
    with FakeRegistry() as mirror:
        assert f"does not have {DIGEST}" in fault(mirror)
        mirror.add_manifest(REPOSITORY, RAW, media_types.DOCKER_MANIFEST)
        assert "an update service would not see the release" in fault(mirror)
        tags = mirror.repositories[REPOSITORY].tags
        other = mirror.add_manifest(REPOSITORY, RAW + b" ", media_types.DOCKER_MANIFEST)
        tags[TAG] = other
        assert f"is {other}, another image" in fault(mirror)
        tags[TAG] = DIGEST
        assert f"there is no {mirror.host}/{REPOSITORY}:sha256-{hex_of(DIGEST)}.sig" in fault(mirror)
        assert fault(mirror, sigstore=False) == ""
        tags[f"sha256-{hex_of(DIGEST)}.sig"] = other
        assert fault(mirror) == ""


def test_a_place_that_is_none_and_one_that_is_not_known_are_no_reason_to_stop():
    """The record in the cluster may have been edited; an archive that was never imported has no place yet."""
    with FakeRegistry() as mirror:
        assert fault(mirror, place="not a reference!")
        assert fault(mirror, place="") == ""
        assert fault(mirror, missing=1) == ""  # its payload was never pushed
        assert mirror.log() == []
