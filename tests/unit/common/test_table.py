"""Tables on a terminal of any width: what is folded, what is cut, and what a pipe gets."""

from __future__ import annotations

import random
import shlex
import time

import pytest

from common.table import CommandLine, Verbatim, cells, columns, cut, fitted, folded

PACKAGE = "openshift-cert-manager-operator"
HEAD = f"{PACKAGE}.v1.15.0-202410101010.p0.g1234567.el9"
CHANNELS = [
    ("PACKAGE", "CHANNEL", "HEAD", "VERSIONS", "NAME"),
    (PACKAGE, "stable-v1", HEAD, "12", "cert-manager Operator for Red Hat OpenShift"),
    (PACKAGE, "stable-v1.15", HEAD, "2", "cert-manager Operator for Red Hat OpenShift"),
    ("etcd", "beta", "etcd.v0.9.4", "1", "日本語 🔐"),
]


def test_a_pipe_gets_every_column_of_every_row():
    assert [str(line) for line in columns(CHANNELS[:1] + CHANNELS[3:], ((0,),), (4,))] == [
        "PACKAGE  CHANNEL  HEAD         VERSIONS  NAME",
        "etcd     beta     etcd.v0.9.4  1         日本語 🔐",
    ]
    assert [line.split()[0] for line in columns(CHANNELS, ((0,),), (4,))] == ["PACKAGE", PACKAGE, PACKAGE, "etcd"]


def test_a_wide_terminal_leaves_out_what_repeats():
    shown = fitted(columns(CHANNELS, ((0,),), (4,)), 200)
    assert [line[:10].strip() for line in shown] == ["PACKAGE", "openshift-", "", "etcd"]
    assert "cert-manager Operator" not in shown[2]


def test_what_repeats_is_a_line_above_its_rows():
    assert fitted(columns(CHANNELS, ((0,),), (4,)), 100) == [
        "PACKAGE  NAME",
        "  CHANNEL       HEAD                                                                  VERSIONS",
        f"{PACKAGE}  cert-manager Operator for Red Hat OpenShift",
        f"  stable-v1     {HEAD}  12",
        f"  stable-v1.15  {HEAD}  2",
        "etcd  日本語 🔐",
        "  beta          etcd.v0.9.4                                                           1",
    ]


def test_a_cell_that_is_wider_than_its_column_moves_the_next_ones():
    assert fitted(columns(CHANNELS, ((0,),), (4,)), 80)[2:5] == [
        f"{PACKAGE}  cert-manager Operator for Red Hat OpenShift",
        "  stable-v1",
        f"      {HEAD}  12",
    ]


def test_text_is_folded_at_words_and_sizes_stay_whole():
    rows = [("OPERATOR", "ADDS", "WHY"), ("a" * 30, "1.4 MiB", "required by " + "b" * 20 + " 1.15.0: package x >=1.0.0")]
    shown = fitted(columns(rows), 70)
    assert shown[1:] == [
        "a" * 30 + "  1.4 MiB  required by",
        " " * 41 + "b" * 20 + " 1.15.0:",
        " " * 41 + "package x >=1.0.0",
    ]


def test_columns_that_would_be_too_narrow_are_a_line_for_each_field():
    rows = [("BUNDLE", "VERSION", "REPLACES", "SKIPS"), (HEAD, "1.15.0", HEAD, f"{HEAD},{HEAD}")]
    assert fitted(columns(rows), 80) == [
        f"BUNDLE: {HEAD}",
        "  VERSION: 1.15.0",
        f"  REPLACES: {HEAD}",
        f"  SKIPS: {HEAD},",
        f"    {HEAD}",
    ]


def test_a_column_without_a_value_takes_no_room():
    rows = [("OUTCOME", "KIND", "CHANGED BY OTHERS SINCE"), ("deleted", "CatalogSource", ""), ("restored", "x" * 50, "")]
    assert fitted(columns(rows), 80) == [
        "OUTCOME   KIND",
        "deleted   CatalogSource",
        "restored  " + "x" * 50,
    ]
    assert columns(rows)[0].endswith("CHANGED BY OTHERS SINCE"), "a pipe has every column"


def test_only_a_cell_that_is_longer_than_the_terminal_is_cut():
    rows = [("NAME", "PAYLOAD"), ("one", "registry.example/" + "a" * 100)]
    assert fitted(columns(rows), 80)[1:] == ["one", "    registry.example/" + "a" * 58 + "…"]


