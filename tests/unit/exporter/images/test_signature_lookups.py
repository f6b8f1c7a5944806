"""How signatures are looked up: by the tag list of a repository where that is complete, else tag by tag. Nothing is lost."""

from __future__ import annotations

import gzip
import json

import pytest

from common.archive.inventory import ImageKind
from common.errors import RegistryRefusedError
from common.oci.image import Tree, hex_of, parse
from common.oci.reference import Reference
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.referrers import fallback_tag
from common.registry.settings import RegistrySettings
from exporter.images import signatures
from exporter.images.resolve import ResolvedImage, WantedImage, resolve
from tests.fakes.clock import FakeClock
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more

MANY = 20  # images of one repository
IMAGES = [image([f"app {number}".encode()]) for number in range(MANY)]
# Of one image each, none of which is among the images that are asked for tag by tag.
SIGNATURE, ATTESTATION, SBOM = (image([kind]) for kind in (b"signature", b"attestation", b"sbom"))
REFERRER = image([b"referrer"], subject=IMAGES[9].descriptor, artifact_type="application/spdx+json")
DEEPER = image([b"of the referrer"], subject=REFERRER.descriptor, artifact_type="application/vnd.cncf.notary.signature")
EVERYTHING = {each.digest for each in (SIGNATURE, ATTESTATION, SBOM, REFERRER, DEEPER)}


def fill(registry):
    for number, app in enumerate(IMAGES):
        registry.add_image("org/app", app, f"v{number:02}")
    for app, suffix, artifact in ((4, "sig", SIGNATURE), (4, "att", ATTESTATION), (5, "sbom", SBOM)):
        registry.add_image("org/app", artifact, f"sha256-{hex_of(IMAGES[app].digest)}.{suffix}")
    for artifact, subject in ((REFERRER, IMAGES[9]), (DEEPER, REFERRER)):
        listed = index([artifact])
        registry.add_image("org/app", artifact)
        if not registry.referrers:
            registry.add_manifest("org/app", listed.raw, listed.media_type, fallback_tag(subject.digest))


