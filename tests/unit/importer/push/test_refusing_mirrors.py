"""Pushes to mirrors with rules of their own: what arrives nevertheless, and what the problems say."""

from __future__ import annotations

import json

import pytest

from common.archive.reader import Archive
from common.errors import NotFoundError
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from importer import mapping
from importer.mapping import Mirror
from importer.push import push as pushing
from tests.fakes.clock import FakeClock
from tests.fakes.commands import run
from tests.fakes.factories import image, index
from tests.fakes.registry import FakeRegistry
from tests.samples import more

DOCKER = {f"docker/app{number}": image([b"base", b"docker %d" % number], docker=True) for number in range(16)}
OCI = {"oci/app": image([b"base", b"oci"]), "oci/tool": image([b"tool"])}
MANY = index([image([b"amd"]), image([b"arm"], platform="linux/arm64")])
LIST = index([image([b"amd"], docker=True), image([b"arm"], platform="linux/arm64", docker=True)], docker=True)
# The lists arrive first: of their blobs two repositories have need.
LISTS_FIRST = {
    "many/one": LIST,
    "many/two": LIST,
    **{f"docker/solo{n}": image([b"solo %d" % n], docker=True) for n in range(4)},
}
SIGNATURE = image([b"signed"], subject=OCI["oci/app"].descriptor, artifact_type="application/vnd.example.signature")
ECR = (400, "TAG_INVALID", "The image tag already exists and cannot be overwritten because the repository is immutable.")


@pytest.fixture(name="archives", scope="module")
def _archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusing")
    with FakeRegistry() as source:

        def create(output, images):
            names = []
            for name, parts in images.items():
                source.add_image(name, parts, tag="v1")
                names += ["--image", f"{source.host}/{name}:v1"]
            done = run("hub-export", "create", *names, "--insecure", source.host, "--output", folder / output)
            assert done.status == 0, done.stderr
            return Archive.open([folder / output])

        source.add_image("oci/app", SIGNATURE)
        return {
            "oci": create("oci", {**OCI, "many/image": MANY}),
            "mixed": create("mixed", {**DOCKER, **OCI}),
            "lists": create("lists", LISTS_FIRST),
        }


