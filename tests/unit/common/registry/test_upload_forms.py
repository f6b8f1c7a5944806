"""Registries that take blobs in one form only, that do not say whether they have one, or that answer late."""

from __future__ import annotations

import random
import threading

import pytest

from common.content import Written
from common.errors import AuthenticationError, NotWritableError, RegistryRefusedError
from common.oci.image import Descriptor, digest_of
from common.registry.settings import Timeouts
from common.registry.source_sink import Counts, RegistrySink
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_profile import Profile, Refusal
from tests.samples import more

CONTENT = random.Random(2).randbytes(600_000)
BLOB = Descriptor("a/b", digest_of(CONTENT), len(CONTENT))
OTHERS = [CONTENT[:-1] + bytes([number]) for number in range(32) if number != CONTENT[-1]]


def read(start):
    yield CONTENT[start:]


def methods(registry, since=0):
    return [r.method for r in registry.requests[since:] if "/blobs/uploads/" in r.path]


def looks(registry, method="HEAD"):
    return len(registry.log(method, "/blobs/sha256:"))


def push(client, registry, content=CONTENT, name="org/b"):
    """Write a blob as `push` does."""
    blob = Descriptor("a/b", digest_of(content), len(content))
    sink = RegistrySink(client, {blob.digest: [registry.reference(name)]})
    return sink.write(blob, lambda start: iter([content[start:]]))


# Forms.


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ("ignored", (400, "DIGEST_INVALID")),  # pulp/pulp_container#1274
        ("refused", (400, "UNSUPPORTED")),  # containerd/containerd#3533
        ("refused", (404, "BLOB_UNKNOWN")),  # Artifactory 6.11 (moby/buildkit#1130)
        ("refused", (501, "")),
    ],
)
def test_where_only_patch_brings_bytes_the_second_blob_goes_straight_that_way(connect, body, refusal):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put=body, no_whole_put=Refusal(*refusal))
        client = connect(registry)
        assert push(client, registry) is Written.COPIED
        assert registry.find_blob("org/b", BLOB.digest) == CONTENT
        assert methods(registry) == ["POST", "PUT", "POST", "PATCH", "PUT"]
        asked = len(registry.requests)
        push(client, registry, OTHERS[0])
        assert methods(registry, asked) == ["POST", "PATCH", "PUT"]
        assert "Content-Range" not in registry.log("PATCH")[-1].headers, "as docker and podman push"


def test_an_empty_blob_where_the_body_of_a_put_is_ignored(connect):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="ignored")
        assert push(connect(registry), registry, b"") is Written.COPIED


def test_only_patch_brings_bytes_and_a_proxy_limits_them(connect):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="refused")
        client = connect(registry)
        registry.fault("PATCH", "/blobs/uploads/", status=413)
        push(client, registry)
        assert "Content-Range" in registry.log("PATCH")[-1].headers
        asked = len(registry.requests)
        push(client, registry, OTHERS[0])
        assert methods(registry, asked) == ["POST", "PATCH", "PUT"]


@pytest.mark.parametrize(("status", "code"), [(403, "DENIED"), (404, "NAME_UNKNOWN"), (507, "")])
def test_a_refusal_for_another_reason_is_final(connect, status, code):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="refused", no_whole_put=Refusal(status, code))
        with pytest.raises(Exception, match=f"HTTP {status}"):
            push(connect(registry), registry)
        assert "PATCH" not in methods(registry)


def test_a_refusal_of_every_form_is_reported_and_tried_for_two_blobs_alone(connect):
    """A quota, for one, is 400 DENIED or 412 in some registries: each blob was sent once, and is again after two of them."""
    with FakeRegistry() as registry:
        registry.fault(
            "PUT", "/blobs/uploads/", times=100, status=412, body=b'{"errors": [{"code": "DENIED", "message": "quota"}]}'
        )
        registry.fault("PATCH", "/blobs/uploads/", times=100, status=405)
        client = connect(registry)
        for content in OTHERS[:4]:
            with pytest.raises(RegistryRefusedError, match=r"HTTP 412 DENIED \(quota\)"):
                push(client, registry, content)
        assert methods(registry).count("PUT") == 4
        assert methods(registry).count("PATCH") <= 4


