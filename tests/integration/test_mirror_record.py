"""The mirror's record (ADR 0080): a push leaves the inventory in the mirror, and a machine without an archive finds it there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from common.archive import receipt as receipts
from common.archive.frames import Packed
from common.archive.signature import Algorithm, Signer, Verifier, make_keys
from common.archive.volume import entry_header
from common.errors import ContentError, ExitCode, RegistryError
from common.oci import media_types
from common.oci.compression import gzip
from common.oci.image import digest_of
from common.progress import Silent
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings
from importer import workflow
from importer.mapping import Mirror
from importer.records import document
from importer.records.document import head_of
from importer.records.listing import remembered
from importer.records.store import RecordStore
from importer.settings import ImportSettings
from tests.fakes.archives import Content, noise, written
from tests.fakes.clock import FakeClock
from tests.fakes.commands import run
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_profile import MANIFESTS, Profile, Refusal
from tests.fakes.registry_profiles_closed import GITLAB
from tests.samples import more

NOW = "2026-11-30T12:00:00Z"
IMAGES = {"quay.io/org/app:v1": [noise("base", 900), noise("app", 900)], "quay.io/deep/down/other:v2": [noise("base", 900)]}
REPOSITORY = "ocp/hub-airgap-archives"


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    return written(tmp_path_factory.mktemp("record"), Content(IMAGES))


class Site:
    """A mirror, and the settings of commands for it."""

    def __init__(self, registry, folder, prefix="ocp", **paths):
        self.registry, self.folder = registry, folder
        self.mirror = Mirror.parse(f"{registry.host}/{prefix}", **paths)

        self.settings = RegistrySettings(insecure=frozenset({registry.host}), environ={"HOME": str(folder)}, system_root=folder)

    def push(self, archive, **options):
        return workflow.push(archive, ImportSettings(self.mirror, self.settings, **options), Silent())

    def receipt(self, archive=None, key=None, name="receipt.json"):
        file = self.folder / name
        settings = ImportSettings(self.mirror, self.settings)
        workflow.receipt(archive, settings, Silent(), file=file, signer=None, redact=False, key=key)
        return receipts.load(file)[1]

    def store(self, key=None):
        return RecordStore(RegistryClient(self.settings, clock=FakeClock().clock), self.mirror, key)

    def records(self, key=None):
        store = self.store(key)
        return list(store.records()), store.unusable

    @property
    def stored(self):
        return self.registry.repositories[REPOSITORY]


def test_a_push_leaves_the_inventory_in_the_mirror(archive, tmp_path):
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        result = site.push(archive)
        (found,), unusable = site.records()
        assert not unusable
        assert (found.packed, found.digest) == (archive.found.packed, archive.digest)
        assert result.record == f"{registry.host}/{REPOSITORY}:archive-{archive.digest.removeprefix('sha256:')}"
        (one,) = remembered(str(site.mirror), site.settings).archives
        assert (one.digest, one.images, one.pruned) == (archive.digest, 2, "")
        kind, raw = site.stored.manifests[site.stored.tags[found.head.tag]]
        manifest = json.loads(raw)
        assert kind == media_types.OCI_MANIFEST
        assert manifest["artifactType"] == document.ARTIFACT_TYPE
        assert manifest["config"]["mediaType"] == media_types.OCI_EMPTY


def test_another_machine_makes_the_receipt_without_the_archive(archive, tmp_path):
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        with_it = site.receipt(archive)
        registry.requests.clear()
        assert site.receipt(name="from-record.json") == with_it
        assert with_it.inventories == (archive.digest,)
        assert {each.method for each in registry.log()} == {"GET", "HEAD"}
        # What is lost since is not confirmed: the record says what to ask for, the blobs say what is there.
        repository = registry.repositories["ocp/org/app"]
        lost = next(digest for digest in repository.blobs if digest not in registry.repositories["ocp/deep/down/other"].blobs)
        del repository.blobs[lost]
        later = site.receipt(name="later.json")
        assert later.inventories == ()
        assert lost not in later.blobs


def test_a_second_push_asks_for_the_record_once(archive, tmp_path):
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        registry.requests.clear()
        assert site.push(archive).record
        assert [each.method for each in registry.log("", REPOSITORY)] == ["HEAD"]


REFUSING = {
    "types of artifacts by a list": replace(GITLAB.profile, auth=None, must_exist="", depth=None),
    # oras-project/oras#738: 400 for a config that is no image's
    "configs by a list": Profile(config_types=frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})),
    # quay/quay, endpoints/v2/manifest.py, without FEATURE_GENERAL_OCI_SUPPORT
    "Docker alone": Profile(
        media_types=frozenset({media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST}),
        wrong_type=Refusal(415, "MANIFEST_INVALID", "manifest schema version not supported"),
    ),
}


@pytest.mark.parametrize("what", REFUSING)
def test_a_registry_that_refuses_artifacts_gets_a_plain_image(archive, tmp_path, what):
    with FakeRegistry(profile=REFUSING[what]) as registry:
        site = Site(registry, tmp_path)
        store = RecordStore(
            RegistryClient(site.settings, clock=FakeClock().clock, pushes_to=frozenset({str(site.mirror)})), site.mirror
        )
        store.write(head_of(archive.digest, site.mirror, NOW), archive.inventory.created, archive.found.packed)
        (found,), _ = site.records()
        assert found.packed == archive.found.packed
        ((kind, raw),) = site.stored.manifests.values()
        manifest = json.loads(raw)
        docker = what == "Docker alone"
        assert kind == (media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST)
        assert kind in MANIFESTS
        assert manifest["config"]["mediaType"] in media_types.IMAGE_CONFIGS
        config = json.loads(site.stored.blobs[manifest["config"]["digest"]])
        assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 1


def refuse_record(status, code):
    return lambda name, *_: (status, code, "not here") if name == REPOSITORY else None


@pytest.mark.parametrize("refusal", [(403, "DENIED"), (413, "SIZE_INVALID")])
def test_a_record_that_is_refused_is_a_warning(archive, tmp_path, refusal):
    """A missing right, a quota: the archive has arrived, and the push is not a failure."""
    with FakeRegistry() as registry:
        registry.manifest_rule = refuse_record(*refusal)
        site = Site(registry, tmp_path)
        result = site.push(archive)
        assert (result.exit_code, result.record) == (ExitCode.DONE, None)
        (problem,) = result.problems
        assert (problem.severity, problem.code.value) == ("warning", "record-not-stored")
        assert "--keep ARCHIVE" in problem.message
        assert registry.repositories["ocp/org/app"].tags


def test_a_repository_that_may_not_be_made_is_a_warning(archive, tmp_path):
    with FakeRegistry() as registry:
        registry.fault("POST", f"/{REPOSITORY}/", status=404, times=100)
        result = Site(registry, tmp_path).push(archive)
        assert result.exit_code is ExitCode.DONE
        assert [problem.code.value for problem in result.problems] == ["record-not-stored"]


def test_what_has_not_arrived_has_no_record(archive, tmp_path):
    with FakeRegistry() as registry:
        registry.manifest_rule = lambda name, *_: (403, "DENIED", "no") if name == "ocp/org/app" else None
        result = Site(registry, tmp_path).push(archive)
        assert result.exit_code is ExitCode.REGISTRY
        assert (result.complete, result.record) == (False, None)
        assert REPOSITORY not in registry.repositories


def test_a_shard_leaves_the_record_to_the_push_of_all(archive, tmp_path):
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        assert site.push(archive, volumes=range(1, 2)).record is None
        assert REPOSITORY not in registry.repositories
        assert site.push(archive).record


def test_records_have_the_paths_of_their_push(archive, tmp_path):
    """Two pushes of one archive with other paths are two records, and a receipt asks at the paths of each."""
    with FakeRegistry() as registry:
        flat = Site(registry, tmp_path, max_path_components=2)
        flat.push(archive)
        deep = Site(registry, tmp_path)
        deep.push(archive)
        found, _ = deep.records()
        assert {one.head.max_path_components for one in found} == {None, 2}
        assert len(registry.repositories[REPOSITORY].tags) == 2
        assert "ocp/deep-down-other" in registry.repositories
        assert deep.receipt().inventories == (archive.digest,)


def forged(raw, **changed):
    """Return a layer whose head says what `changed` says."""
    head = head_of(digest_of(raw), Mirror("registry.example"), NOW)
    return document.encode_layer(replace_head(head, **changed), Packed.of(raw)).content


def replace_head(head, **changed):
    fields = {name: getattr(head, name) for name in head.__struct_fields__}
    return document.RecordHead(**{**fields, **changed})


def put(site, tag, layer, *, said=None):
    """Store a manifest with one layer, of which the registry gives `said`."""
    registry = site.registry
    blob = registry.add_blob(REPOSITORY, layer)
    if said is not None:
        site.stored.blobs[blob.digest] = said
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2},
            "layers": [{"mediaType": document.LAYER_TYPE, "digest": blob.digest, "size": blob.size}],
        }
    ).encode()
    registry.add_manifest(REPOSITORY, raw, media_types.OCI_MANIFEST, tag)


def test_what_is_read_back_is_checked(archive, tmp_path):
    """Any account that may push can write there. A record that is not what it says costs itself alone."""
    raw = archive.found.packed.content()
    tag = head_of(archive.digest, Mirror("registry.example"), NOW).tag
    other = digest_of(b"another archive")
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        hostile = {
            f"archive-{'1' * 64}": forged(raw),  # under the tag of another archive
            f"archive-{'2' * 64}": forged(raw, archive=f"sha256:{'2' * 64}"),  # with an inventory that is another one
            f"{tag}.n3": forged(raw, max_path_components=-1),
            f"{tag}.host": forged(raw),  # with paths that it does not state
            f"archive-{'3' * 64}": b"no tar",
            f"archive-{'4' * 64}": forged(raw, tool="x" * 70_000),  # a head that is too large
            f"archive-{'5' * 64}": forged(b"{}"),
        }
        for name, layer in hostile.items():
            put(site, name, layer)
        put(site, f"archive-{other.removeprefix('sha256:')}", forged(raw), said=b"x" * len(forged(raw)))
        registry.add_manifest(REPOSITORY, b'{"schemaVersion":2,"manifests":[]}', media_types.OCI_INDEX, f"archive-{'6' * 64}")
        found, unusable = site.records()
        assert [one.digest for one in found] == [archive.digest]
        assert set(unusable) == {*hostile, f"archive-{'6' * 64}", f"archive-{other.removeprefix('sha256:')}"}


def test_a_record_of_which_the_registry_has_only_a_part_costs_itself_alone(archive, tmp_path):
    """A disk that was full, or a copy that stopped, leaves such blobs; `push --heal` writes the record again."""
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        (own,), cut = site.stored.tags, f"archive-{'1' * 64}"
        put(site, cut, (layer := forged(b"another inventory")))
        site.stored.blobs[digest_of(layer)] = layer[:-40]
        found, unusable = site.records()
        assert ([one.head.tag for one in found], list(unusable)) == ([own], [cut])
        assert "ended after" in unusable[cut]
        place = json.loads(site.stored.manifests[site.stored.tags[own]][1])["layers"][0]["digest"]
        site.stored.blobs[place] = site.stored.blobs[place][:-40]
        assert not site.records()[0]
        client = RegistryClient(site.settings, clock=FakeClock().clock, pushes_to=frozenset({str(site.mirror)}))
        RecordStore(client, site.mirror).remember(archive, heal=True)
        assert [one.digest for one in site.records()[0]] == [archive.digest]


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_a_record_whose_answer_ends_before_its_length_costs_itself_alone(archive, tmp_path, part):
    """The length is that of the registry's database, and its storage has less: the connection is closed, each time."""
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        (own,), cut = site.stored.tags, f"archive-{'1' * 64}"
        put(site, cut, (layer := forged(b"another inventory")))
        name = cut if part == "/manifests/" else digest_of(layer)
        registry.fault("GET", f"{part}{name}", times=100, cut_after=40)
        found, unusable = site.records()
        assert ([one.head.tag for one in found], list(unusable)) == ([own], [cut])
        assert "the answer ended after 40 of" in unusable[cut]