@pytest.fixture(name="push")
def _push(tmp_path):
    clock = FakeClock()

    def push(archive, mirror, *, ping=False, **options):
        images = mapping.map_images(archive.inventory, Mirror.parse(mirror.host))
        settings = RegistrySettings(insecure=frozenset({mirror.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path)
        place = frozenset({mirror.host})
        with RegistryClient(settings, clock=clock.clock, pushes_to=place) as client:
            if ping:
                client.ping(mirror.host)
            return pushing.push(archive, images, client, jobs=1, progress=Silent(), **options)

    return push


def errors(result):
    return [problem for problem in result.problems if problem.severity == "error"]


def stable(parts):
    return f"hub-sha256-{parts.digest.removeprefix('sha256:')}"


def immutable(mirror):
    mirror.manifest_rule = lambda name, wanted, _kind: ECR if wanted in mirror.repositories[name].tags else None


# Immutable tags (aws/containers-roadmap#2179, #2380; moby/buildkit#3776).


@pytest.mark.parametrize("heal", [False, *more([True])])
def test_a_push_after_one_that_broke_between_two_tags(archives, push, heal):
    with FakeRegistry() as mirror:
        immutable(mirror)
        assert push(archives["oci"], mirror).exit_code == 0
        for name, parts in OCI.items():
            del mirror.repositories[name].tags[stable(parts)]
        mirror.requests.clear()
        result = push(archives["oci"], mirror, heal=heal)
        assert (result.exit_code, result.problems) == (0, ())
        for name, parts in OCI.items():
            assert {"v1", stable(parts)} <= set(mirror.repositories[name].tags)
        if not heal:
            assert not mirror.log("PUT", "/manifests/v1"), "it is right already"
        else:
            put = {request.path.rpartition("/")[2] for request in mirror.log("PUT", "/oci/app/manifests/")}
            assert OCI["oci/app"].digest in put, "written by digest where the tag may not be written again"


def test_another_tool_wrote_the_first_tag(archives, push):
    with FakeRegistry() as mirror:
        immutable(mirror)
        for name, parts in OCI.items():
            mirror.add_image(name, parts, tag="v1")
        assert push(archives["oci"], mirror).exit_code == 0
        assert stable(OCI["oci/app"]) in mirror.repositories["oci/app"].tags


def test_a_tag_that_may_not_move_is_one_problem_and_the_others_are_written(archives, push):
    """A catalog's tag moves every week."""
    older = image([b"older"])
    with FakeRegistry() as mirror:
        immutable(mirror)
        mirror.add_image("oci/app", older, tag="v1")
        result = push(archives["oci"], mirror)
        (problem,) = errors(result)
        assert f"{mirror.host}/oci/app:v1" in problem.message
        assert older.digest in problem.message
        assert "Exempt the tag v1" in problem.message
        assert mirror.repositories["oci/app"].tags["v1"] == older.digest
        assert mirror.repositories["oci/app"].tags[stable(OCI["oci/app"])] == OCI["oci/app"].digest
        assert mirror.repositories["oci/tool"].tags["v1"] == OCI["oci/tool"].digest


def test_an_immutable_list_of_referrers_keeps_no_tag_from_a_signature(archives, push):
    with FakeRegistry(referrers=False) as mirror:
        immutable(mirror)
        fallback = f"sha256-{OCI['oci/app'].digest.removeprefix('sha256:')}"
        listed = index([])
        mirror.add_image("oci/app", listed, tag=fallback)
        result = push(archives["oci"], mirror)
        assert result.exit_code == 3
        assert [problem.severity for problem in result.problems] == ["warning"]
        assert "sha256-*" in result.problems[0].message
        assert stable(SIGNATURE) in mirror.repositories["oci/app"].tags


# Storage that is consistent only after seconds (openshift/image-registry#220).


def unseen(code="MANIFEST_BLOB_UNKNOWN"):
    return json.dumps({"errors": [{"code": code, "message": "unknown"}]}).encode()


def test_an_index_waits_for_its_children_and_blobs_are_checked_once(archives, push):
    with FakeRegistry() as mirror:
        mirror.fault("PUT", f"/many/image/manifests/{MANY.manifests[0].digest}", times=4, status=404, body=unseen())
        mirror.fault("PUT", "/many/image/manifests/v1", times=3, status=400, body=unseen("MANIFEST_UNKNOWN"))
        assert push(archives["oci"], mirror).exit_code == 0
        for digest in MANY.manifests[0].blobs:
            asked = mirror.log("HEAD", f"/many/image/blobs/{digest}")
            assert len(asked) == 3, "before it was sent, after, and once when the manifest was refused"


def test_a_blob_that_is_really_missing_is_an_error(archives, push):
    with FakeRegistry() as mirror:
        mirror.fault("PUT", "/oci/tool/manifests/", times=99, status=404, body=unseen())
        (problem,) = errors(push(archives["oci"], mirror))
        assert "MANIFEST_BLOB_UNKNOWN" in problem.message
        assert len(mirror.log("PUT", "/oci/tool/manifests/")) > 3
        assert "v1" in mirror.repositories["oci/app"].tags


# Media types (project-zot/zot#2234, #724, #3104; quay/quay, `_reject_manifest2_schema2`).


def test_a_mirror_of_oci_types_alone_says_so_once_and_gets_no_further_blobs(archives, push):
    with FakeRegistry() as mirror:
        mirror.manifest_rule = lambda _name, _wanted, kind: (415, "MANIFEST_INVALID", kind) if "docker" in kind else None
        result = push(archives["mixed"], mirror)
        (problem,) = errors(result)
        assert problem.subject == mirror.host
        assert "16 images" in problem.message
        assert "docker2s2" in problem.message
        assert all(mirror.repositories[name].tags["v1"] == parts.digest for name, parts in OCI.items())
        assert len(mirror.log("PUT", "/manifests/v1")) < 8, "one was refused; the others are not tried"
        reached = {name for name in DOCKER if len(mirror.repositories[name].blobs) == 3}
        assert len(reached) < 12, "blobs of the rest stay here"


def test_an_index_whose_type_is_refused_stands_alone_for_its_manifests_were_taken(archives, push):
    """Harbor 1.8 takes images and no list of them: 415 (goharbor/harbor#8855)."""
    with FakeRegistry() as mirror:
        mirror.manifest_rule = lambda _name, _wanted, kind: (415, "MANIFEST_INVALID", kind) if ".list." in kind else None
        first, second = errors(push(archives["lists"], mirror))
        assert {"many/one" in first.subject, "many/two" in first.subject} == {True, False}
        assert "OCI types only" not in first.message + second.message
        assert all(mirror.repositories[f"docker/solo{n}"].tags["v1"] for n in range(4)), "plain images arrive"


def test_a_mirror_of_docker_types_alone(archives, push):
    with FakeRegistry() as mirror:
        mirror.manifest_rule = lambda _name, _wanted, kind: (415, "MANIFEST_INVALID", "") if "oci" in kind else None
        (problem,) = errors(push(archives["mixed"], mirror))
        assert "FEATURE_GENERAL_OCI_SUPPORT" in problem.message
        assert all(mirror.repositories[name].tags["v1"] == parts.digest for name, parts in DOCKER.items())


def test_one_image_that_is_refused_after_others_of_its_type_stands_alone(archives, push):
    names = []
    with FakeRegistry() as mirror:

        def rule(name, _wanted, kind):
            if "docker" in kind and name not in names:
                names.append(name)
            return (415, "MANIFEST_INVALID", "") if name in names[1:2] else None

        mirror.manifest_rule = rule
        (problem,) = errors(push(archives["mixed"], mirror))
        assert names[1] in problem.subject
        assert [name for name in DOCKER if "v1" not in mirror.repositories[name].tags] == names[1:2]


def test_one_image_that_is_refused_first_keeps_no_other_from_the_mirror(archives, push):
    names = []
    with FakeRegistry() as mirror:

        def rule(name, _wanted, kind):
            if "docker" in kind:
                names.append(name)
            return (400, "MANIFEST_INVALID", f"config of {kind} is not valid") if name in names[:1] else None

        mirror.manifest_rule = rule
        (problem,) = errors(push(archives["mixed"], mirror))
        assert names[0] in problem.subject
        assert [name for name in DOCKER if "v1" not in mirror.repositories[name].tags] == names[:1]


def test_a_second_image_shows_that_400_is_about_the_type(archives, push):
    with FakeRegistry() as mirror:
        mirror.manifest_rule = lambda _name, _wanted, kind: (400, "MANIFEST_INVALID", kind) if "docker" in kind else None
        (problem,) = errors(push(archives["mixed"], mirror))
        assert problem.subject == mirror.host
        assert "16 images" in problem.message
        assert len(mirror.log("PUT", "/manifests/v1")) < 8 + 1


def test_a_mirror_that_refuses_signatures_gets_the_images(archives, push):
    with FakeRegistry() as mirror:
        mirror.manifest_rule = lambda _name, wanted, _kind: (
            (415, "MANIFEST_INVALID", "") if wanted in (SIGNATURE.digest, stable(SIGNATURE)) else None
        )
        result = push(archives["oci"], mirror)
        assert not errors(result)
        assert len(result.problems) == 1
        assert all("v1" in mirror.repositories[name].tags for name in OCI)


# Repositories that take nothing.


def body(code, text=""):
    return json.dumps({"errors": [{"code": code, "message": text}]}).encode()


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "NOT_FOUND"])
def test_repositories_to_be_created_first_are_one_list(archives, push, code):
    """ECR (moby/moby#24473), Harbor (goharbor/harbor#13795)."""
    with FakeRegistry() as mirror:
        mirror.fault("POST", "/oci/", times=999, status=404, body=body(code, "does not exist"))
        mirror.fault("POST", "/docker/app1", times=999, status=404, body=body(code, "does not exist"))
        (problem,) = errors(push(archives["mixed"], mirror))
        wanted = [*OCI, *(name for name in DOCKER if name.startswith("docker/app1"))]
        assert all(f"{mirror.host}/{name}" in problem.message for name in wanted)
        assert f"{len(wanted)} repositories" in problem.message
        assert "first (ECR: each repository; Harbor" in problem.message
        assert "may not read" not in problem.message
        assert "v1" in mirror.repositories["docker/app2"].tags
        for name in wanted:
            opened = [request for request in mirror.log("POST", f"/v2/{name}/blobs/") if "mount" not in request.query]
            assert len(opened) == 1, "a repository that does not exist is not asked for every blob"