@pytest.mark.parametrize("status", [400, *more([409, 412])])
def test_a_project_that_refuses_every_form_decides_for_no_other(connect, status):
    """A quota is one of a project; another project takes blobs, in the form that the registry has."""
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="refused")
        for method in ("PUT", "PATCH"):
            registry.fault(
                method, "/full/", times=100, status=status, body=b'{"errors": [{"code": "DENIED", "message": "quota"}]}'
            )
        client = connect(registry)
        for content in OTHERS[:4]:
            with pytest.raises(RegistryRefusedError, match="quota"):
                push(client, registry, content, "full/a")
        assert push(client, registry) is Written.COPIED


def test_a_limit_of_the_size_is_no_refusal_of_every_form(connect):
    with FakeRegistry() as registry:
        for method in ("PUT", "PATCH"):
            registry.fault(method, "/blobs/uploads/", times=4, status=412)
        client = connect(registry)
        for content in OTHERS[:2]:
            with pytest.raises(RegistryRefusedError, match="HTTP 412"):
                push(client, registry, content)
        registry.drop_faults()
        registry.max_body = 1_300_000
        assert push(client, registry, CONTENT * 4) is Written.COPIED


def test_bytes_that_change_on_the_way_in_every_form_are_sent_again(connect):
    """DIGEST_INVALID in chunks, too, is damage on the way: the blob is sent as often as before, and the form is kept."""
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/blobs/uploads/", times=3, status=400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')
        push(client, registry)
        assert methods(registry) == ["POST", "PUT", "POST", "PATCH", "PUT", "POST", "PUT", "POST", "PUT"]


@pytest.mark.parametrize("keeps", ["last", *more(["first"])])
def test_chunks_of_which_one_is_kept_become_one_patch(connect, keeps):
    """ECR keeps the first chunk (aws/containers-roadmap#2831), others the last, some without a check (repsyio/repsy#355)."""
    content = CONTENT * 30  # more than one chunk
    for checks in (True, False):
        with FakeRegistry() as registry:
            registry.profile = Profile(keeps=keeps, checks_digest=checks)
            registry.fault("PUT", "/blobs/uploads/", drop=True)  # a long PUT does not get through
            push(connect(registry), registry, content)
            assert registry.find_blob("org/b", digest_of(content)) == content


def test_a_registry_without_content_range_gets_one_patch(connect):
    """Google Artifact Registry takes no chunked uploads (podman-container-tools/skopeo#1101)."""
    with FakeRegistry() as registry:
        registry.profile = Profile(content_range=False)
        registry.fault("PUT", "/blobs/uploads/", drop=True)
        push(connect(registry), registry)
        assert [r.status for r in registry.log("PATCH")] == [400, 202]


def test_a_chunk_that_is_too_large_may_be_416(connect):
    """GHCR takes 4 MiB in one PATCH with Content-Range, and says 416 to more (ocx-sh/ocx#237)."""
    with FakeRegistry() as registry:
        registry.profile = Profile(max_ranged=4 * 1024 * 1024)
        registry.fault("PUT", "/blobs/uploads/", status=413)
        content = CONTENT * 15
        push(connect(registry), registry, content)
        assert registry.find_blob("org/b", digest_of(content)) == content
        assert len(registry.log("POST")) == 2, "one for the PUT, one for all chunks"


def test_a_put_that_the_server_cannot_take_becomes_a_patch_and_is_remembered(connect):
    """500 to every PUT with a body: after two of them the blob goes another way, and after two blobs all do."""
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="refused", no_whole_put=Refusal(500, "UNKNOWN"))
        client = connect(registry)
        for content in OTHERS[:2]:
            push(client, registry, content)
        asked = len(registry.requests)
        push(client, registry, OTHERS[2])
        assert methods(registry, asked) == ["POST", "PATCH", "PUT"]


def test_a_proxy_that_gives_up_twice_gets_chunks(connect):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", times=2, status=504)
        push(connect(registry), registry)
        assert methods(registry) == ["POST", "PUT", "POST", "PUT", "POST", "PATCH", "PUT"]


def test_one_500_changes_nothing(connect):
    with FakeRegistry() as registry:
        client = connect(registry)
        registry.fault("PUT", "/blobs/uploads/", status=500)
        push(client, registry)
        asked = len(registry.requests)
        push(client, registry, OTHERS[0])
        assert methods(registry, asked) == ["POST", "PUT"]


