"""Signed archives: checked by plain openssl, the same bytes every time, and nothing of an unsigned one is believed."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.fakes.servers import require
from tests.samples import more

pytestmark = pytest.mark.integration
EPOCH = {"SOURCE_DATE_EPOCH": "1767225600"}
ALGORITHMS = ["ed25519", "ecdsa-p256"]


def keygen(folder, algorithm="ed25519", name="hub"):
    done = run("hub-export", "keygen", folder / name, "--algorithm", algorithm)
    assert done.status == 0, done.stderr
    return folder / f"{name}.key", folder / f"{name}.pub"


def create(output, *arguments):
    with FakeRegistry() as source:
        # The name must not change from one archive to the next, and a port does.
        conf = output.parent / f"{output.name}.conf"
        conf.write_text(f'[[registry]]\nprefix = "quay.io"\nlocation = "{source.host}"\ninsecure = true\n')
        for number in range(3):
            source.add_image(f"org/app{number}", image([b"layer %d" % number * 90_000]), tag="v1")
        images = [part for number in range(3) for part in ("--image", f"quay.io/org/app{number}:v1")]
        return run(
            *("hub-export", "create", *images, "--registries-conf", conf, "--output", output, "--signatures", "ignore"),
            *("--volume-size", "1500KiB", *arguments),
            env=EPOCH,
        )


@pytest.fixture(scope="module", params=["ed25519", *more(["ecdsa-p256"])])
def signed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    private, public = keygen(folder, request.param)
    done = create(folder / "out", "--sign", private)
    assert done.status == 0, done.stderr
    return folder / "out", private, public


@pytest.mark.parametrize("signed", ALGORITHMS, indirect=True)
def test_openssl_accepts_inventory_and_checksums(signed):
    archive, _, public = signed
    for name in ("inventory.json", "SHA256SUMS"):
        command = ["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", archive / name]
        more = ["-digest", "sha256"] if "BEGIN PUBLIC KEY" in public.read_text() and len(public.read_bytes()) > 150 else []
        seen = subprocess.run(
            [require("openssl"), *command, "-sigfile", archive / f"{name}.sig", *more],
            capture_output=True,
            text=True,
            check=False,
        )
        assert seen.returncode == 0, seen.stdout + seen.stderr
        assert "Signature Verified Successfully" in seen.stdout
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=archive, capture_output=True, text=True, check=False)
    assert sums.returncode == 0
    assert "inventory.json.sig: OK" in sums.stdout


def test_a_signed_archive_is_the_same_every_time(signed, tmp_path):
    archive, private, _ = signed
    assert create(tmp_path / "out", "--sign", private).status == 0
    one, other = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (archive, tmp_path / "out"))
    assert one == other


def test_verify_says_what_the_signature_is(signed, tmp_path):
    archive, _, public = signed
    _, other = keygen(tmp_path)
    for key, state, status in ((None, "unchecked", 0), (public, "valid", 0), (other, "invalid", 4)):
        done = run("hub-import", "verify", archive, "--format", "json", *(["--key", key] if key else []))
        assert done.status == status, done.stderr
        assert (done.json["signature"], done.json["ok"]) == (state, status == 0)
        quick = run("hub-import", "verify", archive, "--quick", "--format", "json", *(["--key", key] if key else []))
        assert quick.json["signature"] == state


def test_checksums_that_the_key_did_not_sign_are_damage(signed, tmp_path):
    archive, _, public = signed
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "SHA256SUMS.sig").write_bytes(b"x" * 64)
    done = run("hub-import", "verify", copy, "--key", public)
    assert done.status == 4
    assert "SHA256SUMS: its signature is not that of the key" in done.stdout
    (copy / "SHA256SUMS.sig").unlink()
    done = run("hub-import", "verify", copy, "--key", public)
    assert (done.status, "there is no SHA256SUMS.sig next to it" in done.stdout) == (4, True)


@pytest.mark.parametrize("form", ["exchanged", "unsigned sums", "sums without it", "volumes alone"])
def test_with_a_key_no_report_passes_that_was_not_signed(signed, tmp_path, form):
    """The report is what an approver reads; without its signed sums nothing speaks for it."""
    archive, _, public = signed
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    sums = copy / "SHA256SUMS"
    if form == "sums without it":
        sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if "report" not in line))
    else:
        (copy / "SHA256SUMS.sig").unlink()
    if form in ("exchanged", "volumes alone"):
        sums.unlink()
    (copy / "report.html").write_text("<p>all is well</p>")
    if form == "volumes alone":
        (copy / "report.html").unlink()
    done = run("hub-import", "verify", copy, "--key", public, "--format", "json")
    if form == "volumes alone":
        assert (done.status, done.json["ok"], done.json["unvouched"]) == (0, True, [])
        return
    assert (done.status, done.json["ok"]) == (4, False)
    assert done.json["unvouched"] == [str(copy / "report.html")]
    said = run("hub-import", "verify", copy, "--key", public).stdout
    assert f"{copy / 'report.html'}: not signed" in said
    assert "the archive is NOT whole" in said
    assert said.endswith("copy the files that are not signed again, with SHA256SUMS and SHA256SUMS.sig, or remove them\n")
    assert run("hub-import", "verify", copy).status == (
        4 if form == "unsigned sums" else 0
    )  # without a key, the sums alone count


def test_with_a_key_whatever_is_next_to_the_volumes_is_named(signed, tmp_path):
    """A name in another case is opened like the report, and a directory of the name too."""
    archive, _, public = signed
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "mapping.txt").write_text("a=b\n")
    (copy / "kit").mkdir()
    done = run("hub-import", "verify", copy, "--key", public, "--format", "json")
    assert (done.status, done.json["unvouched"]) == (0, [])
    assert done.json["beside"] == [str(copy / "kit"), str(copy / "mapping.txt")]
    said = run("hub-import", "verify", copy, "--key", public).stdout
    assert f"not covered by its signature: {copy / 'kit'}, {copy / 'mapping.txt'}" in said
    (copy / "Report.HTML").write_text("<p>all is well</p>")
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()
    (copy / "report.html/index.html").write_text("<p>all is well</p>")
    done = run("hub-import", "verify", copy, "--key", public, "--format", "json")
    assert (done.status, done.json["unvouched"]) == (4, [str(copy / "Report.HTML"), str(copy / "report.html")])
    assert run("hub-import", "verify", copy, "--format", "json").json["beside"] == []


def test_with_a_key_another_inventory_and_parity_are_named(signed, tmp_path):
    archive, _, public = signed
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    for name in ("SHA256SUMS", "SHA256SUMS.sig", "report.html"):
        (copy / name).unlink()
    volume = next(copy.glob("volume-*.zst"))
    (copy / f"{volume.name}.parity").write_bytes(b"parity of another volume")
    done = run("hub-import", "verify", copy, "--key", public, "--format", "json")
    assert (done.status, done.json["unvouched"]) == (4, [str(copy / f"{volume.name}.parity")])


def test_a_check_that_fails_ends_with_advice(signed, tmp_path):
    """What is missing, and what another key signed; see `test_with_a_key_no_report_passes_that_was_not_signed`."""
    archive, _, _ = signed
    _, other = keygen(tmp_path, name="other")
    assert (
        "ask the sender for the right public key"
        in run("hub-import", "verify", archive, "--key", other).stdout.splitlines()[-1]
    )
    (tmp_path / "part").mkdir()
    for name in ("inventory.json", "inventory.json.sig"):
        shutil.copy(archive / name, tmp_path / "part")
    assert run("hub-import", "verify", tmp_path / "part").stdout.splitlines()[-1].startswith("bring the missing volumes")


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory):
    """An archive of one algorithm, for tests in which the algorithm does not matter."""
    folder = tmp_path_factory.mktemp("once")
    private, public = keygen(folder)
    assert create(folder / "out", "--sign", private).status == 0
    return folder / "out", private, public


def arguments_of(command, mirror, folder):
    """The arguments of a command after the archive; nothing of them needs a cluster."""
    registry = ["--registry", mirror, "--insecure", mirror]
    return {
        "inspect": [],
        "verify": ["--quick"],
        "push": registry,
        "receipt": [*registry, "--output", folder / "receipt.json"],
        "render": [*registry, "--openshift-release", "4.16", "--output", folder / "files"],
        "deploy": [*registry, "--kubeconfig", folder / "none"],
    }[command]


@pytest.mark.parametrize("command", ["status", *more(["operators"])])
def test_a_comparison_with_an_archive_names_what_is_not_signed(signed_once, tmp_path, command):
    archive, _, public = signed_once
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "report.html").write_text("<p>all is well</p>")
    with FakeCluster("4.18") as cluster:
        config = ["--kubeconfig", cluster.kubeconfig(tmp_path), "--key", public]
        done = run("hub-import", command, copy, *config, "--format", "json")
        alone = run("hub-import", command, *config)
    assert done.json["unvouched"] == [str(copy / "report.html")]
    assert f"{copy / 'report.html'}: not signed" in done.stderr
    assert (alone.status, "--key without an archive" in alone.stderr) == (2, True)


@pytest.mark.parametrize("command", ["inspect", "push", "deploy", *more(["verify", "receipt", "render"])])
def test_every_command_with_a_key_names_what_is_not_signed(signed_once, tmp_path, command):
    """`verify` alone did; an approver opens the report after `inspect`, or while a push runs."""
    archive, _, public = signed_once
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    with FakeRegistry() as mirror:
        if command in ("receipt", "render"):
            run("hub-import", "push", copy, "--registry", mirror.host, "--insecure", mirror.host)
        more = arguments_of(command, mirror.host, tmp_path)
        if command != "deploy":  # the archive as it was made
            done = run("hub-import", command, copy, "--key", public, "--format", "json", *more)
            assert (done.status, done.json["unvouched"], done.json["beside"]) == (0, [], []), done.stderr
        # The sums are signed still, and the report is another one.
        (copy / "report.html").write_text("<p>all is well</p>")
        (copy / "notes.txt").write_text("install me")
        before = len(mirror.log())
        done = run("hub-import", command, copy, "--key", public, "--format", "json", *more)
        if command == "deploy":
            assert (done.status, "is what its key did not sign" in done.stderr) == (4, True), done.stderr
            assert len(mirror.log()) == before
        else:
            assert done.json["unvouched"] == [str(copy / "report.html")]
            assert done.json["beside"] == [str(copy / "notes.txt")]
            assert done.status == (4 if command in ("inspect", "verify") else 0), done.stderr
            done = run("hub-import", command, copy, "--key", public, *more)
        text = done.stdout if command in ("inspect", "verify") else done.stderr
        assert f"{copy / 'report.html'}: not signed" in text
        assert f"no part of the archive, and not covered by its signature: {copy / 'notes.txt'}" in text
        without = run("hub-import", "inspect", copy, "--format", "json")
        assert (without.status, without.json["unvouched"], without.json["beside"]) == (0, [], [])


@pytest.mark.parametrize("command", ["serve", *more(["apply"])])
def test_what_is_not_signed_is_named_before_the_work_begins(signed_once, tmp_path, command):
    archive, _, public = signed_once
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "report.html").write_text("<p>all is well</p>")
    wrong = ["--registry", "r.example", "--kubeconfig", tmp_path / "none"] if command == "apply" else ["--listen", "nowhere"]
    done = run("hub-import", command, copy, "--key", public, *wrong)
    assert done.status == 2, done.stderr
    assert f"{copy / 'report.html'}: not signed" in done.stderr.partition("error:")[0]


@pytest.mark.parametrize("form", ["a volume", "no volume", *more(["a link"])])
def test_what_is_near_counts_however_the_archive_is_named(signed_once, tmp_path, form):
    """By a volume alone, by a link to it, and where an approver has the inventory and the report without any volume."""
    archive, _, public = signed_once
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    volume, place, status = min(copy.glob("volume-*")), copy, 0
    if form == "a volume":
        place = volume
    elif form == "no volume":
        for each in copy.glob("volume-*"):
            each.unlink()
    else:
        place = tmp_path / "linked"
        place.mkdir()
        (place / volume.name).symlink_to(volume)
    done = run("hub-import", "inspect", place, "--key", public, "--format", "json")
    assert (done.status, done.json["unvouched"], done.json["beside"]) == (status, [], []), done.stderr
    report = (place if form == "a link" else copy) / "report.html"
    report.write_text("<p>all is well</p>")
    done = run("hub-import", "inspect", place, "--key", public, "--format", "json")
    assert (done.status, done.json["unvouched"]) == (4, [str(report)])


def test_no_re_request_is_made_of_an_inventory_that_is_not_trusted(signed, tmp_path):
    archive, _private, _public = signed
    _, other = keygen(tmp_path, name="other")
    done = run("hub-import", "verify", archive, "--key", other, "--rerequest", tmp_path / "again.json")
    assert done.status == 4
    assert "not written" in done.stderr
    assert not (tmp_path / "again.json").exists()


def test_a_volume_alone_carries_the_signature(signed, tmp_path):
    archive, _, public = signed
    volume = max(archive.glob("volume-*"))
    shutil.copy(volume, tmp_path / volume.name)
    done = run("hub-import", "inspect", tmp_path / volume.name, "--key", public)
    assert done.status == 0, done.stderr
    _, other = keygen(tmp_path)
    refused = run("hub-import", "inspect", tmp_path / volume.name, "--key", other)
    assert refused.status == 4
    assert "not trusted: its signature is not that of the key SHA256:" in refused.stderr


def test_nothing_of_an_archive_that_is_not_trusted_reaches_the_registry(signed, tmp_path):
    archive, _, public = signed
    tampered = tmp_path / "tampered"
    shutil.copytree(archive, tampered)
    raw = (tampered / "inventory.json").read_bytes()
    (tampered / "inventory.json").write_bytes(raw.replace(b"org/app1", b"org/evil", 1))
    assert create(tmp_path / "plain").status == 0
    with FakeRegistry() as mirror:
        for command in ("push", "deploy"):
            for each, why in ((tampered, "its signature is not that of the key"), (tmp_path / "plain", "it is not signed")):
                done = run("hub-import", command, each, "--registry", mirror.host, "--insecure", mirror.host, "--key", public)
                assert done.status == 4
                assert f"not trusted: {why}" in done.stderr
        assert mirror.log() == []
        assert run("hub-import", "verify", tmp_path / "plain", "--key", public).status == 4
        done = run("hub-import", "push", archive, "--registry", mirror.host, "--insecure", mirror.host, "--key", public)
        assert done.status == 0, done.stderr


def test_keys_are_for_their_owner_and_never_replaced(tmp_path):
    private, public = keygen(tmp_path)
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes(), public.read_bytes()
    for gone in (None, private, public):
        if gone is not None:
            content = gone.read_bytes()
            gone.unlink()
        again = run("hub-export", "keygen", tmp_path / "hub")
        assert again.status == 2
        assert "keys are never replaced" in again.stderr
        if gone is not None:
            gone.write_bytes(content)
    assert (private.read_bytes(), public.read_bytes()) == before


def test_fingerprints_are_those_of_openssl(tmp_path):
    done = run("hub-export", "keygen", tmp_path / "hub")
    der = subprocess.run(
        [require("openssl"), "pkey", "-pubin", "-in", tmp_path / "hub.pub", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    import hashlib

    assert f"SHA256:{hashlib.sha256(der).hexdigest()}" in done.stdout


@pytest.mark.parametrize("kind", ["nonsense", "empty", "rsa", "p384", "password", "missing"])
def test_keys_that_cannot_be_used_are_told_before_anything_is_fetched(tmp_path, kind):
    key = tmp_path / "some.key"
    openssl = require("openssl")
    commands = {
        "rsa": ["genpkey", "-algorithm", "RSA", "-out", key],
        "p384": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", key],
        "password": ["genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x", "-out", key],
    }
    if kind in commands:
        subprocess.run([openssl, *commands[kind]], check=True, capture_output=True)
    elif kind != "missing":
        key.write_text("" if kind == "empty" else "nonsense")
    done = create(tmp_path / "out", "--sign", key)
    assert done.status == 2, done.stderr
    assert str(key) in done.stderr
    assert "keygen" in done.stderr
    assert "https://" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_private_key_has_no_place_on_the_other_side(signed):
    archive, private, _ = signed
    done = run("hub-import", "inspect", archive, "--key", private)
    assert done.status == 2
    assert "not a public key" in done.stderr


def test_what_inspect_shows_is_json_all_the_same(signed):
    archive, _, public = signed
    assert json.loads(run("hub-import", "inspect", archive, "--key", public, "--format", "json").stdout)["images"]