@pytest.mark.parametrize("status", [405])
def test_a_pull_through_cache_is_said_once_for_each_namespace(archives, push, status):
    """docker-registry with `proxy.remoteurl`; a proxy project of Harbor (goharbor/harbor#12731)."""
    with FakeRegistry() as mirror:
        mirror.fault("POST", "/blobs/uploads/", times=999, status=status, body=body("UNSUPPORTED"))
        found = errors(push(archives["mixed"], mirror))
        assert [problem.subject for problem in found] == [f"{mirror.host}/docker", f"{mirror.host}/oci"]
        assert all("pull-through cache" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "CONFLICT"), *(pytest.param(*each, marks=pytest.mark.more) for each in [(400, ""), (412, "DENIED")])],
)
def test_a_repository_that_opens_no_upload_is_one_problem(archives, push, status, code):
    """Rules of a project or a proxy, before any byte of a blob is sent (goharbor/harbor#13795 has 412 and 409)."""
    with FakeRegistry() as mirror:
        mirror.fault("POST", "/docker/app1/", times=999, status=status, body=body(code, "a rule"))
        mirror.fault("POST", "/oci/app/", times=999, status=status, body=body(code, "a rule"))
        found = errors(push(archives["mixed"], mirror))
        assert sorted(problem.subject for problem in found) == [f"{mirror.host}/docker/app1", f"{mirror.host}/oci/app"]
        assert all("blobs; needed by" in problem.message for problem in found), [problem.message for problem in found]
        assert all(f"HTTP {status}" in problem.message for problem in found)
        assert "v1" in mirror.repositories["docker/app2"].tags