@pytest.mark.parametrize("size", [70, 75, 79, 80, 81, 120])
def test_a_name_that_fits_the_terminal_is_whole_at_every_place(size):
    """A name of 75 cells was cut for its indentation, and lost its version."""
    version = ".v1.15.0"
    name = "x" * (size - len(version)) + version
    heading = ("PACKAGE", "BUNDLE", "VERSION", "REPLACES", "SKIPS")
    shapes = {
        "a level": (columns([heading, (name, "b.v1", "1", "", "a" * 60)], ((0,),)), 1),
        "an inner level": (columns([heading, ("p", name, "1", "c" * 30, "a" * 60)], ((0,), (1,))), 1),
        "a cell": (columns([heading, ("p", name, "1.15.0", "b.v1", "")], ((0,),)), 1),
        "two cells": (columns([heading, ("p", name, "1.15.0", name, "")], ((0,),)), 2),
        "a list": (columns([heading, ("p", "b", "1", "c", f"{name}, {'y' * 90}, z")], ((0,),)), 1),
        "fields": (columns([heading, ("p" * 40, "b" * 40, "1" * 40, name, "a" * 40)]), 1),
    }
    for what, (lines, times) in shapes.items():
        shown = fitted(lines, 80)
        assert max(map(cells, shown)) <= 80, what
        words = [word.rstrip(",") for line in shown for word in line.split()]
        # The comma of a list takes a cell too.
        whole = size <= 80 - (what == "a list")
        assert words.count(name) == (times if whole else 0), (what, shown)
        assert whole or any(len(word) > 70 and word.endswith("…") for word in words), (what, shown)


@pytest.mark.parametrize("width", [1, 20, 40, 80, 120, 200])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(width):
    rng = random.Random(width)
    words = [
        "",
        "a",
        "1.4 MiB",
        PACKAGE,
        HEAD,
        "sha256:" + "f" * 64,
        "日本語オペレーター",
        "e\u0301" * 9,
        "🔐🔐",
        "a,b,c," + HEAD,
    ]
    for _ in range(60):
        rows = [tuple(" ".join(rng.choices(words, k=rng.randrange(3))) for _ in range(5)) for _ in range(4)]
        known = {piece for row in rows for cell in row for word in cell.split() for piece in (word, *word.split(","))}
        for levels in ((), ((0,),), ((0,), (1, 2))):
            for line in fitted(columns(rows, levels), width):
                assert cells(line) <= max(width, 20)
                for word in line.split():
                    plain = word.strip(",:")
                    assert any(each.startswith(plain.rstrip("…")) for each in known) if "…" in word else plain in known | {""}


def test_wide_characters_and_accents_are_counted_as_a_terminal_does():
    assert [cells(text) for text in ("abc", "日本", "e\u0301", "🔐", "ß")] == [3, 4, 1, 2, 1]
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"


def test_prose_is_folded_with_its_indentation_and_a_long_path_stays_whole():
    path = "/" + "a" * 60
    assert folded(f"  fix: use {path} then", 40) == ["  fix: use", f"    {path}", "    then"]
    assert folded("short", 40) == ["short"]


def test_commands_continue_and_files_are_not_folded():
    command = CommandLine("next: hub-import deploy /media/stick --registry registry.example:5000/ocp")
    assert fitted([command], 50) == ["next: hub-import deploy /media/stick \\", "  --registry registry.example:5000/ocp"]
    assert fitted([Verbatim("+  - source: " + "a " * 40)], 50) == ["+  - source: " + "a " * 40]


def test_hidden_characters_are_escaped_before_they_are_measured():
    assert fitted(columns([("A", "B"), ("\x1b[31m", "x")]), 80) == ["A         B", r"\x1b[31m  x"]


def test_one_long_name_is_no_blanks_in_each_row():
    """A catalog with 20,000 channels and one name of a megabyte would be 20 GB of blanks."""
    lines = columns([("NAME", "HEAD"), *[("a", "b")] * 2000, ("x" * 100_000, "c")])
    assert lines[-1] == "x" * 100_000 + "  c"
    assert lines[1] == "a" + " " * 201 + "b"


def test_a_huge_cell_costs_no_more_than_its_characters():
    lines = columns([("A", "B", "C"), ("x" * 1_500_000, "b" * 1_500_000, "c")])
    began = time.process_time()
    assert max(map(len, fitted(lines, 80))) <= 80
    assert time.process_time() - began < 1.2


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_command_that_continues_is_the_same_command(width):
    """sh(1), *Quoting*: a backslash inside of single quotes stays, and a blank after a comma ends the word."""
    words = [
        "hub-export",
        "create",
        "--output",
        "/media/my stick's/week 47",
        "--package",
        ",".join(f"operator-{n}" for n in range(9)),
    ]
    shown = "\n".join(fitted([CommandLine(f"  {shlex.join(words)}")], width))
    assert "\\\n" in shown
    assert shlex.split(shown.replace("\\\n", "")) == words
