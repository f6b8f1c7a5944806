import io
import json
import os
import pty
import re
import select
import time

import pytest

from common.progress import ENDED, Bars, Failed, JsonLines, Plain, Silent, Style, duration, ended, meter, progress_for
from common.table import cells

MIB = 1024 * 1024


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def lines(file):
    return file.getvalue().splitlines()


def test_plain_lines_come_after_two_and_every_ten_seconds_with_rate_and_time_left():
    file, clock = io.StringIO(), Clock()
    plain = Plain(file, clock=clock)
    plain.begin("fetching 2 blobs", 100 * MIB)
    clock.now = 1
    plain.advance(MIB)
    assert lines(file) == ["fetching 2 blobs: 100.0 MiB"]
    clock.now = 2
    plain.advance(MIB)
    assert lines(file)[1:] == ["fetching 2 blobs: 2.0 MiB of 100.0 MiB, 1.0 MiB/s, 98 s left"]
    clock.now = 11
    plain.advance(3 * MIB)
    assert len(lines(file)) == 2
    clock.now = 12
    plain.advance(7 * MIB)
    assert lines(file)[2:] == ["fetching 2 blobs: 12.0 MiB of 100.0 MiB, 1.0 MiB/s, 88 s left"]
    plain.waiting("quay.io asked to wait 30 s")
    plain.waiting("")
    clock.now = 20
    plain.item("sha256:abc", 5)
    plain.item_end("sha256:abc")
    plain.end()
    assert lines(file)[3:] == [
        "waiting: quay.io asked to wait 30 s",
        "fetching 2 blobs: stopped at 12.0 MiB of 100.0 MiB after 20 s",
    ]


def test_a_wait_that_is_repeated_each_second_is_shown_every_ten():
    """A registry with `Retry-After: 1` asks for it up to 900 times; a program gets each of them."""
    for kind, expected in ((Plain, [0, 10, 20]), (JsonLines, range(30))):
        file, clock = io.StringIO(), Clock()
        shown = kind(file, clock=clock)
        for second in range(30):
            clock.now = second
            before = len(lines(file))
            shown.waiting("quay.io asked to wait 1 s")
            shown.waiting("")
            assert (len(lines(file)) > before) == (second in expected), second
        shown.waiting("ghcr.io asked to wait 1 s")
        assert "ghcr.io" in lines(file)[-1]


def test_bars_show_a_repeated_wait_once():
    file = io.StringIO()
    bars = Bars(file)
    for what in ("quay.io asked to wait 1 s", "", "quay.io asked to wait 1 s", "", "ghcr.io asked to wait 1 s"):
        bars.waiting(what)
    assert lines(file) == ["waiting: quay.io asked to wait 1 s", "waiting: ghcr.io asked to wait 1 s"]


def test_other_units_than_bytes():
    file, clock = io.StringIO(), Clock()
    plain = Plain(file, clock=clock)
    plain.begin("looking up 40 images", 40, "images")
    clock.now = 10
    plain.advance(20)
    plain.end()
    assert lines(file) == [
        "looking up 40 images",
        "looking up 40 images: 20 of 40 images, 2.0 images/s, 10 s left",
        "looking up 40 images: stopped at 20 of 40 images after 10 s",
    ]


def test_a_step_with_failed_items_came_to_its_end():
    """A blob that a registry does not give is no reason to say that the step was stopped."""
    for kind, last in (
        (Plain, "fetching 3 blobs: 2 failed, 6.0 MiB of 10.0 MiB done in 0 s"),
        (JsonLines, {"event": "end", "done": 6 * MIB, "total": 10 * MIB, "failed": 2}),
    ):
        file = io.StringIO()
        shown = kind(file, clock=Clock())
        shown.begin("fetching 3 blobs", 10 * MIB)
        shown.advance(6 * MIB)
        shown.failed(3 * MIB)
        shown.failed(1 * MIB)
        shown.end()
        line = lines(file)[-1]
        assert line == last if isinstance(last, str) else json.loads(line).items() >= last.items()
    assert ended(6, 12, "images", 3, Failed(1, 2)) == "stopped at 6 of 12 images after 3 s, 1 failed"
    assert ended(0, 2, "images", 3, Failed(2, 2)) == "2 failed, 0 of 2 images done in 3 s"