@pytest.mark.parametrize("method", ["POST", *more(["PUT"])])
def test_no_space_is_one_problem_of_the_registry(archives, push, method):
    with FakeRegistry() as mirror:
        mirror.fault(method, "/blobs/uploads/", times=9999, status=507)
        (problem,) = errors(push(archives["mixed"], mirror))
        assert problem.subject == mirror.host
        assert "no space left" in problem.message
        assert "blobs; needed by" in problem.message


def test_no_space_for_manifests_is_one_problem_of_the_registry(archives, push):
    with FakeRegistry() as mirror:
        mirror.fault("PUT", "/manifests/", times=9999, status=507)
        (problem,) = errors(push(archives["mixed"], mirror))
        assert problem.subject == mirror.host
        assert "19 images" in problem.message


def test_a_quota_that_ends_uploads_is_one_problem_of_its_repository(archives, push):
    """Harbor counts at the closing PUT (goharbor/harbor, src/server/middleware/quota)."""
    with FakeRegistry() as mirror:
        mirror.fault("PUT", "/oci/app/blobs/uploads/", times=999, status=412, body=body("DENIED", "quota"))
        mirror.mounts = False
        (problem,) = errors(push(archives["oci"], mirror))
        assert problem.subject == f"{mirror.host}/oci/app"


def test_a_repository_whose_connections_break_keeps_no_other_image_from_the_mirror(archives, push):
    with FakeRegistry() as mirror:
        mirror.fault("HEAD", "/docker/app3/blobs/", times=99_999, drop=True)
        found = errors(push(archives["mixed"], mirror, ping=True))
        assert all("docker/app3" in problem.message for problem in found)
        assert [name for name in (*DOCKER, *OCI) if "v1" not in mirror.repositories[name].tags] == ["docker/app3"]


