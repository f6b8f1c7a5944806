"""Referrers: listed by the API or the fallback tag, and written so that either finds them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.errors import AuthenticationError, ContentError
from common.oci.image import parse
from common.oci.reference import Reference
from common.registry.referrers import fallback_tag
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry

APP = image([b"app"])
KIND = "application/vnd.example.sbom+json"


def referrer(number: int = 0, **more):
    return image(
        [f"sbom {number}".encode()], subject=APP.descriptor, artifact_type=KIND, annotations={"n": str(number)}, **more
    )


def put(client, registry, parts, repository="org/app"):
    for content in parts.blobs.values():
        registry.add_blob(repository, content)
    client.put_referrer(registry.reference(repository), parse(parts.raw, parts.media_type))


def subject(registry):
    registry.add_image("org/app", APP, "v1")
    return registry.reference("org/app").pinned(APP.digest)


@pytest.mark.parametrize("api", [True, False])
def test_what_is_written_is_listed_with_or_without_the_api(connect, api):
    with FakeRegistry(referrers=api) as registry:
        client = connect(registry)
        of = subject(registry)
        assert client.referrers(of) == ()
        for number in (1, 2):
            put(client, registry, referrer(number))
        listed = client.referrers(of)
        assert {(each.digest, each.artifact_type, each.annotations["n"]) for each in listed} == {
            (referrer(1).digest, KIND, "1"),
            (referrer(2).digest, KIND, "2"),
        }
        tags = registry.repositories["org/app"].tags
        assert (fallback_tag(APP.digest) in tags) is not api


def test_writing_again_changes_nothing(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        subject(registry)
        put(client, registry, referrer())
        before = dict(registry.repositories["org/app"].tags)
        put(client, registry, referrer())
        assert registry.repositories["org/app"].tags == before


def test_what_others_listed_stays_byte_for_byte(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        subject(registry)
        other = image([b"other"])
        registry.add_image("org/app", other)
        entry = {"mediaType": other.media_type, "digest": other.digest, "size": len(other.raw), "x-unknown": [1]}
        document = {"schemaVersion": 2, "mediaType": index([]).media_type, "manifests": [entry]}
        registry.add_manifest("org/app", json.dumps(document).encode(), index([]).media_type, fallback_tag(APP.digest))
        put(client, registry, referrer())
        repository = registry.repositories["org/app"]
        stored = json.loads(repository.manifests[repository.tags[fallback_tag(APP.digest)]][1])
        assert stored["manifests"][0] == entry
        assert len(stored["manifests"]) == 2


def test_many_at_a_time_lose_none(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        of = subject(registry)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda number: put(client, registry, referrer(number)), range(12)))
        assert len(client.referrers(of)) == 12


def test_a_registry_without_the_api_is_asked_once(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        of = subject(registry)
        client.referrers(of)
        client.referrers(of)
        assert len(registry.log("GET", "/referrers/")) == 1


def test_a_registry_that_forbids_the_question_is_an_error(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        registry.fault("GET", "/referrers/", status=403)
        with pytest.raises(AuthenticationError):
            client.referrers(of)


@pytest.mark.parametrize("body", [b"[]", b'{"schemaVersion": 2}', image([b"x"]).raw])
def test_an_answer_that_is_no_list_is_an_error(connect, body):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        registry.fault("GET", "/referrers/", status=200, body=body)
        with pytest.raises(ContentError):
            client.referrers(of)


def test_pages_are_followed_and_have_an_end(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        page = index([referrer(1)]).raw
        link = f'</v2/org/app/referrers/{APP.digest}?page=2>; rel="next"'
        registry.fault("GET", "/referrers/", status=200, body=page, headers={"Link": link})
        put(client, registry, referrer(2))
        assert {each.digest for each in client.referrers(of)} == {referrer(1).digest, referrer(2).digest}
        registry.fault("GET", "/referrers/", times=1000, status=200, body=page, headers={"Link": link})
        with pytest.raises(ContentError, match="pages"):
            client.referrers(of)


def test_a_fallback_tag_that_is_an_image_is_not_overwritten(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        subject(registry)
        registry.add_image("org/app", image([b"squatter"]), fallback_tag(APP.digest))
        with pytest.raises(ContentError, match="not an index"):
            put(client, registry, referrer())
        assert client.referrers(Reference(registry.host, "org/app").pinned(APP.digest)) == ()