def test_201_to_a_put_whose_body_was_ignored(connect):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="ignored", checks_digest=False)
        client = connect(registry)
        assert push(client, registry) is Written.COPIED
        assert registry.find_blob("org/b", BLOB.digest) == CONTENT
        asked = len(registry.requests)
        push(client, registry, OTHERS[0])
        assert methods(registry, asked) == ["POST", "PATCH", "PUT"]


def test_a_blob_that_was_short_before_is_sent_once(connect):
    """docker-registry keeps a damaged file whatever is sent (distribution/distribution#2788): another form does not help."""
    with FakeRegistry() as registry:
        registry.repositories["org/b"].blobs[BLOB.digest] = CONTENT[:100]
        registry.fault("PUT", "/blobs/uploads/", status=201)
        with pytest.raises(RegistryRefusedError, match=r"storage of .* is damaged.*100 of its 600000"):
            push(connect(registry), registry)
        assert methods(registry) == ["POST", "PUT"]


def test_a_short_blob_is_replaced_without_a_delete(connect):
    """Where the registry takes what is sent again; none is asked to delete, which most refuse (405)."""
    with FakeRegistry() as registry:
        registry.deletes = False
        registry.repositories["org/b"].blobs[BLOB.digest] = CONTENT[:100]
        assert push(connect(registry), registry) is Written.COPIED
        assert registry.find_blob("org/b", BLOB.digest) == CONTENT
        assert registry.log("DELETE") == []


# A session at another host.


@pytest.mark.parametrize("form", ["taken", "refused"])
def test_a_session_at_another_host_gets_no_credentials(connect, form):
    with FakeRegistry(tls=True, auth="basic") as registry:
        registry.profile = Profile(location="second", whole_put=form)
        client = connect(registry, login=True)
        assert push(client, registry) is Written.COPIED
        assert registry.elsewhere
        assert not [r for r in registry.elsewhere if "Authorization" in r.headers]
        assert "Authorization" in registry.log("POST")[-1].headers


def test_an_expired_session_at_another_host_begins_again(connect):
    """As a signed URL: 401 and 403 from there say nothing about the account."""
    with FakeRegistry(tls=True, auth="basic") as registry:
        registry.profile = Profile(location="second")
        registry.fault("PUT", "/blobs/uploads/", status=401)
        assert push(connect(registry, login=True), registry) is Written.COPIED
        assert [r.status for r in registry.elsewhere] == [401, 201]


def test_a_limit_at_another_host_is_named_with_that_host(connect):
    with FakeRegistry(tls=True, max_body=1000) as registry:
        registry.profile = Profile(location="second")
        with pytest.raises(RegistryRefusedError, match=f"{registry.elsewhere_host}.*HTTP 413"):
            push(connect(registry), registry)


# Is it there?


@pytest.mark.parametrize("status", [401, 405, 451, *more([302, 400, 403, 406, 422, 501])])
def test_where_head_and_get_say_nothing_the_upload_decides(connect, status):
    """distribution/distribution#1217, SgtSilvio/gradle-oci#154, goharbor/harbor#13973."""
    with FakeRegistry() as registry:
        for method in ("HEAD", "GET"):
            registry.fault(method, "/blobs/sha256:", times=100, status=status)
        client = connect(registry, pushes=True)
        for content in OTHERS[:8]:
            assert push(client, registry, content) is Written.COPIED
        assert looks(registry) <= 6, "remembered: a failing request for each blob would be 16"
        assert looks(registry, "GET") <= 2


def test_a_host_that_says_nothing_of_some_blobs_is_asked_again(connect):
    """400 to digests of one algorithm says nothing about the others."""
    with FakeRegistry() as registry:
        for method, times in (("HEAD", 3), ("GET", 1)):
            registry.fault(method, "/blobs/sha256:", times=times, status=400)
        client = connect(registry, pushes=True)
        blob = registry.add_blob("org/b", CONTENT)
        found = [client.has_blob(registry.reference("org/b"), blob.digest, blob.size) for _ in range(40)]
        assert found.index(True) < 32
        assert all(found[found.index(True) :])


@pytest.mark.parametrize("status", [400, *more([403, 405])])
def test_where_the_upload_is_refused_as_well_its_error_is_reported(connect, status):
    with FakeRegistry() as registry:
        for method in ("HEAD", "GET"):
            registry.fault(method, "/blobs/sha256:", times=100, status=status)
        registry.fault("POST", "/blobs/uploads/", times=100, status=403, body=b'{"errors": [{"code": "DENIED"}]}')
        with pytest.raises(NotWritableError, match=r"POST upload .* HTTP 403 DENIED"):
            push(connect(registry, pushes=True), registry)


