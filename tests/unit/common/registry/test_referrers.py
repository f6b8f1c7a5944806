"""Referrers: listed by the API or the fallback tag, and written so that either finds them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.errors import AuthenticationError, ContentError, RegistryError, RegistryRefusedError
from common.oci.image import MAX_CHILDREN, parse
from common.oci.reference import Reference
from common.registry.referrers import MAX_LISTED, fallback_tag
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more

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


NO_LISTS = {
    "page": b"<!doctype html><title>Sign in</title>",
    "empty": b"",
    "no object": b"[]",
    "no index": b'{"schemaVersion": 2}',
    "manifest": image([b"x"]).raw,
    "Docker manifest list": index([image([b"x"])], docker=True).raw,
}


def signed_by_tag(registry):
    """Store APP with a referrer that is listed under the fallback tag; return the subject and what is listed."""
    of = subject(registry)
    registry.add_image("org/app", index([referrer(1)]), fallback_tag(APP.digest))
    return of, {referrer(1).digest}


def list_of(registry):
    """Return the digest of the list under the fallback tag."""
    return registry.repositories["org/app"].tags[fallback_tag(APP.digest)]


def listed(client, of):
    return {each.digest for each in client.referrers(of)}


@pytest.mark.parametrize("body", NO_LISTS.values(), ids=NO_LISTS)
def test_an_answer_that_is_no_list_means_that_there_is_no_api(connect, body):
    """Some registries answer 200 for a path that they do not know (oras-project/oras-go#633, sigstore/sigstore-js#1187)."""
    with FakeRegistry() as registry:
        client = connect(registry)
        of, expected = signed_by_tag(registry)
        registry.fault("GET", "/referrers/", times=100, status=200 if body else 204, body=body)
        assert listed(client, of) == listed(client, of) == expected
        assert not client.has_referrers_api(of)
        assert len(registry.log("GET", "/referrers/")) == 2  # once by `referrers`, once by the other
        put(client, registry, referrer(2))
        assert listed(client, of) == {referrer(1).digest, referrer(2).digest}


def test_a_redirect_to_a_login_page_means_that_there_is_no_api(connect):
    """registry.k8s.io redirects to accounts.google.com (oras-project/oras-go#633)."""
    for page in ("/login", "http://127.0.0.1:9/login", f"/v2/org/app/referrers/{APP.digest}"):  # a page, an unsafe one, a loop
        with FakeRegistry(tls=True) as registry:
            client = connect(registry)
            of, expected = signed_by_tag(registry)
            registry.fault("GET", "/referrers/", times=100, status=307, headers={"Location": page})
            registry.fault("GET", "/login", status=200, body=NO_LISTS["page"])
            assert listed(client, of) == listed(client, of) == expected
            assert len(registry.log("GET", "/referrers/")) == (11 if page.startswith("/v2/") else 1)


@pytest.mark.parametrize("status", [401, 403, *more([500])])
def test_a_question_that_alone_is_refused_is_answered_by_the_tag_or_an_error(connect, status):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        registry.fault("GET", "/referrers/", times=100, status=status)
        with pytest.raises(RegistryError):
            client.referrers(of)
        _, expected = signed_by_tag(registry)
        if status == 500:  # trouble that may pass: the API may know more than the tag
            with pytest.raises(RegistryError):
                client.referrers(of)
        else:
            asked = len(registry.log("GET", "/referrers/"))
            assert listed(client, of) == listed(client, of) == expected
            assert len(registry.log("GET", "/referrers/")) == asked + 1


def test_a_malformed_entry_costs_itself_alone(connect, caplog):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        good = json.loads(index([referrer(1)]).raw)["manifests"]
        bad = [17, {"digest": "sha512:" + "0" * 128, "size": 1}, {"digest": referrer(2).digest, "size": "1"}, {}]
        body = {"schemaVersion": 2, "mediaType": index([]).media_type, "manifests": [*bad, *good]}
        registry.fault("GET", "/referrers/", status=200, body=json.dumps(body).encode())
        assert listed(client, of) == {referrer(1).digest}
        assert [record.levelname for record in caplog.records if "lists a referrer" in record.message] == ["WARNING"] * 4
        assert "sha512" in caplog.text
        registry.fault("GET", "/referrers/", status=200, body=json.dumps({**body, "manifests": None}).encode())
        assert listed(client, of) == set()  # as Go writes a list without entries
        assert client.has_referrers_api(of)


def test_the_subject_is_not_taken_for_its_own_list(connect):
    """GitLab takes the fallback tag for the digest, and gives the index itself (oras-project/oras-go#1396)."""
    with FakeRegistry(referrers=False) as registry:
        parts = index([APP])
        registry.add_image("org/app", parts, fallback_tag(parts.digest))
        assert connect(registry).referrers(registry.reference("org/app").pinned(parts.digest)) == ()
    with FakeRegistry() as registry:
        registry.add_image("org/app", parts, "v1")
        registry.fault("GET", "/referrers/", status=200, body=parts.raw)
        assert connect(registry).referrers(registry.reference("org/app").pinned(parts.digest)) == ()


def test_the_tag_is_written_where_the_header_promises_an_api_that_is_not_there(connect):
    """ECR sent OCI-Subject before it had the API (sigstore/sigstore-js#1183)."""
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        fault = registry.fault("GET", "/referrers/", times=100, status=404)
        for number in (1, 2):
            put(client, registry, referrer(number))
        assert len(registry.log("GET", "/referrers/")) == 1
        assert listed(client, of) == {referrer(1).digest, referrer(2).digest}
        fault.times = 0
        with_api = connect(registry)
        for number in (3, 4):
            put(with_api, registry, referrer(number))
        assert len(registry.log("GET", "/referrers/")) == 2
        assert len(json.loads(registry.repositories["org/app"].manifests[list_of(registry)][1])["manifests"]) == 2


def test_pages_are_followed_and_have_an_end(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        of = subject(registry)
        put(client, registry, referrer(2))
        page = index([referrer(1)]).raw
        link = f'</v2/org/app/referrers/{APP.digest}?page=2>; rel="next"'
        registry.fault("GET", "/referrers/", status=200, body=page, headers={"Link": link})
        assert {each.digest for each in client.referrers(of)} == {referrer(1).digest, referrer(2).digest}
        in_pages(registry, *[[]] * 101)
        with pytest.raises(ContentError, match="more than 100 pages"):
            client.referrers(of)
        registry.drop_faults()
        asked = len(registry.log("GET", "/referrers/"))
        registry.fault("GET", "/referrers/", times=1000, status=200, body=page, headers={"Link": link})
        with pytest.raises(RegistryRefusedError, match="which is the page itself"):
            client.referrers(of)
        assert len(registry.log("GET", "/referrers/")) == asked + 2


def in_pages(registry, *pages):
    """Have the registry list entries in pages, once."""
    head = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}'
    for number, entries in enumerate(pages, 1):
        link = f'</v2/org/app/referrers/{APP.digest}?page={number + 1}>; rel="next"'
        headers = {"Link": link} if number < len(pages) else {}
        registry.fault("GET", "/referrers/", status=200, body=(head % ",".join(entries)).encode(), headers=headers)


def test_referrers_are_bounded_in_number_over_all_pages_readable_or_not(connect, caplog):
    with FakeRegistry() as registry:
        of = subject(registry)
        good = json.dumps(json.loads(index([referrer(1)]).raw)["manifests"][0])
        half = ["{}"] * (MAX_CHILDREN // 2)
        in_pages(registry, [good, *half[1:]], half)
        assert listed(connect(registry), of) == {referrer(1).digest}
        assert len([record for record in caplog.records if "cannot be read" in record.message]) == 6
        in_pages(registry, [good, *half], half)
        with pytest.raises(ContentError, match=f"more than {MAX_CHILDREN} referrers"):
            connect(registry).referrers(of)


@pytest.mark.parametrize("beyond", [1, *more([0])])
def test_referrers_are_bounded_in_bytes_over_all_pages(connect, beyond):
    with FakeRegistry() as registry:
        of = subject(registry)
        head = json.dumps(json.loads(index([referrer(1)]).raw)["manifests"][0] | {"annotations": {"x": "%s"}})
        sizes = [MAX_LISTED // 3, MAX_LISTED // 3, MAX_LISTED - MAX_LISTED // 3 * 2 + beyond]
        in_pages(registry, *([head % ("x" * (size - len(head) + 2))] for size in sizes))
        if not beyond:
            assert listed(connect(registry), of) == {referrer(1).digest}
            return
        with pytest.raises(ContentError, match="list of referrers has more than 32"):
            connect(registry).referrers(of)


def test_a_fallback_tag_that_is_an_image_is_not_overwritten(connect):
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        subject(registry)
        registry.add_image("org/app", image([b"squatter"]), fallback_tag(APP.digest))
        with pytest.raises(ContentError, match="not an index"):
            put(client, registry, referrer())
        assert client.referrers(Reference(registry.host, "org/app").pinned(APP.digest)) == ()


def test_a_fallback_tag_of_too_many_values_is_an_error(connect):
    """Unknown fields of an index are passed over where it is read, but kept where it is written again."""
    with FakeRegistry(referrers=False) as registry:
        client = connect(registry)
        subject(registry)
        for count, fits in ((100_000, True), (400_000, False)):
            loose = index([]).raw.rstrip()[:-1] + b',"x":[' + b"[]," * count + b"[]]}"
            registry.add_manifest("org/app", loose, index([]).media_type, tag=fallback_tag(APP.digest))
            if fits:
                put(client, registry, referrer(1))
                continue
            with pytest.raises(ContentError, match="not a list of referrers: about"):
                put(client, registry, referrer(2))