@pytest.mark.parametrize("what", [{"status": 500}, *more([{"status": 503}, {"drop": True}])])
def test_a_registry_in_trouble_is_not_a_record_that_cannot_be_used(archive, tmp_path, what):
    """A list without an archive would be a wrong answer, and the next run may get it whole."""
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        registry.fault("GET", "/blobs/", times=1000, **what)
        with pytest.raises(RegistryError) as caught:
            site.records()
        assert caught.value.exit_code is ExitCode.REGISTRY


def test_a_record_with_many_signatures_can_be_read_again(archive):
    """Each volume may carry another one, and a layer has a limited number of files: the first are kept."""
    head = head_of(archive.digest, Mirror("registry.example"), NOW)
    layer = document.encode_layer(head, archive.found.packed, [b"%064d" % number for number in range(40)])
    found = document.decode(head.tag, layer.content)
    assert found.packed == archive.found.packed
    assert found.signatures[0] == b"%064d" % 0


@pytest.mark.more
def test_a_record_that_unpacks_to_more_than_an_inventory_is_refused():
    with pytest.raises(ContentError, match="grows past its limit"):
        size = 540 * 1024 * 1024
        document.decode(f"archive-{'4' * 64}", gzip(entry_header("other", size) + bytes(size)))


def test_heal_writes_a_record_that_cannot_be_read_again(archive, tmp_path):
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        (tag,) = site.stored.tags
        put(site, tag, b"no tar")
        assert not site.records()[0]
        site.push(archive)
        assert not site.records()[0], "a push asks with HEAD alone"
        site.push(archive, heal=True)
        assert [one.digest for one in site.records()[0]] == [archive.digest]


