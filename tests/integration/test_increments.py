"""Archives that leave out what the other side has: chains, receipts, re-requests, and what the importer says when one is missing."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest

from common.oci.image import digest_of
from tests.fakes import sources
from tests.fakes.archives import noise
from tests.fakes.catalogs import CATALOGS
from tests.fakes.commands import BIN, run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.integration
BASE = noise("base", 100_000)
FIRST, SECOND, THIRD = (image([BASE, noise(f"layer {n}", 400_000)]) for n in range(1, 4))


@pytest.fixture
def source():
    with FakeRegistry() as registry:
        registry.add_image("org/app", FIRST, tag="v1")
        registry.add_image("org/app", SECOND, tag="v2")
        registry.add_image("org/app", THIRD, tag="v3")
        registry.add_image("org/new", image([BASE, noise("elsewhere", 30_000)]), tag="v1")
        yield registry


def create(source, output, *tags, more=()):
    names = [part for tag in tags for part in ("--image", f"{source.host}/org/{tag}")]
    arguments = [*names, "--insecure", source.host, "--output", output, "--format", "json"]
    done = run("hub-export", "create", *arguments, *more, env={"SOURCE_DATE_EPOCH": "1767225600"})
    assert done.status == 0, done.stderr
    return done.json


def inventory(archive):
    raw = (archive / "inventory.json").read_bytes()
    return json.loads(raw), digest_of(raw)


def push(archive, mirror, *more):
    return run("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host, "--format", "json", *more)


def carried(archive):
    return {digest for digest, blob in inventory(archive)[0]["blobs"].items() if "pieces" in blob}


def test_a_chain_carries_each_blob_once_and_ends_complete(source, tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    create(source, one, "app:v1")
    told = create(source, two, "app:v1", "app:v2", more=["--since", one])
    assert told["totals"]["blobs"] == 2  # its layer and config; the base is there
    assert told["requires"] == [inventory(one)[1]]
    create(source, three, "app:v2", "app:v3", more=["--since", two])
    assert not carried(one) & carried(two)
    assert not carried(three) & (carried(one) | carried(two))
    assert inventory(three)[0]["requires"] == sorted((inventory(one)[1], inventory(two)[1]))
    assert inventory(three)[0]["blobs"][digest_of(BASE)]["in"] == inventory(one)[1]
    assert run("hub-import", "verify", three).status == 0
    with FakeRegistry() as mirror:
        for archive in (one, two, three):
            pushed = push(archive, mirror)
            assert pushed.status == 0, pushed.stderr
        assert set(mirror.repositories["org/app"].tags) >= {"v1", "v2", "v3"}


def test_a_kept_inventory_is_enough_whatever_it_is_called(source, tmp_path):
    create(source, tmp_path / "one", "app:v1")
    kept = tmp_path / "2026-01.json"
    shutil.copy(tmp_path / "one/inventory.json", kept)
    create(source, tmp_path / "two", "app:v2", more=["--since", kept])
    assert digest_of(BASE) not in carried(tmp_path / "two")


def test_an_archive_that_must_come_first_is_named_and_nothing_is_lost(source, tmp_path):
    create(source, tmp_path / "one", "app:v1")
    create(source, tmp_path / "two", "app:v1", "app:v2", more=["--since", tmp_path / "one"])
    first = inventory(tmp_path / "one")[1]
    with FakeRegistry() as mirror:
        early = push(tmp_path / "two", mirror)
        assert early.status == 3
        assert early.json["requires"] == [first]
        assert early.json["waitingFor"] == []
        assert not mirror.repositories["org/app"].tags
        told = run("hub-import", "push", tmp_path / "two", "--registry", mirror.host, "--insecure", mirror.host)
        assert f"these archives must come first:\n  archive of 2026-01-01 ({first[:19]}…)\n" in told.stdout
        assert push(tmp_path / "one", mirror).status == 0
        late = push(tmp_path / "two", mirror)
        assert (late.status, late.json["requires"]) == (0, [])
        assert set(mirror.repositories["org/app"].tags) >= {"v1", "v2"}


def test_a_blob_of_a_repository_that_is_not_carried_any_more_is_carried_again(source, tmp_path):
    """Nobody on the other side could find it for the new repository."""
    create(source, tmp_path / "one", "app:v1")
    create(source, tmp_path / "two", "new:v1", more=["--since", tmp_path / "one"])
    assert digest_of(BASE) in carried(tmp_path / "two")
    with FakeRegistry() as mirror:
        assert push(tmp_path / "two", mirror).status == 0


def test_an_archive_that_has_nothing_of_the_plan_is_told(source, tmp_path):
    """It is of other images: without a word, the increment would be as large as a whole archive."""
    create(source, tmp_path / "one", "app:v1")
    new = ["--image", f"{source.host}/org/new:v1", "--insecure", source.host]
    told = "--since: nothing of the plan is there, so nothing is left out; is it of the same catalogs and images?"
    planned = run("hub-export", "plan", *new, "--since", tmp_path / "one")
    assert planned.status == 0
    assert told in " ".join(planned.stderr.split())
    both = run("hub-export", "plan", *new, "--image", f"{source.host}/org/app:v1", "--since", tmp_path / "one")
    assert "nothing is left out" not in both.stderr


@pytest.mark.parametrize("mounts", [True, False])
def test_a_blob_that_lies_in_another_repository_is_mounted_or_copied_from_there(source, tmp_path, mounts):
    create(source, tmp_path / "one", "app:v1")
    create(source, tmp_path / "two", "app:v1", "new:v1", more=["--since", tmp_path / "one"])
    assert digest_of(BASE) not in carried(tmp_path / "two")
    with FakeRegistry() as mirror:
        mirror.mounts = mounts
        assert push(tmp_path / "one", mirror).status == 0
        pushed = push(tmp_path / "two", mirror)
        assert pushed.status == 0, pushed.stdout
        assert digest_of(BASE) in mirror.repositories["org/new"].blobs


def receipt(archive, mirror, file, *more):
    return run(
        *("hub-import", "receipt", archive, "--registry", mirror.host, "--insecure", mirror.host, "--output", file),
        *("--format", "json", *more),
    )


def test_a_receipt_says_what_is_there_and_the_next_archive_leaves_it_out(source, tmp_path):
    create(source, tmp_path / "one", "app:v1")
    assert run("hub-export", "keygen", tmp_path / "site").status == 0
    with FakeRegistry() as mirror:
        before = receipt(tmp_path / "one", mirror, tmp_path / "empty.json")
        assert (before.status, before.json["inventories"], before.json["blobs"]) == (0, [], 0)
        assert push(tmp_path / "one", mirror).status == 0
        file = tmp_path / "receipt.json"
        taken = receipt(tmp_path / "one", mirror, file, "--redact", "--sign", tmp_path / "site.key")
        assert taken.status == 0, taken.stderr
        content = json.loads(file.read_bytes())
        assert content["mediaType"] == "application/vnd.hub-airgap.receipt.v1+json"
        assert content["inventories"] == [inventory(tmp_path / "one")[1]]
        assert set(content["blobs"]) == carried(tmp_path / "one")
        assert mirror.host not in file.read_text()
        options = ["--receipt", file, "--receipt-key", tmp_path / "site.pub"]
        told = create(source, tmp_path / "two", "app:v2", more=options)
        assert told["requires"] == []  # the receipt says that it is there; no archive has to come
        assert not carried(tmp_path / "two") & carried(tmp_path / "one")
        assert push(tmp_path / "two", mirror).status == 0
    witness = subprocess.run(
        [
            *("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "site.pub", "-rawin", "-in", file),
            *("-sigfile", f"{file}.sig"),
        ],
        capture_output=True,
        check=False,
    )
    assert witness.returncode == 0


def test_a_receipt_that_is_not_signed_or_was_changed_is_refused(source, tmp_path):
    create(source, tmp_path / "one", "app:v1")
    run("hub-export", "keygen", tmp_path / "site")
    run("hub-export", "keygen", tmp_path / "other")
    file = tmp_path / "receipt.json"
    with FakeRegistry() as mirror:
        push(tmp_path / "one", mirror)
        assert receipt(tmp_path / "one", mirror, file, "--sign", tmp_path / "site.key").status == 0
    asked = ["--image", f"{source.host}/org/app:v2", "--insecure", source.host, "--output", tmp_path / "two", "--receipt", file]
    for change, key in (
        (lambda: None, "other"),
        (lambda: file.write_text(file.read_text().replace("}", " }", 1)), "site"),
        ((tmp_path / "receipt.json.sig").unlink, "site"),
    ):
        change()
        done = run("hub-export", "create", *asked, "--receipt-key", tmp_path / f"{key}.pub")
        assert done.status == 4, done.stderr
        assert "not trusted" in done.stderr
        assert not (tmp_path / "two").exists()


def damage(archive, digest):
    """Overwrite a byte of a blob; return the volume's name and the frame's offset."""
    record = inventory(archive)[0]["blobs"][digest]["pieces"][0]
    name = f"volume-{record['volume']:04d}.tar.zst"
    with (archive / name).open("r+b") as file:
        file.seek(record["offset"] + 20)
        file.write(b"\xff\x00\xff")
    return name, record["offset"]


def test_a_damaged_blob_is_asked_for_again_and_a_small_archive_heals(source, tmp_path):
    create(source, tmp_path / "one", "app:v1", "app:v2")
    layer = digest_of(noise("layer 2", 400_000))
    where = damage(tmp_path / "one", layer)
    verified = run("hub-import", "verify", tmp_path / "one", "--rerequest", tmp_path / "again.json", "--format", "json")
    assert verified.status == 4
    assert [(bad["digest"], bad["volume"], bad["offset"]) for bad in verified.json["blobs"]["bad"]] == [(layer, *where)]
    with FakeRegistry() as mirror:
        assert push(tmp_path / "one", mirror).status == 4
        assert "v2" not in mirror.repositories["org/app"].tags
        source.repositories["org/app"].tags["v2"] = THIRD.digest  # meanwhile the tag has moved on
        healed = run(
            *("hub-export", "create", "--only", tmp_path / "again.json", "--insecure", source.host),
            *("--output", tmp_path / "heal", "--format", "json"),
        )
        assert healed.status == 0, healed.stderr
        assert carried(tmp_path / "heal") == {layer}
        assert inventory(tmp_path / "heal")[0]["requires"] == [inventory(tmp_path / "one")[1]]
        assert run("hub-import", "verify", tmp_path / "heal").status == 0
        pushed = push(tmp_path / "heal", mirror)
        assert pushed.status == 0, pushed.stdout
        assert mirror.repositories["org/app"].tags["v2"] == SECOND.digest
        again = push(tmp_path / "one", mirror)
        assert again.status == 0, "what was healed is not asked for again"


def test_push_asks_again_for_all_that_the_mirror_lacks(source, tmp_path):
    create(source, tmp_path / "one", "app:v1", "app:v2", "app:v3", more=["--volume-size", "700KB"])
    volumes = sorted((tmp_path / "one").glob("volume-*"))
    assert len(volumes) > 1
    lost = inventory(tmp_path / "one")[0]
    gone = {d for d, blob in lost["blobs"].items() if any(p["volume"] == len(volumes) for p in blob["pieces"])}
    volumes[-1].unlink()
    with FakeRegistry() as mirror:
        pushed = push(tmp_path / "one", mirror, "--rerequest", tmp_path / "again.json")
        assert pushed.status == 3
        assert set(json.loads((tmp_path / "again.json").read_bytes())["blobs"]) == gone
        healed = run(
            *("hub-export", "create", "--only", tmp_path / "again.json", "--insecure", source.host, "--output", tmp_path / "h"),
        )
        assert healed.status == 0, healed.stderr
        assert push(tmp_path / "h", mirror).status == 0
        assert push(tmp_path / "one", mirror).status == 0


def test_a_catalog_that_was_built_here_is_built_again_the_same(tmp_path):
    package = "openshift-cert-manager-operator"
    content = sources.from_directory(CATALOGS / "fbc" / "redhat", packages=[package], size=5_000)
    with FakeRegistry() as registry:
        content.seed(f"http://{registry.host}")
        (tmp_path / "registries.conf").write_text(content.registries_conf(registry.host, insecure=True))
        common = ["--registries-conf", tmp_path / "registries.conf", "--signatures", "ignore"]
        done = run(
            *("hub-export", "create", "--catalog", sources.CATALOG, "--package", f"{package}:stable-v1", *common),
            *("--output", tmp_path / "one"),
        )
        assert done.status == 0, done.stderr
        whole, _ = inventory(tmp_path / "one")
        catalog = next(i for i in whole["images"] if i["kind"] == "catalog")
        made = whole["manifests"][catalog["digest"]]
        manifests = made.get("manifests", [catalog["digest"]])
        layers = {blob for manifest in manifests for blob in whole["manifests"][manifest]["blobs"]}
        blob = min(layers, key=lambda digest: whole["blobs"][digest]["pieces"][0]["offset"])
        for digest in layers:
            damage(tmp_path / "one", digest)
        verified = run("hub-import", "verify", tmp_path / "one", "--rerequest", tmp_path / "again.json")
        assert verified.status == 4
        healed = run("hub-export", "create", "--only", tmp_path / "again.json", *common, "--output", tmp_path / "heal")
        assert healed.status == 0, healed.stderr
    assert blob in carried(tmp_path / "heal")
    assert layers <= carried(tmp_path / "heal")
    assert run("hub-import", "verify", tmp_path / "heal").status == 0


def test_diff_tells_what_is_new(source, tmp_path):
    create(source, tmp_path / "one", "app:v1")
    create(source, tmp_path / "two", "app:v2", "new:v1", more=["--since", tmp_path / "one"])
    found = run("hub-export", "diff", tmp_path / "one", tmp_path / "two/inventory.json", "--format", "json")
    assert found.status == 0, found.stderr
    assert found.json["images"]["removed"] == [f"{source.host}/org/app:v1"]
    assert found.json["images"]["added"] == [f"{source.host}/org/app:v2", f"{source.host}/org/new:v1"]
    assert found.json["blobs"]["added"]["count"] == 4
    plan = ["plan", "--image", f"{source.host}/org/app:v1", "--insecure", source.host, "--output", tmp_path / "plan.json"]
    assert run("hub-export", *plan).status == 0
    same = run("hub-export", "diff", tmp_path / "one", tmp_path / "plan.json")
    assert "the same images" in same.stdout
    assert run("hub-export", "diff", tmp_path / "one", tmp_path / "nothing").status == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--since", "nothing-here"], "no such file"),
        (["--receipt", "image.yaml"], "not a receipt"),
        (["--only", "image.yaml"], "not a re-request"),
        (["--receipt-key", "x.pub"], "without --receipt"),
    ],
)
def test_wrong_files_are_usage_errors(tmp_path, options, word):
    (tmp_path / "image.yaml").write_text("kind: x")
    asked = [] if "--only" in options else ["--image", "registry.test/org/app:v1"]
    done = run("hub-export", "create", *asked, "--output", "out", *options, cwd=tmp_path)
    assert done.status == 2, done.stderr
    assert word in done.stderr
    assert not (tmp_path / "out").exists()


def test_on_a_terminal_the_next_medium_is_asked_for(source, tmp_path):
    create(source, tmp_path / "one", "app:v1", "app:v2", "app:v3", more=["--volume-size", "700KB"])
    volumes = sorted((tmp_path / "one").glob("volume-*"))
    drive = tmp_path / "drive"
    drive.mkdir()
    volumes[-1].rename(drive / volumes[-1].name)
    rest = [volume.rename(tmp_path / volume.name) for volume in volumes[:-1]]
    with FakeRegistry() as mirror:
        command = [BIN / "hub-import", "push", drive, "--registry", mirror.host, "--insecure", mirror.host]
        terminal, side = pty.openpty()
        process = subprocess.Popen(list(map(str, command)), stdin=side, stdout=side, stderr=side, close_fds=True)
        os.close(side)
        seen = ""
        seen = until(terminal, seen, "still wanted")
        os.write(terminal, b"\n")  # the same medium once more
        seen = until(terminal, seen, "none of them is there")
        (drive / volumes[-1].name).unlink()
        for volume in rest[:-1]:
            shutil.copy(volume, drive)
        os.write(terminal, b"\n")
        seen = until(terminal, seen, f"still wanted: {rest[-1].name}.")
        os.write(terminal, str(rest[-1]).encode() + b"\n")  # or says where it is
        seen = until(terminal, seen, "already there")
        assert process.wait(120) == 0, seen
        os.close(terminal)
        assert set(mirror.repositories["org/app"].tags) >= {"v1", "v2", "v3"}


def test_ctrl_c_at_the_question_for_a_medium(source, tmp_path):
    """It is no answer: the push is interrupted, and does not end as one whose media are all there."""
    create(source, tmp_path / "one", "app:v1", "app:v2", more=["--volume-size", "700KB"])
    max((tmp_path / "one").glob("volume-*")).unlink()
    with FakeRegistry() as mirror:
        command = [BIN / "hub-import", "push", tmp_path / "one", "--registry", mirror.host, "--insecure", mirror.host]
        terminal, side = pty.openpty()
        process = subprocess.Popen(
            list(map(str, command)), stdin=side, stdout=side, stderr=side, close_fds=True, start_new_session=True
        )
        os.close(side)
        until(terminal, "", "q ends")
        process.send_signal(signal.SIGINT)
        seen = until(terminal, "", "to continue.")
        assert process.wait(120) == 130, seen
        os.close(terminal)
    assert "error: interrupted" in seen
    assert "Completed work is kept; run the same command again to continue." in " ".join(seen.split())


def until(terminal, seen, word, timeout_s=120):
    """Read what the command shows until `word` appears once more than before."""
    count, ends = seen.count(word), time.monotonic() + timeout_s
    while seen.count(word) <= count and time.monotonic() < ends:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode()
    assert seen.count(word) > count, seen
    return seen