def test_bars_show_failed_items(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = io.StringIO()
    bars = Bars(file)
    for lost in (4 * MIB, 0):  # failures of one step say nothing of the next
        bars.begin("pushing 3 blobs", 10 * MIB)
        bars.advance(10 * MIB - lost)
        if lost:
            bars.failed(lost)
        bars.end()
    shown = [part for part in re.split(r"[\r\n]+", file.getvalue()) if " s" in part and ": " in part]
    assert "pushing 3 blobs: 1 failed, 6.0 MiB of 10.0 MiB done in 0 s" in [line.strip() for line in shown]
    assert "done, 10.0 MiB in 0 s" in shown[-1]


def test_json_lines_are_json():
    file, clock = io.StringIO(), Clock()
    told = JsonLines(file, clock=clock)
    told.begin("x", 10)
    clock.now = 2
    told.advance(4)
    told.waiting("y")
    told.end()
    events = [json.loads(line) for line in lines(file)]
    assert [event["event"] for event in events] == ["begin", "progress", "waiting", "stopped"]
    assert events[1] == {
        "event": "progress",
        "step": "x",
        "done": 4,
        "total": 10,
        "unit": "bytes",
        "perSecond": 2.0,
        "failed": 0,
    }
    assert events[2]["waitingFor"] == "y"


def test_bars_on_a_terminal_of_80_columns_stay_within_it():
    outside, inside = pty.openpty()
    os.set_blocking(outside, False)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(inside, "w") as terminal:
        bars = Bars(terminal)
        bars.waiting("nothing has begun yet")
        bars.begin("fetching 3 blobs", 30 * MIB)
        for name in ("sha256:aaaaaaaaaaaa", "sha256:bbbbbbbbbbbb"):
            bars.item(name, 10 * MIB, f"cert-manager/image-{name[-3:]}")
            bars.advance(5 * MIB, name)
        bars.waiting("quay.io asked to wait 30 s")
        bars.item_end("sha256:aaaaaaaaaaaa")
        bars.item_end("unknown")
        bars.advance(1 * MIB, "unknown")
        bars.end()
        shown = ""
        while select.select([outside], [], [], 1)[0]:  # a terminal hands on what was written when it pleases
            shown += os.read(outside, 100_000).decode()
    os.close(outside)
    assert "fetching 3 blobs" in shown
    assert "  cert-manager/image-bbb  50% " in shown
    assert "sha256:" not in shown
    assert "fetching 3 blobs: stopped at 11.0 MiB of 30.0 MiB after 0 s" in shown
    assert "quay.io asked to wait 30 s" in shown
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80


def test_what_was_there_before_says_nothing_about_the_rate():
    file, clock = io.StringIO(), Clock()
    plain = Plain(file, clock=clock)
    plain.begin("fetching 2 blobs", 100 * MIB)
    plain.advance(60 * MIB, moved=False)
    plain.item("sha256:abc", 5, "cert-manager/operator")
    plain.item("sha256:def", 5, "cert-manager/webhook")
    clock.now = 10
    plain.advance(20 * MIB, "sha256:abc")
    assert lines(file)[1:] == [
        "fetching 2 blobs: 80.0 MiB of 100.0 MiB, 2.0 MiB/s, 10 s left; cert-manager/operator and 1 more"
    ]
    plain.advance(20 * MIB)
    plain.end()
    assert lines(file)[2:] == ["fetching 2 blobs: done, 100.0 MiB in 10 s"]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("what", ["fetching 182 blobs", "looking for the signatures of 12345 manifests", "  " + "名" * 60])
@pytest.mark.parametrize("unit", ["bytes", "manifests"])
def test_the_line_of_a_bar_fits(columns, what, unit):
    values = {"n": 61 * MIB, "total": 243 * MIB, "unit": unit, "prefix": what, "ncols": columns, "rate": None, "initial": 0}
    for postfix in ("", "nothing for 3 h 05 min", ENDED):
        line = meter(values | {"elapsed": 31.0, "postfix": postfix})
        assert cells(line) < columns
        if columns >= 80 and unit == "bytes" and postfix != ENDED:
            assert " 25%" in line
            assert "61.0 MiB of 243.0 MiB, 2.0 MiB/s" in line
            assert ("92 s left" in line) == (not postfix and not what.startswith(" "))


def test_more_items_than_lines_are_counted_but_not_shown():
    file = io.StringIO()
    bars = Bars(file)
    bars.begin("x", 100)
    for number in range(10):
        bars.item(f"item-{number}", 10)
        bars.advance(10, f"item-{number}")
    bars.end()
    assert "item-5" in file.getvalue()
    assert "item-6" not in file.getvalue()
    assert "x: done, 100 B in 0 s" in file.getvalue()


@pytest.mark.parametrize(
    ("style", "kind"), [("auto", Plain), ("plain", Plain), ("json", JsonLines), ("bar", Bars), ("none", Silent)]
)
def test_styles(style, kind):
    assert isinstance(progress_for(Style(style), io.StringIO()), kind)


def test_silent_progress_writes_nothing(capsys):
    silent = progress_for(Style.NONE)
    silent.begin("x", 1)
    silent.item("a", 1)
    silent.advance(1, "a")
    silent.item_end("a")
    silent.waiting("b")
    silent.end()
    assert capsys.readouterr() == ("", "")


def test_a_stalled_step_is_reported_in_a_log():
    file, clock = io.StringIO(), Clock()
    told = Plain(file, interval_s=0.01, clock=clock)
    told.begin("fetching 3 blobs", 30 * MIB)
    told.advance(10 * MIB)
    clock.now = 45
    for _ in range(500):  # without any progress
        if len(lines(file)) > 1:
            break
        time.sleep(0.01)
    told.end()
    assert lines(file)[1] == "fetching 3 blobs: 10.0 MiB of 30.0 MiB, 227.6 KiB/s, nothing for 45 s"
    after = len(lines(file))
    time.sleep(0.05)
    assert len(lines(file)) == after, "and ends with the step"


def test_a_stalled_step_is_shown_on_a_terminal():
    file = io.StringIO()
    bars = Bars(file, stall_s=0.02)
    bars.begin("fetching 3 blobs", 30 * MIB)
    for _ in range(500):
        if "nothing for" in file.getvalue():
            break
        time.sleep(0.01)
    bars.end()
    assert re.search(r"nothing for \d+ s", file.getvalue())


@pytest.mark.parametrize("kind", [Bars, Plain, JsonLines])
def test_many_small_steps_are_few_lines(kind):
    """What it costs is counted: bars are drawn five times a second at most, lines come far less often."""
    file = io.StringIO()
    told, began = kind(file), time.monotonic()
    told.begin("fetching", 10**12)
    told.item("sha256:aaaa", 10**12)
    for _ in range(20_000):
        told.advance(256 * 1024, "sha256:aaaa")
    took = time.monotonic() - began
    told.end()
    written = re.split(r"[\r\n]+", file.getvalue())
    assert len(written) < 12 + 2 * took / 0.2
    assert "4.9 GiB" in file.getvalue() or str(20_000 * 256 * 1024) in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (7 * 3600 + 299, "7 h 05 min")]
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_step_with_nothing_to_do_is_not_shown_to_people():
    for make in (Plain, Bars):
        file = io.StringIO()
        shown = make(file)
        shown.begin("pushing 0 blobs", 0)
        shown.end()
        assert file.getvalue() == ""
        shown.begin("reading a catalog", 0)  # of unknown size
        shown.end()
        assert "reading a catalog" in file.getvalue()
