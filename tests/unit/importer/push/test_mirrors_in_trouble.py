"""Mirrors that answer 500 for ever, as a whole or in one repository: a push ends soon, and what can arrive arrives.

docker-registry answers 500 UNKNOWN while its storage is out (distribution/distribution#769), and for ever to a damaged file.
"""

from __future__ import annotations

import pytest

from common.archive.reader import Archive
from common.errors import RegistryUnreachableError
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from importer import mapping
from importer.mapping import Mirror
from importer.push import confirmation
from importer.push import push as pushing
from tests.fakes.clock import FakeClock
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

FOREVER = 100_000
# One repository has many layers, and twelve images have one.
LAYERS = [b"layer %d" % number for number in range(14)]
IMAGES = {"big/app": image(LAYERS), **{f"org/app{number:02}": image([b"app %d" % number]) for number in range(12)}}


def created(folder, images):
    with FakeRegistry() as source:
        names = []
        for name, parts in images.items():
            source.add_image(name, parts, tag="v1")
            names += ["--image", f"{source.host}/{name}:v1"]
        done = run("hub-export", "create", *names, "--insecure", source.host, "--output", folder / "out")
        assert done.status == 0, done.stderr
    return Archive.open([folder / "out"])


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    return created(tmp_path_factory.mktemp("trouble"), IMAGES)


@pytest.fixture(name="asked")
def _asked(archive, tmp_path):
    """Call a function with the images and a client of the mirror."""

    def asked(mirror, action, archive=archive):
        images = mapping.map_images(archive.inventory, Mirror.parse(mirror.host))
        settings = RegistrySettings(insecure=frozenset({mirror.host}), environ={"HOME": str(tmp_path)}, system_root=tmp_path)
        with RegistryClient(settings, clock=FakeClock().clock, pushes_to=frozenset({mirror.host})) as client:
            return action(archive, images, client, jobs=1, progress=Silent())

    return asked


def confirmed(archive, images, client, **options):
    return confirmation.confirm([confirmation.Content(archive.inventory, archive.digest, images)], client, **options)


def test_a_mirror_that_fails_for_every_manifest_ends_the_push(asked):
    with FakeRegistry() as mirror:
        mirror.fault("HEAD", "/manifests/", status=500, times=FOREVER)
        with pytest.raises(RegistryUnreachableError, match=r"given up after 8 images in a row: .*HTTP 500") as caught:
            asked(mirror, pushing.push)
        assert caught.value.exit_code == 5
        assert "continues where it stopped" in caught.value.hint
        assert len(mirror.log("HEAD", "/manifests/")) <= 9 * 6
        assert not mirror.log("POST")


def test_a_receipt_ends_in_the_same_way(asked):
    with FakeRegistry() as mirror:
        mirror.fault("HEAD", "/blobs/", status=500, times=FOREVER)
        mirror.fault("GET", "/blobs/", status=500, times=FOREVER)
        with pytest.raises(Exception, match="HTTP 500") as caught:
            asked(mirror, confirmed)
        assert caught.value.exit_code == 5
        assert len({request.path for request in mirror.log("HEAD", "/blobs/")}) <= 9


def test_a_few_images_that_fail_end_nothing(asked):
    with FakeRegistry() as mirror:
        for number in range(0, 12, 2):
            mirror.fault("HEAD", f"/org/app{number:02}/manifests/", status=500, times=FOREVER)
        result = asked(mirror, pushing.push)
        assert result.exit_code == 5
        assert len(result.problems) == 6
        assert "org/app01" in mirror.repositories


@pytest.mark.parametrize("method", ["PUT", *more(["POST"])])
def test_blobs_of_a_repository_that_fails_for_ever_are_one_problem(asked, method):
    """Seven of its blobs: eight in a row would end the run."""
    with FakeRegistry() as mirror:
        for content in LAYERS[:8]:
            mirror.add_blob("big/app", content)
        mirror.fault(method, "/big/app/blobs/", status=500, times=FOREVER)
        result = asked(mirror, pushing.push)
        (problem,) = result.problems
        assert problem.subject == f"{mirror.host}/big/app"
        assert "HTTP 500" in problem.message
        assert "the same for 7 blobs" in problem.message
        assert "needed by" in problem.message
        assert result.exit_code == 5
        assert all(f"org/app{number:02}" in mirror.repositories for number in range(12))
        assert len(mirror.log(method, "/big/app/blobs/")) <= 3 * 6 + 4


@pytest.mark.parametrize("method", ["POST", *more(["PUT"])])
def test_all_blobs_of_one_repository_may_fail(asked, tmp_path, method):
    """Sixty, of which more than eight in a row: that ended the run, and no image of the others arrived."""
    images = {"big/app": image([b"layer %d" % number for number in range(60)]), "org/app": image([b"app"])}
    with FakeRegistry() as mirror:
        mirror.fault(method, "/big/app/blobs/", status=500, times=FOREVER)
        result = asked(mirror, pushing.push, created(tmp_path, images))
        assert {problem.subject for problem in result.problems} == {f"{mirror.host}/big/app"}
        assert result.exit_code == 5
        assert mirror.repositories["org/app"].tags
        assert len(mirror.log(method, "/big/app/blobs/")) <= 3 * 6 + 58


@pytest.mark.parametrize("method", ["PUT", *more(["POST"])])
def test_a_mirror_that_takes_no_blob_at_all_ends_the_push(asked, method):
    with FakeRegistry() as mirror:
        mirror.fault(method, "/blobs/", status=500, times=FOREVER)
        with pytest.raises(RegistryUnreachableError, match=r"given up after \d+ blobs in a row: .*HTTP 500"):
            asked(mirror, pushing.push)


def test_manifests_that_a_mirror_takes_none_of_cost_few_tries(asked):
    """Each image had six tries with their pauses, and an archive may have thousands; the blobs arrive for the next run."""
    with FakeRegistry() as mirror:
        mirror.fault("PUT", "/manifests/", status=500, times=FOREVER)
        result = asked(mirror, pushing.push)
        assert result.exit_code == 5
        assert len(result.problems) == len(IMAGES)
        assert len({request.path.partition("/manifests/")[0] for request in mirror.log("PUT", "/manifests/")}) == 8
        assert len(mirror.log("PUT", "/manifests/")) <= 8 * 6
        assert sum("too many images in a row" in problem.message for problem in result.problems) == len(IMAGES) - 8
        assert len(mirror.repositories["big/app"].blobs) >= len(LAYERS)


def test_manifests_of_one_repository_that_fail_hold_up_no_other(asked):
    with FakeRegistry() as mirror:
        mirror.fault("PUT", "/big/app/manifests/", status=500, times=FOREVER)
        result = asked(mirror, pushing.push)
        assert [problem.subject for problem in result.problems if "big/app" in problem.subject]
        assert len(result.problems) == 1
        assert all(mirror.repositories[f"org/app{number:02}"].tags for number in range(12))


def test_one_blob_that_fails_is_named_by_its_digest(asked):
    """As a file that the registry's storage has lost."""
    with FakeRegistry() as mirror:
        for content in LAYERS:
            mirror.add_blob("big/app", content)
        mirror.fault("POST", "/big/app/blobs/", status=500, times=FOREVER)
        (problem,) = asked(mirror, pushing.push).problems
        assert problem.subject.startswith("sha256:")
