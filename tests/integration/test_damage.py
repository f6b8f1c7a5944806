"""Single bits flipped and files cut short, anywhere in an archive: each is detected, and nothing that the inventory does not list reaches a registry."""

from __future__ import annotations

import random
import shutil

import pytest

from common.archive.reader import Archive
from common.errors import HubError, UsageError
from common.oci.image import digest_of
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from importer import mapping
from importer.archive.verify import verify
from importer.mapping import Mirror
from importer.push import push
from tests.fakes.archives import Content, noise, write
from tests.fakes.registry import FakeRegistry
from tests.samples import more

TRIES = 2000
CONTENT = Content(
    {
        "registry.test/one:v1": [noise("one", 3000), noise("shared", 1500)],
        "registry.test/two:v1": [noise("two", 300_000), noise("shared", 1500)],
    },
    volume_size=420_000,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "whole"
    write(folder, CONTENT)
    assert len(list(folder.glob("volume-*"))) > 1
    assert verify(Archive.open([folder])).ok
    return folder


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """Return content with one bit flipped, or cut short."""
    if chance.random() < 0.3:
        return raw[: chance.randrange(len(raw))]
    position = chance.randrange(len(raw))
    return raw[:position] + bytes([raw[position] ^ 1 << chance.randrange(8)]) + raw[position + 1 :]


def detected(folder) -> bool:
    try:
        return not verify(Archive.open([folder])).ok
    except UsageError:
        raise
    except HubError:
        return True


@pytest.mark.parametrize("part", [0, *more(range(1, 8))])
def test_every_damage_is_detected(whole, tmp_path, part):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    files = sorted(folder.iterdir())
    sizes = [path.stat().st_size for path in files]
    missed = []
    for seed in range(part, TRIES, 8):
        chance = random.Random(seed)
        # As often by size as by file: damage falls anywhere, and the small files matter as much as the volumes.
        path = chance.choices(files, sizes)[0] if seed % 2 else chance.choice(files)
        raw = path.read_bytes()
        path.write_bytes(damaged(raw, chance))
        if not detected(folder):
            missed.append((seed, path.name))
        path.write_bytes(raw)
    assert missed == []
    assert verify(Archive.open([folder])).ok, "the repaired archive is whole"


@pytest.mark.integration
@pytest.mark.parametrize("part", [0, *more([1, 2])])
def test_content_that_the_inventory_does_not_list_is_never_pushed(whole, tmp_path, part):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    inventory = Archive.open([whole]).inventory
    files = sorted(folder.iterdir())
    pushed = 0
    for seed in range(part, 120, 3):
        chance = random.Random(seed)
        path = chance.choice(files)
        raw = path.read_bytes()
        path.write_bytes(damaged(raw, chance))
        with FakeRegistry() as registry:
            settings = RegistrySettings(insecure=frozenset({registry.host}))
            try:
                archive = Archive.open([folder])
                images = mapping.map_images(archive.inventory, Mirror.parse(registry.host))
                with RegistryClient(settings) as client:
                    push.push(archive, images, client, jobs=2, progress=Silent())
                pushed += 1
            except HubError:
                pass
            for repository in registry.repositories.values():
                for digest, content in repository.blobs.items():
                    assert digest in inventory.blobs
                    assert digest_of(content) == digest
                assert set(repository.manifests) <= set(inventory.manifests)
                assert all(digest_of(raw_manifest) == digest for digest, (_, raw_manifest) in repository.manifests.items())
        path.write_bytes(raw)
    assert pushed > 6, "much of a damaged archive can still be brought"


@pytest.mark.integration
def test_a_push_names_once_what_needs_a_damaged_blob(whole, tmp_path):
    """The error of the archive says it, with the operators; the push added the names of the images."""
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    archive = Archive.open([folder])
    piece = archive.inventory.blobs[digest_of(noise("two", 300_000))].pieces[0]
    with (folder / archive.inventory.volumes[piece.volume - 1].name).open("r+b") as file:
        file.seek(piece.offset + 1000)
        file.write(bytes(10))
    with FakeRegistry() as registry:
        images = mapping.map_images(archive.inventory, Mirror.parse(registry.host))
        with RegistryClient(RegistrySettings(insecure=frozenset({registry.host}))) as client:
            done = push.push(archive, images, client, jobs=2, progress=Silent())
    (problem,) = done.problems
    assert problem.message.lower().count("needed by ") == 1
    assert "Needed by catalog/package/two. Copy the volume again" in problem.message