def test_one_repository_that_may_not_be_read_leaves_get_to_the_others(connect):
    with FakeRegistry() as registry:
        registry.add_blob("org/b", CONTENT)
        registry.fault("HEAD", "/blobs/sha256:", times=100, status=401)
        registry.fault("GET", "/closed/a/", times=100, status=403)
        client = connect(registry, pushes=True)
        for content in OTHERS[:6]:
            assert not client.has_blob(registry.reference("closed/a"), digest_of(content), len(content))
        assert looks(registry, "GET") == 1
        assert push(client, registry) is Written.PRESENT


@pytest.mark.parametrize("status", [401, *more([403, 405])])
def test_where_only_get_says_it_a_blob_is_one_request(connect, status):
    """ECR Public answers 401 to the HEAD of a blob that a GET gets (aws/containers-roadmap#2671)."""
    with FakeRegistry() as registry:
        registry.add_blob("org/b", CONTENT)
        registry.fault("HEAD", "/blobs/sha256:", times=100, status=status)
        client = connect(registry)
        assert client.has_blob(registry.reference("org/b"), BLOB.digest, BLOB.size)
        assert not client.has_blob(registry.reference("org/b"), digest_of(b"x"), 1)
        assert not client.has_blob(registry.reference("org/b"), BLOB.digest, BLOB.size + 1), "short"
        assert looks(registry) == 1
        assert looks(registry, "GET") == 3
        assert push(client, registry) is Written.PRESENT


def test_without_ranges_the_blob_is_not_read_to_find_out(connect):
    with FakeRegistry(ranges=False) as registry:
        content = CONTENT * 20
        registry.add_blob("org/b", content)
        registry.fault("HEAD", "/blobs/sha256:", times=100, status=405)
        assert connect(registry).has_blob(registry.reference("org/b"), digest_of(content), len(content))


def test_a_client_that_only_reads_is_given_the_error(connect):
    """A receipt has to know what cannot be known."""
    with FakeRegistry() as registry:
        for method, status in (("HEAD", 405), ("GET", 403)):
            registry.fault(method, "/blobs/sha256:", times=100, status=status)
        with pytest.raises(RegistryRefusedError, match=r"HEAD blob .* HTTP 405"):
            connect(registry).has_blob(registry.reference("org/b"), BLOB.digest, BLOB.size)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_short_blob_is_seen_where_head_has_no_length(connect, ranges):
    """A proxy that sends chunks, or encodes, leaves the length out; the file may still be short."""
    with FakeRegistry(ranges=ranges) as registry:
        registry.profile = Profile(head_length=False)
        for content in (CONTENT[:10], b""):
            registry.repositories["org/b"].blobs[BLOB.digest] = content
            assert not connect(registry).has_blob(registry.reference("org/b"), BLOB.digest, BLOB.size)
        registry.add_blob("org/b", CONTENT)
        assert connect(registry).has_blob(registry.reference("org/b"), BLOB.digest, BLOB.size)


# Answers that come late, or not at all.


def arrive_after(clock, seconds, action):
    """Run `action` once so many seconds were slept through."""

    def slept(_seconds):
        if sum(clock.slept) >= seconds:
            action()

    clock.on_sleep = slept


@pytest.mark.parametrize("status", [502, 504, *more([408, 524])])
def test_a_proxy_that_gives_up_while_the_registry_finishes(connect, clock, status):
    """The registry needed 8 s more (as in GoogleContainerTools/jib#4301): the bytes are not sent again."""
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", status=status)
        arrive_after(clock, 8, lambda: registry.add_blob("org/b", CONTENT))
        assert push(connect(registry), registry) is Written.COPIED
        assert methods(registry) == ["POST", "PUT"]
        assert clock.slept == [1, 2, 4, 8]