# Content that cannot be read back.


@pytest.mark.parametrize("heal", [True, *more([False])])
def test_storage_that_does_not_give_what_arrived_is_one_warning(archives, push, heal):
    """S3 says 403 of a lost object, where the account may not list the bucket (docs.aws.amazon.com, GetObject)."""
    with FakeRegistry() as mirror:
        if heal:
            assert push(archives["mixed"], mirror).exit_code == 0
        mirror.redirect = True
        there = {"Location": f"http://{mirror.elsewhere_host}/lost"}
        for method in ("HEAD", "GET"):
            mirror.fault(method, "/blobs/sha256:", times=9999, status=307, headers=there)
            mirror.fault(method, "/lost", times=9999, status=403)
        result = push(archives["mixed"], mirror, heal=heal)
        assert result.exit_code == 3
        (problem,) = result.problems
        assert (problem.severity, problem.subject) == ("warning", mirror.host)
        assert f"blobs at {mirror.elsewhere_host} cannot be read" in problem.message


def test_storage_that_gives_blobs_to_get_alone_is_no_warning(archives, push):
    """URLs that are signed for one method (distribution/distribution#1217); at first the blobs are lost to both."""
    with FakeRegistry() as mirror:
        there = {"Location": f"http://{mirror.elsewhere_host}/lost"}
        mirror.fault("HEAD", "/blobs/sha256:", times=9999, status=307, headers=there)
        mirror.fault("HEAD", "/lost", times=9999, status=403)
        mirror.fault("GET", "/blobs/sha256:", times=1, status=307, headers=there)
        mirror.fault("GET", "/lost", times=1, status=403)
        result = push(archives["oci"], mirror)
        assert (result.exit_code, result.problems) == (0, ())


def test_a_registry_that_says_401_to_head_of_manifests_alone_is_asked_with_get(archives, push):
    """As ECR Public says to HEAD of blobs (aws/containers-roadmap#2671)."""
    with FakeRegistry() as mirror:
        mirror.fault("HEAD", "/manifests/", times=9999, status=401)
        assert push(archives["oci"], mirror).exit_code == 0
        mirror.requests.clear()
        again = push(archives["oci"], mirror)
        assert (again.exit_code, again.images_present) == (0, again.images)
        assert mirror.log("PUT") == mirror.log("HEAD", "/blobs/") == []


def test_a_mirror_that_takes_manifests_and_shows_none_is_said_once(archives, push, caplog):
    """An account that may push and not pull."""
    with FakeRegistry() as mirror:
        for method in ("HEAD", "GET"):
            mirror.fault(method, "/manifests/", times=9999, status=401)
        for _ in range(2):
            caplog.clear()
            assert push(archives["oci"], mirror).exit_code == 0
            said = [each.getMessage() for each in caplog.records if "writes every manifest again" in each.getMessage()]
            assert len(said) == 1
            assert "HTTP 401" in said[0]
        assert len(mirror.log("GET", "/manifests/")) <= 2 * 3, "a host where GET does not help is asked with HEAD alone"


# `/v2/` itself.


@pytest.mark.parametrize(("status", "answer"), [(403, b""), (404, body("UNSUPPORTED"))])
def test_a_base_path_that_is_closed_is_left_to_the_repositories(archives, push, status, answer):
    """A proxy that lets only the paths of repositories through."""
    with FakeRegistry() as mirror:
        closed = mirror.fault("GET", "/v2/", times=2, status=status, body=answer)  # of --insecure, and ours
        assert push(archives["oci"], mirror, ping=True).exit_code == 0
        assert closed.times == 0


def test_a_page_is_no_registry(archives, push):
    with FakeRegistry() as mirror:
        mirror.fault("GET", "/v2/", times=9, status=404, body=b"<html>404 Not Found</html>")
        with pytest.raises(NotFoundError, match="HTTP 404") as caught:
            push(archives["oci"], mirror, ping=True)
        assert "does not speak the registry protocol" in caught.value.hint