def test_with_a_key_what_it_did_not_sign_is_left_out(archive, tmp_path):
    make_keys(tmp_path / "key.pem", tmp_path / "key.pub", Algorithm.ED25519)
    signer, key = Signer.load(tmp_path / "key.pem"), Verifier.load(tmp_path / "key.pub")
    with FakeRegistry() as registry:
        site = Site(registry, tmp_path)
        site.push(archive)
        with pytest.raises(Exception, match="no record that can be used") as caught:
            site.receipt(key=key)
        assert caught.value.exit_code is ExitCode.USAGE
        store = RecordStore(
            RegistryClient(site.settings, clock=FakeClock().clock, pushes_to=frozenset({str(site.mirror)})), site.mirror
        )
        head = head_of(archive.digest, site.mirror, NOW)
        # A foreign signature next to the right one, as in a directory that a file was copied into.
        packed = archive.found.packed
        store.write(head, NOW, packed, (b"x" * 64, signer.sign(packed.content())))
        assert site.receipt(key=key).inventories == (archive.digest,)


def test_the_commands(archive, tmp_path):
    folder = archive.found.directories[0]
    with FakeRegistry() as registry:
        place = ("--registry", f"{registry.host}/ocp", "--insecure", registry.host, "--format", "json")
        empty = run("hub-import", "receipt", *place, "--output", tmp_path / "r.json")
        assert empty.status == 2
        assert "remembers no archive" in empty.stderr
        pushed = run("hub-import", "push", folder, *place)
        assert pushed.json["record"].endswith(archive.digest.removeprefix("sha256:"))
        taken = run("hub-import", "receipt", *place, "--output", tmp_path / "r.json")
        assert taken.json["inventories"] == [archive.digest], taken.stderr
