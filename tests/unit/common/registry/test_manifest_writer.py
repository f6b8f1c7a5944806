"""Manifests that a registry refuses: for a moment, by a rule of its own, or although it has them."""

from __future__ import annotations

import json

import pytest

from common.errors import NotFoundError, RegistryError, RegistryRefusedError
from common.oci import media_types
from common.oci.image import parse
from common.oci.reference import Reference
from common.registry.manifest_writer import ImmutableTagError, UnsupportedTypeError
from common.registry.referrers import fallback_tag
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more

APP, NEXT = image([b"app"]), image([b"next"])
# aws/containers-roadmap#2380, moby/buildkit#3776; goharbor/harbor, src/server/middleware/immutable; quay/quay,
# endpoints/v2/errors.py; GoogleContainerTools/jib#3057; docker/hub-feedback#2466
ECR = (400, "TAG_INVALID", "The image tag 'v1' already exists and cannot be overwritten because the repository is immutable.")
IMMUTABLE = [
    ECR,
    (412, "PRECONDITION", "Failed to process request due to 'app:v1' configured as immutable."),
    *more(
        [
            (409, "TAG_ALREADY_EXISTS", "tag was already pushed"),
            (400, "BLOB_UPLOAD_INVALID", "blob upload invalid: Repository does not allow updating assets: docker"),
            (403, "DENIED", "tag is immutable"),
        ]
    ),
]


def immutable(registry, answer=ECR, part=""):
    """Let the registry refuse every PUT of a tag that exists."""

    def rule(name, wanted, _kind):
        return answer if wanted.startswith(part) and wanted in registry.repositories[name].tags else None

    registry.manifest_rule = rule


def put(client, registry, parts, tag=None, **options):
    for content in parts.blobs.values():
        registry.add_blob("org/app", content)
    return client.put_manifest(Reference(registry.host, "org/app", tag), parts.raw, parts.media_type, **options)


def refused(status, code, text=""):
    return {"status": status, "body": json.dumps({"errors": [{"code": code, "message": text}]}).encode()}


# Immutable tags.


@pytest.mark.parametrize("answer", IMMUTABLE)
def test_an_immutable_tag_that_is_right_is_no_error(connect, clock, answer):
    with FakeRegistry() as registry:
        immutable(registry, answer)
        client = connect(registry)
        assert put(client, registry, APP, "v1") is True
        assert put(client, registry, APP, "v1") is False
        assert len(registry.log("PUT", "/manifests/")) == 2, "a rule is no conflict, which would be tried again"
        assert clock.slept == []


@pytest.mark.parametrize("answer", IMMUTABLE)
def test_an_immutable_tag_of_another_digest_says_what_it_has_and_what_to_set(connect, answer):
    with FakeRegistry() as registry:
        immutable(registry, answer)
        client = connect(registry)
        put(client, registry, APP, "v1")
        with pytest.raises(ImmutableTagError, match="immutable") as caught:
            put(client, registry, NEXT, "v1")
        assert APP.digest in caught.value.message
        assert NEXT.digest in caught.value.message
        assert "targetTag" in caught.value.hint
        assert "hub-sha256-*" in caught.value.hint
        assert len(registry.log("HEAD", "/manifests/")) == 1


def test_a_lost_answer_of_an_immutable_tag(connect):
    with FakeRegistry() as registry:
        immutable(registry)
        registry.fault("PUT", "/manifests/", lose_answer=True)
        assert put(connect(registry), registry, APP, "v1") is False
        assert registry.repositories["org/app"].tags["v1"] == APP.digest


def test_a_manifest_that_exists_is_refused_by_its_digest(connect):
    """Nexus without redeployment refuses any manifest that it has (GoogleContainerTools/jib#3057)."""
    with FakeRegistry() as registry:
        client = connect(registry)
        put(client, registry, APP)
        nexus = {"errors": [{"code": "BLOB_UPLOAD_INVALID", "message": "x", "detail": "does not allow updating assets"}]}
        registry.fault("PUT", "/manifests/", status=400, body=json.dumps(nexus).encode(), times=9)
        assert put(client, registry, APP) is False
        with pytest.raises(RegistryRefusedError, match="does not allow updating assets"):
            put(client, registry, NEXT)


def test_an_immutable_list_of_referrers_names_its_tags(connect):
    with FakeRegistry(referrers=False) as registry:
        immutable(registry, part="sha256-")
        client = connect(registry)
        put(client, registry, APP)
        for number in (1, 2):
            signature = image([b"signature %d" % number], subject=APP.descriptor, artifact_type="a/b")
            for content in signature.blobs.values():
                registry.add_blob("org/app", content)
            document = parse(signature.raw, signature.media_type)
            if number == 1:
                client.put_referrer(registry.reference("org/app"), document)
                continue
            with pytest.raises(ImmutableTagError, match=fallback_tag(APP.digest)) as caught:
                client.put_referrer(registry.reference("org/app"), document)
            assert "sha256-*" in caught.value.hint
            assert signature.digest in registry.repositories["org/app"].manifests


