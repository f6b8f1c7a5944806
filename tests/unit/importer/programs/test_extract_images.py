"""Which image and layer a program is taken from, in archives that lack some of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from common.archive.inventory import BlobRecord, Inventory, ManifestRecord
from common.errors import ArchiveIncompleteError, ExitCode, ImageFileError, UsageError
from common.oci.image import Digest, digest_of, parse
from importer.mapping import Mirror
from importer.programs.extract import Wanted, extract
from tests.fakes import factories
from tests.fakes.carried_releases import Carried, inventory
from tests.fakes.releases import IMAGE_MARKER, VERSION_MARKER

PROGRAM = b"\x7fELF" + IMAGE_MARKER + VERSION_MARKER
INSTALLER, MAC = "usr/bin/openshift-install", "usr/share/openshift/mac_arm64/openshift-install"
EARLIER = Digest("sha256:" + "e" * 64)


@dataclass
class Stub:
    """An archive in memory, of a release whose components are given."""

    inventory: Inventory
    parts: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def document(self, digest):
        return parse(self.parts[digest], self.types[digest])

    def content(self, digest):
        yield self.parts[digest]

    def is_available(self, digest):
        return self.inventory.blobs[digest].in_ is None


def stub(components, *, version="4.18.3", architecture="amd64", without=(), in_=None, unresolved=()):
    """Return an archive; `without`: documents that it lacks, `in_`: the archive that has the layers."""
    carried = inventory(Carried(version, architecture, components=tuple(components)), graph=False)
    parts: dict[str, bytes] = {}
    types: dict[str, str] = {}
    manifests: dict[Digest, ManifestRecord] = {}
    blobs: dict[Digest, BlobRecord] = {}

    def add(one):
        for child in one.manifests if isinstance(one, factories.IndexParts) else ():
            add(child)
        parts[one.digest], types[one.digest] = one.raw, one.media_type
        if one.digest not in without:
            manifests[one.digest] = ManifestRecord(media_type=one.media_type, size=len(one.raw))
        for digest, content in one.blobs.items():
            parts[digest] = content
            blobs[digest] = BlobRecord(len(content), "", **({"in_": in_} if in_ else {}))

    images = list(carried.images)
    for name, image in components.items():
        source = next(each.source for each in carried.carried_releases[0].components if each.name == name)
        add(image)
        digest = None if name in unresolved else image.digest
        images = [replaced(each, digest=digest) if each.source == source else each for each in images]
    return Stub(replaced(carried, images=tuple(images), manifests=manifests, blobs=blobs), parts, types)


def replaced(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def of(*layers, platform="linux/amd64"):
    return factories.image(layers, platform=platform)


def taken(archive, folder, *earlier, command="openshift-install", **wanted):
    return extract(cast("Any", archive), Wanted(command, **wanted), folder, cast("Any", earlier))


def test_a_program_is_found_through_links_and_lists_of_lists(tmp_path):
    amd, arm = (of({INSTALLER: name + PROGRAM}, platform=f"linux/{name.decode()}") for name in (b"amd64", b"arm64"))
    archive = stub({"installer": factories.index([factories.index([amd, arm]), amd])}, architecture="multi")
    assert taken(archive, tmp_path, architecture="amd64").size == len(b"amd64" + PROGRAM)
    # The list has an entry without a platform, which is never chosen.
    with pytest.raises(ArchiveIncompleteError, match="for arm64"):
        taken(archive, tmp_path, architecture="arm64")


def test_a_program_for_a_mac_of_its_own_processors_has_to_be_signed_again(tmp_path):
    """oc does so (pkg/cli/admin/internal/codesign); such a Mac ends a program whose signature does not match."""
    archive = stub({"installer-artifacts": of({MAC: PROGRAM, "usr/share/openshift/mac/openshift-install": PROGRAM})})
    done = taken(archive, tmp_path, architecture="arm64", system="mac")
    assert "codesign --force --sign - openshift-install" in done.notes[0]
    assert taken(archive, tmp_path, architecture="amd64", system="mac").notes == ()


def test_an_installer_without_a_place_for_the_release_is_a_problem(tmp_path):
    """oc warns; but such an installer installs another release, which must not go unnoticed."""
    done = taken(stub({"installer": of({INSTALLER: VERSION_MARKER + b"built by a developer"})}), tmp_path)
    assert done.exit_code is ExitCode.PROBLEMS
    assert [(each.severity, each.code) for each in done.problems] == [("error", "program-unmarked")]
    assert "4.18.3\0" in done.path.read_bytes().decode()
    assert digest_of(done.path.read_bytes()) == done.digest != done.original


@pytest.mark.parametrize(
    ("archive", "error", "why"),
    [
        (lambda: stub({"cli": of({"usr/bin/oc": PROGRAM})}), UsageError, "the release has no installer of OpenShift 4.18.3"),
        (lambda: stub({"installer": of()}, unresolved=("installer",)), ArchiveIncompleteError, "could not be fetched"),
        (
            lambda: stub({"installer": of()}, without=(of().digest,)),
            ArchiveIncompleteError,
            "does not have its image for amd64",
        ),
        (lambda: stub({"installer": of({"usr/bin/other": b""})}), ImageFileError, "has no file /usr/bin/openshift-install"),
        (
            lambda: stub({"installer": of({INSTALLER: PROGRAM})}, in_=EARLIER),
            ArchiveIncompleteError,
            "earlier archive sha256:eee",
        ),
    ],
)
def test_what_an_archive_lacks_is_named(tmp_path, archive, error, why):
    with pytest.raises(error, match=why):
        taken(archive(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_layers_come_from_the_archive_that_has_them(tmp_path):
    image = of({"etc/base": b"base"}, {INSTALLER: PROGRAM})
    later, first = stub({"installer": image}, in_=EARLIER), stub({"installer": image}, version="4.18.2")
    mirror = Mirror.parse("m.example")
    done = taken(later, tmp_path, first, mirror=mirror)
    assert done.release.version == "4.18.3"
    # A foreign layer (OCI image specification, layer.md, *Non-Distributable Layers*) is in no archive.
    foreign = stub({"installer": image})
    foreign.inventory = replaced(foreign.inventory, blobs={})
    with pytest.raises(ArchiveIncompleteError, match="is in no archive"):
        taken(foreign, tmp_path / "other", mirror=mirror)