@pytest.fixture
def found(tmp_path):
    """Return what is found for all images of a registry, by digest; the requests of the lookups alone are in its log."""

    def find(registry, images=IMAGES, repositories=("org/app",), clock=None, **settings):
        hosts = RegistrySettings(
            insecure=frozenset({registry.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path, **settings
        )
        with RegistryClient(hosts, clock=(clock or FakeClock()).clock) as client:
            names = [Reference(registry.host, each).pinned(app.digest) for each in repositories for app in images]
            wanted = [WantedImage(name, ImageKind.ADDITIONAL) for name in names]
            resolved = resolve(wanted, client, jobs=4, progress=Silent())
            assert all(each.problem is None for each in resolved)
            registry.requests.clear()
            attached, problems = signatures.find(resolved, client, jobs=4, progress=Silent())
            assert not problems
            return {each.tree.root.digest for each in attached}

    return find


def asked(registry):
    """Return how often each kind of question was asked: lists, tags, and the API."""
    return {
        what: len(registry.log("GET", part))
        for what, part in (("lists", "/tags/"), ("tags", "/manifests/sha256-"), ("api", "/referrers/"))
    }


@pytest.mark.parametrize("api", [True, False])
def test_a_repository_is_asked_for_its_tags_once(found, api):
    with FakeRegistry(referrers=api, page=1000) as registry:
        fill(registry)
        assert found(registry) == EVERYTHING
        count = asked(registry)
    # Three tags are there, and two images are asked for tag by tag in any case. Without the API, a list is there for one image,
    # and is asked for of these two and of the two artifacts that are found by such lists.
    assert count["lists"] == 1
    assert count["tags"] == 3 + 2 * 3 + (0 if api else 1 + 2 + 2)
    assert count["api"] <= (MANY + 2 if api else 4)


REFUSALS = [
    (401, b"{}"),
    (404, b"<title>no such page</title>"),
    *more([(405, b""), (200, b"<title>Sign in</title>"), (403, b"{}"), (400, b""), (500, b""), (503, b""), (501, b"")]),
]


@pytest.mark.parametrize("api", [True, *more([False])])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_registry_without_lists_of_tags_is_asked_tag_by_tag(found, api, refusal):
    status, body = refusal
    with FakeRegistry(referrers=api) as registry:
        fill(registry)
        registry.fault("GET", "/tags/", times=1000, status=status, body=body)
        assert found(registry) == EVERYTHING
        assert asked(registry)["tags"] >= 3 * MANY


def test_a_registry_that_refuses_lists_is_asked_for_one_by_each_thread_at_most(found):
    with FakeRegistry() as registry:
        names = [f"org/app-{number}" for number in range(12)]
        for name in names:
            for app in IMAGES[:2]:
                registry.add_image(name, app, app.digest[-8:])
        registry.fault("GET", "/tags/", times=1000, status=405)
        assert found(registry, IMAGES[:2], names) == set()
        assert asked(registry)["lists"] <= 4


@pytest.mark.parametrize("pause_s", [30, *more([1])])
def test_a_registry_that_limits_lists_is_asked_tag_by_tag_after_its_pause(found, pause_s):
    """Pauses that a host asks for are no part of its outage. Of the ten seconds of a list they are: the tags need none."""
    clock = FakeClock()
    with FakeRegistry() as registry:
        fill(registry)
        registry.fault("GET", "/tags/", times=1000, status=429, headers={"Retry-After": str(pause_s)})
        assert found(registry, clock=clock) == EVERYTHING
        assert asked(registry)["tags"] >= 3 * MANY
        assert asked(registry)["lists"] <= max(1, 10 // pause_s)
    assert sum(clock.slept) <= 4 * max(10, pause_s), "each of four threads may wait for the end of the same pause"


def test_a_list_that_lacks_tags_is_not_believed(found):
    """As those of pull-through caches, which list what they have cached, and also give other tags of the registry behind them."""
    with FakeRegistry() as registry:
        fill(registry)
        newest = image([b"signature of the newest"])
        registry.add_image("org/app", newest, f"sha256-{hex_of(IMAGES[-1].digest)}.sig")
        registry.fault("GET", "/tags/", times=1000, status=200, body=b'{"name": "org/app", "tags": ["v1"]}')
        assert found(registry) == {*EVERYTHING, newest.digest}


def test_a_list_that_is_longer_than_the_questions_it_saves_is_not_read_to_its_end(found):
    with FakeRegistry(page=1) as registry:
        fill(registry)
        assert found(registry) == EVERYTHING
        assert asked(registry)["lists"] == MANY, "a page for each image; there are four more"


def test_a_page_that_is_too_large_is_not_read(found):
    with FakeRegistry() as registry:
        fill(registry)
        tags = b", ".join(b'"%0100d"' % number for number in range(30_000))
        registry.fault("GET", "/tags/", times=1000, status=200, body=b'{"name": "org/app", "tags": [' + tags + b"]}")
        assert found(registry) == EVERYTHING


@pytest.mark.parametrize("what", ["names", *more(["compressed"])])
def test_a_list_that_would_fill_the_memory_is_left(found, what):
    """Names of one manifest without end, and pages that are small only as long as they are compressed."""
    subject = hex_of(IMAGES[0].digest)
    tags = [f"sha256-{subject}.{number:05}" for number in range(16 * MANY + 1)] if what == "names" else ["x" * 2 * 65536 * MANY]
    body = json.dumps({"name": "org/app", "tags": tags}).encode()
    headers = {"Content-Encoding": "gzip"} if what == "compressed" else {}
    with FakeRegistry() as registry:
        fill(registry)
        body = gzip.compress(body) if headers else body
        registry.fault("GET", "/tags/", times=1000, status=200, headers=headers, body=body)
        assert found(registry) == EVERYTHING
        assert asked(registry)["tags"] >= 3 * MANY


def test_a_repository_without_tags_has_no_signature_tags(found):
    """docker-registry answers NAME_UNKNOWN where every image was pushed by digest (distribution/distribution, tagstore.go)."""
    with FakeRegistry() as registry:
        for app in IMAGES:
            registry.add_image("org/app", app)
        registry.fault("GET", "/tags/", times=1, status=404, body=b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
        assert found(registry) == set()
        assert asked(registry) == {"lists": 1, "tags": 2 * 3, "api": MANY}


def test_a_list_that_breaks_off_as_if_nothing_had_a_tag_is_not_an_empty_one(found):
    """A cache that answers the first page, and passes on what a registry says of the next one."""
    with FakeRegistry(page=10) as registry:
        fill(registry)
        registry.fault("GET", "/tags/", times=1, skip=1, status=404, body=b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
        assert found(registry) == EVERYTHING


def test_one_image_of_a_repository_needs_no_list(found):
    with FakeRegistry() as registry:
        fill(registry)
        assert found(registry, IMAGES[4:5]) == {SIGNATURE.digest, ATTESTATION.digest}
        assert asked(registry) == {"lists": 0, "tags": 3, "api": 1}


def test_a_tag_that_is_at_one_of_two_places_is_found(found, tmp_path):
    """A mirror of registries.conf that has only some of it: what its list lacks may be at the registry itself."""
    with FakeRegistry() as registry, FakeRegistry() as mirror:
        fill(registry)
        for number, app in enumerate(IMAGES):
            mirror.add_image("org/app", app, f"v{number:02}")
        path = tmp_path / "registries.conf"
        table = f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
        path.write_text(f'{table}[[registry.mirror]]\nlocation = "{mirror.host}"\ninsecure = true\n')
        assert found(registry, registries_conf=path) >= {SIGNATURE.digest, ATTESTATION.digest, SBOM.digest}
        assert asked(mirror)["lists"] == asked(registry)["lists"] == 1


def looked_up(settings_home, registry):
    """Return what is found for IMAGES, by digest, and the problems."""
    hosts = RegistrySettings(
        insecure=frozenset({registry.host}), environ={"HOME": str(settings_home)}, system_root=settings_home
    )
    with RegistryClient(hosts, clock=FakeClock().clock) as client:
        names = [Reference(registry.host, "org/app").pinned(app.digest) for app in IMAGES]
        resolved = resolve([WantedImage(name, ImageKind.ADDITIONAL) for name in names], client, jobs=4, progress=Silent())
        attached, problems = signatures.find(resolved, client, jobs=4, progress=Silent())
    return {each.tree.root.digest for each in attached}, problems


BAD = 12  # images, more than a registry that is out may fail


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 200, "body": b"{}"},  # no manifest
        *more([{"status": 403}, {"status": 410}, {"status": 200, "body": b"<html>"}]),
    ],
)
def test_signatures_that_cannot_be_read_leave_those_of_other_images(tmp_path, fault):
    """A publisher whose tags are broken says nothing of the next publisher on the same registry."""
    with FakeRegistry() as registry:
        wanted = set()
        for number, app in enumerate(IMAGES):
            registry.add_image("org/app", app, f"v{number:02}")
            signature = image([b"signature %d" % number])
            registry.add_image("org/app", signature, f"sha256-{hex_of(app.digest)}.sig")
            if number < BAD:
                registry.fault("GET", f"{hex_of(app.digest)}.sig", times=100, **fault)
            else:
                wanted.add(signature.digest)
        found, problems = looked_up(tmp_path, registry)
    assert found == wanted
    assert [f"signatures of {BAD} manifests" in each.message for each in problems] == [True]


def test_referrers_that_are_gone_leave_those_of_other_images(tmp_path):
    with FakeRegistry() as registry:
        wanted = set()
        for number, app in enumerate(IMAGES):
            registry.add_image("org/app", app, f"v{number:02}")
            signature = image([b"signature %d" % number], subject=app.descriptor, artifact_type="a/b")
            registry.add_image("org/app", signature)
            if number < BAD:
                registry.fault("GET", f"/manifests/{signature.digest}", times=100, status=404)
            else:
                wanted.add(signature.digest)
        found, problems = looked_up(tmp_path, registry)
    assert found == wanted
    assert [f"signatures of {BAD} manifests" in each.message for each in problems] == [True]


class Host:
    """A registry without signatures that fails to say so of some images. `asked`: lookups."""

    def __init__(self, fails):
        self._fails = fails
        self.asked = 0

    def lacks_tag(self, _tagged):
        return True

    def is_in_doubt(self, _subject):
        return False

    def read_tags(self, _repository, _subjects, _sampled):
        pass

    def referrers(self, subject):
        self.asked += 1
        if self._fails(int(subject.repository.removeprefix("org/app-"))):
            raise RegistryRefusedError(f"{subject}: HTTP 500", status=500)
        return ()


def many(count):
    """Return images in repositories of their own."""
    for number in range(count):
        document = parse(IMAGES[0].raw)
        reference = Reference("quay.test", f"org/app-{number}").pinned(document.digest)
        yield ResolvedImage(WantedImage(reference, ImageKind.RELATED), Tree(document, (document,), ()))


@pytest.mark.parametrize(
    ("fails", "asked", "failed"), [(lambda number: number % 100 == 99, 2000, 20), (lambda _: True, 8, 2000)]
)
def test_failures_here_and_there_end_no_long_run_and_an_outage_does(fails, asked, failed):
    """Each takes all retries: of 25,000 images some fail, and a registry that is out is left after eight."""
    host = Host(fails)
    assert signatures.find(list(many(2000)), host, jobs=1, progress=Silent())[0] == []
    assert host.asked == asked
    (problem,) = signatures.find(list(many(2000)), host, jobs=1, progress=Silent())[1]
    assert f"signatures of {failed} manifests could not be looked up" in problem.message