# Storage that is consistent only after seconds.


UNSEEN = [
    (404, "MANIFEST_BLOB_UNKNOWN", ""),
    (400, "MANIFEST_UNKNOWN", ""),
    # quay/quay, endpoints/v2/manifest.py; zot and Pulp name the digest in `detail`
    (400, "MANIFEST_INVALID", f"Unknown blob `{next(iter(APP.blobs))}`"),
    # pulp/pulp_container, app/registry_api.py (Manifests.put): a layer is missing, and the digest is that of the manifest
    (400, "MANIFEST_INVALID", f"manifest invalid: {APP.digest}"),
    *more([(400, "MANIFEST_BLOB_UNKNOWN", ""), (404, "BLOB_UNKNOWN", "")]),
]


@pytest.mark.parametrize("answer", UNSEEN)
def test_a_manifest_waits_for_its_content(connect, clock, answer):
    """openshift/image-registry#220, estesp/manifest-tool#191."""
    with FakeRegistry() as registry:
        registry.manifest_rule = lambda *_: answer if sum(clock.slept) < 5 else None
        checks = []
        assert put(connect(registry), registry, APP, "v1", on_missing=lambda: checks.append(1))
        assert len(checks) == 1, "the content is checked once"
        assert 5 <= sum(clock.slept) <= 12
        assert registry.repositories["org/app"].tags["v1"] == APP.digest


def test_content_that_never_comes_is_the_registrys_error(connect, clock):
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/manifests/", times=999, **refused(404, "MANIFEST_BLOB_UNKNOWN"))
        with pytest.raises(NotFoundError, match="MANIFEST_BLOB_UNKNOWN") as caught:
            put(client, registry, APP, "v1")
        assert 9 <= sum(clock.slept) <= 15
        assert clock.slept == sorted(clock.slept) or max(clock.slept) <= 5, "growing pauses"
        assert "you may not read" not in caught.value.hint
        for _ in range(5):
            with pytest.raises(NotFoundError):
                put(client, registry, APP, "v1")
        clock.slept.clear()
        with pytest.raises(NotFoundError):
            put(client, registry, APP, "v1")
        assert clock.slept == [], "hundreds of manifests do not wait where waiting was in vain"


def test_a_sparse_index_does_not_wait(connect, clock):
    with FakeRegistry() as registry:
        many = index([APP])
        with pytest.raises(NotFoundError):
            put(connect(registry), registry, many, "v1", waits=False)
        assert clock.slept == []


def test_the_pauses_end_when_the_process_is_stopped(connect, clock):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=999, **refused(404, "MANIFEST_BLOB_UNKNOWN"))

        def stop(_seconds):
            raise KeyboardInterrupt

        clock.on_sleep = stop
        with pytest.raises(KeyboardInterrupt):
            put(connect(registry), registry, APP, "v1")
        assert len(registry.log("PUT", "/manifests/")) == 1


# Conflicts.


@pytest.mark.parametrize("status", [409, 412, 423])
@pytest.mark.parametrize("tag", ["v1", None])
def test_a_conflict_is_tried_again(connect, clock, status, tag):
    """goharbor/harbor#23118, openshift/origin#19452."""
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=2, **refused(status, "CONFLICT"))
        assert put(connect(registry), registry, APP, tag)
        assert len(clock.slept) == 2


@pytest.mark.parametrize("status", [409, *more([412, 423])])
def test_a_conflict_that_stays_is_an_error(connect, clock, status):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=99, **refused(status, "CONFLICT"))
        with pytest.raises(RegistryRefusedError, match=str(status)) as caught:
            put(connect(registry), registry, APP, "v1")
        assert len(registry.log("PUT", "/manifests/")) == 5
        assert "log says more" not in caught.value.hint


def test_a_rule_is_no_conflict(connect, clock):
    """goharbor/harbor, src/lib/errors/const.go: PROJECTPOLICYVIOLATION, and quotas, are 412 too."""
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=99, **refused(412, "DENIED", "adding 2 MiB exceeds the quota"))
        with pytest.raises(RegistryRefusedError, match="quota"):
            put(connect(registry), registry, APP, "v1")
        assert clock.slept == []


@pytest.mark.parametrize("status", [409, *more([423])])
def test_a_conflict_at_the_closing_put_of_a_blob(connect, status):
    content = b"layer"
    with FakeRegistry() as registry:
        blob = FakeRegistry().add_blob("elsewhere", content)
        registry.fault("PUT", "/blobs/uploads/", times=2, **refused(status, "CONFLICT"))
        connect(registry).upload(registry.reference("org/app"), blob, lambda start: iter([content[start:]]))
        assert registry.find_blob("org/app", blob.digest) == content
        assert registry.log("PATCH") == [], "another form of the upload would not help"