@pytest.mark.parametrize("silence", [False, True])
def test_a_connection_that_ends_while_the_registry_finishes(connect, clock, silence):
    release = threading.Event()
    with FakeRegistry() as registry:

        def late():
            clock.advance(60)
            if silence:
                release.wait(30)  # longer than the client waits

        registry.fault("PUT", "/blobs/uploads/", drop=True, read_before_drop=len(CONTENT), action=late)
        arrive_after(clock, 8, lambda: registry.add_blob("org/b", CONTENT))
        client = connect(registry, timeouts=Timeouts(closing_put_s=0.2) if silence else Timeouts())
        assert push(client, registry) is Written.COPIED
        release.set()
        assert methods(registry) == ["POST", "PUT"]


def test_a_connection_that_breaks_at_once_is_looked_into_once(connect, clock):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", drop=True)
        push(connect(registry), registry)
        assert sum(clock.slept) <= 0.5  # the first pause of every call that is retried
        assert looks(registry) == 3, "before, after the break, after the upload"


def test_a_blob_that_never_comes_is_sent_again_after_half_a_minute(connect, clock):
    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", status=504)
        assert push(connect(registry), registry) is Written.COPIED
        assert 30 < sum(clock.slept) <= 30.5  # and the first pause of every call that is retried
        assert methods(registry) == ["POST", "PUT", "POST", "PUT"]


def test_a_late_answer_to_the_closing_put_of_chunks(connect, clock):
    with FakeRegistry() as registry:
        registry.profile = Profile(whole_put="refused")
        client = connect(registry)
        push(client, registry, OTHERS[0])
        registry.fault("PUT", "/blobs/uploads/", status=504)
        arrive_after(clock, 8, lambda: registry.add_blob("org/b", CONTENT))
        asked = len(registry.requests)
        push(client, registry)
        assert methods(registry, asked) == ["POST", "PATCH", "PUT"]


def test_a_late_answer_to_a_mount(connect, clock):
    with FakeRegistry() as registry:
        registry.add_blob("org/a", CONTENT)
        registry.fault("POST", "/blobs/uploads/", status=504)
        arrive_after(clock, 8, lambda: registry.add_blob("org/b", CONTENT))
        client = connect(registry)
        sink = RegistrySink(client, {BLOB.digest: [registry.reference(f"org/{letter}") for letter in "ab"]})
        assert sink.write(BLOB, lambda _s: iter([])) is Written.MOUNTED
        assert methods(registry) == ["POST"]


@pytest.mark.parametrize("fault", [{"lose_answer": True}, {"status": 504}])
def test_a_manifest_whose_answer_was_lost_is_looked_for_before_it_is_written_again(connect, fault):
    """A registry with immutable tags refuses the second PUT (aws/containers-roadmap#2179)."""
    parts = image([b"layer"])
    with FakeRegistry() as registry:
        registry.add_image("org/b", parts)
        arrives = lambda: registry.repositories["org/b"].tags.update(v1=digest_of(parts.raw))  # noqa: E731
        registry.fault("PUT", "/manifests/", action=arrives, **fault)
        registry.fault("PUT", "/manifests/", times=9, status=400, body=b'{"errors": [{"code": "TAG_INVALID"}]}')
        connect(registry).put_manifest(registry.reference("org/b", "v1"), parts.raw, parts.media_type)
        assert len(registry.log("PUT")) == 1
        assert registry.repositories["org/b"].tags["v1"] == digest_of(parts.raw)


def test_a_manifest_that_arrives_after_it_was_written_again(connect):
    parts = image([b"layer"])
    with FakeRegistry() as registry:
        registry.add_image("org/b", parts)
        registry.fault("PUT", "/manifests/", status=504)
        arrives = lambda: registry.repositories["org/b"].tags.update(v1=digest_of(parts.raw))  # noqa: E731
        registry.fault("PUT", "/manifests/", status=400, body=b'{"errors": [{"code": "TAG_INVALID"}]}', action=arrives)
        connect(registry).put_manifest(registry.reference("org/b", "v1"), parts.raw, parts.media_type)
        assert len(registry.log("PUT")) == 2


def test_a_manifest_that_is_refused_after_trouble_and_not_there_is_an_error(connect):
    parts = image([b"layer"])
    with FakeRegistry() as registry:
        registry.add_image("org/b", parts)
        registry.fault("PUT", "/manifests/", status=504)
        registry.fault("PUT", "/manifests/", status=403, body=b'{"errors": [{"code": "DENIED"}]}')
        with pytest.raises(AuthenticationError, match="DENIED"):
            connect(registry).put_manifest(registry.reference("org/b", "v1"), parts.raw, parts.media_type)


