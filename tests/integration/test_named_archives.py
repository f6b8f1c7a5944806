"""Names of archives as a weekly user meets them: three increments, a lost base, the wrong order, a receipt, a re-request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from common.archive.naming import short
from common.oci.image import digest_of
from tests.fakes.archives import noise
from tests.fakes.commands import run
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry
from tests.samples import more

pytestmark = pytest.mark.integration
BASE = noise("base", 20_000)
WEEK_S = 7 * 86_400
FIRST = 1_795_428_000  # 23 November 2026


class Weeks:
    """The connected side: one archive a week."""

    def __init__(self, source: FakeRegistry, home: Path) -> None:
        self.source, self.home = source, home

    def export(self, command, week, *tags, options=(), name=None):
        images = [part for tag in range(1, week + 1) for part in ("--image", f"{self.source.host}/org/app:v{tag}")]
        named = [] if name is None else ["--name", name]
        arguments = [*(tags or images), "--insecure", self.source.host, "--signatures", "ignore", *named, *options]
        return run(
            "hub-export", command, *arguments, env={"SOURCE_DATE_EPOCH": str(FIRST + (week - 1) * WEEK_S)}, cwd=self.home
        )

    def create(self, week, *since):
        done = self.export("create", week, name=f"week-{46 + week}", options=["--output", f"w{week}", *since])
        assert done.status == 0, done.stderr
        return done.stdout

    def label(self, week):
        date = f"2026-{('11-23', '11-30', '12-07')[week - 1]}"
        return f"week-{46 + week} of {date} ({short(digest_of((self.home / f'w{week}/inventory.json').read_bytes()))})"


@pytest.fixture(scope="module")
def weeks(tmp_path_factory):
    home = tmp_path_factory.mktemp("weeks")
    with FakeRegistry() as source:
        for number in (1, 2, 3):
            source.add_image("org/app", image([BASE, noise(f"layer {number}", 40_000)]), tag=f"v{number}")
        made = Weeks(source, home)
        made.said = [made.create(1), made.create(2, "--since", "w1"), made.create(3, "--since", "w1", "--since", "w2")]
        yield made


def imported(weeks, command, *arguments):
    return run("hub-import", command, *arguments, cwd=weeks.home)


def pushed(weeks, archive, mirror, *options):
    return imported(weeks, "push", archive, "--registry", mirror.host, "--insecure", mirror.host, *options)


def test_create_says_the_name_the_bases_and_the_label(weeks):
    lines = weeks.said[2].splitlines()
    digest = digest_of((weeks.home / "w3/inventory.json").read_bytes())
    assert f"archive week-49 of 2026-12-07, {digest}" in lines
    at = next(number for number, line in enumerate(lines) if line.startswith("left out: "))
    assert lines[at + 1 : at + 3] == [f"  {weeks.label(1)}", f"  {weeks.label(2)}"]
    assert f"  volume-0001.tar.zst: week-49 of 2026-12-07, 1 of 1, {digest[7:19]}" in lines
    page = (weeks.home / "w3/report.html").read_text()
    assert "<title>week-49: " in page
    assert "week-47 of 2026-11-23 <span" in page
    assert "Compared with week-48 of" in page


def test_plan_and_a_plan_in_a_file_keep_the_name(weeks, tmp_path):
    file = tmp_path / "plan.json"
    done = weeks.export("plan", 3, name="week-49", options=["--since", "w1", "--since", "w2", "--output", file])
    assert "name of the archive: week-49" in done.stdout
    assert f"  {weeks.label(2)}" in done.stdout.splitlines()
    made = run("hub-export", "create", "--plan", file, "--output", tmp_path / "out", "--insecure", weeks.source.host)
    assert made.status == 0, made.stderr
    assert (tmp_path / "out/inventory.json").read_bytes() == (weeks.home / "w3/inventory.json").read_bytes()
    renamed = run("hub-export", "create", "--plan", file, "--output", tmp_path / "other", "--name", "x")
    assert (renamed.status, "--plan and something that a plan says itself" in renamed.stderr) == (2, True)


def test_inspect_and_verify_say_what_it_is(weeks):
    shown = imported(weeks, "inspect", "w3").stdout.splitlines()
    digest = digest_of((weeks.home / "w3/inventory.json").read_bytes())
    assert shown[0] == f"archive week-49 of 2026-12-07, {digest}"
    assert "signature: none" in shown
    assert f"  {weeks.label(1)}" in shown
    assert any(line.endswith(f"week-49 of 2026-12-07, 1 of 1, {digest[7:19]}") for line in shown)
    document = imported(weeks, "inspect", "w3", "--format", "json").json
    assert (document["name"], document["signature"], document["digest"]) == ("week-49", "absent", digest)
    assert [each["size"] for each in document["volumes"]] == [(weeks.home / "w3/volume-0001.tar.zst").stat().st_size]
    assert {each["name"] for each in document["bases"].values()} == {"week-47", "week-48"}
    assert imported(weeks, "verify", "w3").stdout.splitlines()[0] == shown[0]


def test_diff_says_which_two(weeks):
    assert run("hub-export", "diff", "w1", "w2", cwd=weeks.home).stdout.startswith(
        "from: week-47 of 2026-11-23\nto: week-48 of 2026-11-30\n\n"
    )


def test_a_lost_base_and_the_wrong_order(weeks):
    with FakeRegistry() as mirror:
        early = pushed(weeks, "w3", mirror)
        assert early.status == 3
        lines = early.stdout.splitlines()
        assert "3 images: 0 already there, 3 could not be brought yet; 2 blobs uploaded" in lines[0]
        assert lines[1].startswith("pushed ")
        assert lines[2:6] == [
            "these archives must come first:",
            f"  {weeks.label(1)}",
            f"  {weeks.label(2)}",
            "push them, then this one again (hub-import inspect shows name and digest of an archive)",
        ]
        second = pushed(weeks, "w2", mirror).stdout
        assert weeks.label(1) in second
        assert weeks.label(2) not in second
        assert pushed(weeks, "w1", mirror, "--format", "json").json["imagesWaiting"] == 0
        assert [pushed(weeks, archive, mirror).status for archive in ("w2", "w3")] == [0, 0]


def test_a_receipt_and_a_re_request_name_their_archives(weeks, tmp_path):
    receipt, again = tmp_path / "receipt.json", tmp_path / "again.json"
    with FakeRegistry() as mirror, FakeRegistry() as other:
        for archive in ("w1", "w2"):
            pushed(weeks, archive, mirror)
        options = ("--registry", mirror.host, "--insecure", mirror.host, "--output", receipt)
        shown = imported(weeks, "receipt", "w2", *options).stdout.splitlines()
        assert shown[1:] == [f"  {weeks.label(1)}", f"  {weeks.label(2)}"]
        done = weeks.export("create", 3, name="week-49", options=["--receipt", receipt, "--output", tmp_path / "out"])
        confirmed = f"receipt {short(digest_of(receipt.read_bytes()))} of week-47 of 2026-11-23, week-48 of 2026-11-30"
        assert f"  {confirmed}" in done.stdout.splitlines()
        # Another mirror than that of the receipt.
        lost = pushed(weeks, tmp_path / "out", other, "--rerequest", again)
        assert "the mirror lacks content that was confirmed" in lost.stdout
        assert f"  {confirmed}" in lost.stdout.splitlines()
        assert "blobs of week-49 of 2026-12-07 (sha256:" in lost.stderr
    healed = weeks.export("create", 3, "--only", again, options=["--output", tmp_path / "healed"], name="heal-49")
    assert "  week-49 of 2026-12-07 (sha256:" in healed.stdout


def test_a_volume_of_another_week_is_named(weeks, tmp_path):
    shutil.copytree(weeks.home / "w3", tmp_path / "w3")
    shutil.copy(weeks.home / "w1/volume-0001.tar.zst", tmp_path / "w3")
    for done in (imported(weeks, "inspect", tmp_path / "w3"), weeks.export("plan", 1, options=["--since", tmp_path / "w3"])):
        assert done.status == 4
        assert f"it belongs to {weeks.label(1)}, " in done.stderr
        assert f"is of {weeks.label(3)}" in done.stderr


@pytest.mark.parametrize("name", ["a\u202eb\x1b[31m", *more(["my week", "x" * 64, "a\nb", "../x", "-"])])
def test_another_text_is_refused_before_anything_is_done(weeks, tmp_path, name):
    done = weeks.export("create", 1, name=name, options=["--output", tmp_path / "out"])
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --name ")
    assert "Wanted: letters (a to z, A to Z) and digits" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not {"\x1b", "\u202e"} & set(done.stderr)


def test_control_characters_of_a_name_never_reach_the_terminal(weeks, tmp_path):
    shutil.copytree(weeks.home / "w1", tmp_path / "w1")
    file = tmp_path / "w1/inventory.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": "\u202e../../x\x1b[2J"}))
    done = imported(weeks, "inspect", file)
    assert done.status == 4
    assert "not a name of an archive" in done.stderr
    assert not {"\x1b", "\u202e"} & set(done.stderr + done.stdout)