# Layers with `urls`.


def foreign():
    document = json.loads(APP.raw)
    document["layers"][0]["urls"] = ["https://example.com/layer"]
    return json.dumps(document).encode()


@pytest.mark.parametrize(("status", "code", "sent"), [(500, "UNKNOWN", 2), (400, "MANIFEST_INVALID", 1)])
def test_layers_with_urls_name_the_setting(connect, status, code, sent):
    """distribution/distribution#2795, moby/moby#27580."""
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/manifests/", times=99, **refused(status, code))
        with pytest.raises(RegistryRefusedError, match=code) as caught:
            client.put_manifest(registry.reference("org/app", "v1"), foreign(), APP.media_type)
        assert "validation.manifests.urls.allow" in caught.value.hint
        assert len(registry.log("PUT", "/manifests/")) == sent


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"),
        *(
            pytest.param(*each, marks=pytest.mark.more)
            for each in [
                ("TAG_INVALID", "the tag is immutable"),
                ("NAME_INVALID", ""),
                ("DENIED", "a policy"),
                ("MANIFEST_INVALID", f"blob not found: {next(iter(APP.blobs))}"),
            ]
        ),
    ],
)
def test_a_refusal_with_another_reason_does_not_name_urls(connect, code, text):
    """Error codes with a meaning of their own (distribution specification, *Error codes*)."""
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/manifests/", times=99, **refused(400, code, text))
        with pytest.raises(RegistryRefusedError, match=code) as caught:
            client.put_manifest(registry.reference("org/app", "v1"), foreign(), APP.media_type)
        assert "urls" not in str(caught.value)


def test_a_type_that_is_refused_is_named_also_where_layers_have_urls(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/manifests/", times=99, **refused(400, "MANIFEST_INVALID", f"no {APP.media_type}"))
        with pytest.raises(UnsupportedTypeError):
            client.put_manifest(registry.reference("org/app", "v1"), foreign(), APP.media_type)


def test_other_manifests_are_tried_again_after_500(connect):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=3, **refused(500, "UNKNOWN"))
        assert put(connect(registry), registry, APP, "v1")


# Media types.

DOCKER = image([b"docker"], docker=True)


@pytest.mark.parametrize(
    ("parts", "answer", "family", "setting"),
    [
        (DOCKER, (415, "MANIFEST_INVALID", "manifest invalid"), "Docker", "docker2s2"),
        (index([DOCKER], docker=True), (415, "MANIFEST_INVALID", ""), "Docker", "docker2s2"),
        (APP, (415, "MANIFEST_INVALID", "manifest schema version not supported"), "OCI", "FEATURE_GENERAL_OCI_SUPPORT"),
        (APP, (400, "MANIFEST_INVALID", f"unknown media type: {media_types.OCI_MANIFEST}"), "OCI", "Nexus"),
    ],
)
def test_a_refused_media_type_names_the_setting(connect, parts, answer, family, setting):
    """project-zot/zot#2234, #724, #3104; quay/quay, endpoints/v2/manifest.py (`_reject_manifest2_schema2`)."""
    with FakeRegistry() as registry:
        registry.manifest_rule = lambda *_: answer
        with pytest.raises(UnsupportedTypeError, match=family) as caught:
            put(connect(registry), registry, parts, "v1")
        assert caught.value.family == family
        assert setting in caught.value.hint


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        (
            image([b"s"], artifact_type="application/vnd.example", config={}),
            (400, "MANIFEST_INVALID", "unknown media type: a/b"),
        ),
        (image([b"s"], subject=APP.descriptor), (415, "MANIFEST_INVALID", "")),
        (APP, (400, "MANIFEST_INVALID", "unknown media type: application/vnd.example.layer")),
    ],
)
def test_a_refused_artifact_or_layer_says_nothing_about_images(connect, parts, answer):
    """ocx-sh/ocx#480 (GitLab), oras-project/oras#738 (Quay)."""
    with FakeRegistry() as registry:
        registry.manifest_rule = lambda *_: answer
        with pytest.raises(RegistryError) as caught:
            put(connect(registry), registry, parts, "v1")
        assert not isinstance(caught.value, UnsupportedTypeError)


# Repositories that take nothing.


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (404, "NAME_UNKNOWN", "Create it at"),  # ECR: moby/moby#24473
        (404, "NOT_FOUND", "Create it at"),  # Harbor: goharbor/harbor#13795
        (405, "UNSUPPORTED", "pull-through cache"),
    ],
)
def test_a_repository_that_takes_no_manifest(connect, status, code, hint):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", times=9, **refused(status, code))
        with pytest.raises(RegistryError, match=code) as caught:
            put(connect(registry), registry, APP, "v1")
        assert hint in caught.value.hint
        assert "may not read" not in caught.value.hint
        assert len(registry.log("PUT", "/manifests/")) == 1