# Mounts.

BARE = [(200, ""), (204, ""), (202, "ftp://localhost/x")]


@pytest.mark.parametrize("status", [401, *more([403, 404])])
def test_mounts_that_are_refused_end_soon(connect, status):
    """An account for each repository: containerd/containerd#14086. They grew with the square of the repositories."""
    with FakeRegistry() as registry:
        sink = RegistrySink(connect(registry), {BLOB.digest: [registry.reference(f"org/{n}") for n in range(20)]})
        registry.refused_mounts = {f"org/{n}": status for n in range(20)}
        assert sink.write(BLOB, lambda start: iter([CONTENT[start:]])) is Written.COPIED
        assert sink.counts == Counts(uploaded=20)
        assert len([r for r in registry.log("POST") if "mount" in r.query]) == 8


def test_uploads_that_are_opened_in_place_of_mounts_end_the_tries(connect):
    with FakeRegistry(mounts=False) as registry:
        sink = RegistrySink(connect(registry), {BLOB.digest: [registry.reference(f"org/{n}") for n in range(20)]})
        sink.write(BLOB, lambda start: iter([CONTENT[start:]]))
        assert len([r for r in registry.log("POST") if "mount" in r.query]) == 8


@pytest.mark.parametrize(("status", "location"), [(202, ""), *(pytest.param(*each, marks=pytest.mark.more) for each in BARE)])
def test_a_mount_that_opens_no_upload_is_followed_by_a_post_of_its_own(connect, status, location):
    """The specification wants a Location with 202 (*Mounting a blob from another repository*); proxies drop headers."""
    with FakeRegistry() as registry:
        registry.add_blob("org/a", CONTENT)
        bare = {"Location": location} if location else {}
        registry.fault("POST", "/org/b/blobs/uploads/", times=1, status=status, headers=bare)
        sink = RegistrySink(connect(registry), {BLOB.digest: [registry.reference(f"org/{letter}") for letter in "ab"]})
        assert sink.write(BLOB, lambda start: iter([CONTENT[start:]])) is Written.COPIED
        assert registry.find_blob("org/b", BLOB.digest) == CONTENT
        assert ["mount" in request.query for request in registry.log("POST")] == [True, False]


def test_mounting_is_kept_where_it_works_for_some(connect):
    with FakeRegistry() as registry:
        registry.refused_mounts = {f"closed/{n}": 403 for n in range(20)}
        client = connect(registry)
        closed = [registry.reference(f"closed/{n}") for n in range(20)]
        for number, content in enumerate(OTHERS[:20]):
            blob = registry.add_blob("open/source", content)
            near = registry.reference("open/source")
            mount_from = [near, *closed] if number % 2 else [*closed[:2], near]
            read = lambda start, content=content: iter([content[start:]])  # noqa: E731
            assert client.upload(registry.reference(f"org/{number}"), blob, read, mount_from) is Written.MOUNTED
        assert len([r for r in registry.log("POST") if r.status == 403]) <= 4


def test_a_target_that_takes_nothing_costs_its_sources_nothing(connect):
    """Harbor and ECR: 404 to every upload into a project or repository that was not made first (goharbor/harbor#13795)."""
    with FakeRegistry() as registry:
        client = connect(registry)
        blob = registry.add_blob("org/source", CONTENT)
        registry.fault("POST", "/v2/missing/", times=100, status=404, body=b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
        for number in range(9):
            with pytest.raises(NotWritableError, match="NAME_UNKNOWN"):
                client.upload(registry.reference(f"missing/{number}"), blob, read, [registry.reference("org/source")])
        assert client.upload(registry.reference("org/b"), blob, read, [registry.reference("org/source")]) is Written.MOUNTED


# Manifests.


def test_a_host_whose_head_of_manifests_says_nothing_is_asked_with_get_alone(connect):
    with FakeRegistry() as registry:
        registry.add_image("org/app", image([b"layer"]), tag="v1")
        registry.fault("HEAD", "/manifests/", times=100, status=405)
        client = connect(registry)
        found = [client.head(registry.reference("org/app", tag)) for tag in ("v1", "v1", "none", "v1", "none")]
        assert [head is not None for head in found] == [True, True, False, True, False]
        assert [r.method for r in registry.log("", "/manifests/")] == ["HEAD", "GET"] * 3 + ["GET"] * 2
