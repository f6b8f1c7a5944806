"""Text of strangers where it leaves the program: terminal, progress, log, JSON and YAML.

Reversed text: CVE-2021-42574. Escape sequences: ECMA-48. A terminal also ends lines at U+0085 and U+2028 (Unicode Standard, 5.8).
"""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from common import log, target_profile
from common.archive import receipt, rerequest
from common.archive.receipt import Receipt
from common.archive.rerequest import ReRequest
from common.cli import terminal
from common.errors import CatalogError, HubError, UsageError, one_error
from common.progress import AboveBars, Bars, JsonLines, Plain
from common.serialization import dump_yaml, load_yaml_documents, pretty_json
from common.table import columns
from common.target_profile import TargetProfile, TargetRegistry
from common.text import sanitize, visible, visible_json
from importer.cluster.finding import Finding

HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
EVIL = "a\x1b[2J\x9b2J\x1b]0;t\x07\r\nerror: forged\n\u2028error: forged\u202eb\u200b\U000e0041\ue000\x7f\x85 Müller 株式会社"
# All characters, and those that matter more often than by chance.
TEXTS = st.lists(st.one_of(st.characters(), st.sampled_from(EVIL), st.sampled_from("\ud800\udfff\\\"'\t"))).map("".join)


def hidden(text: str) -> set[str]:
    return {hex(ord(sign)) for sign in text if unicodedata.category(sign) in HIDDEN}


@given(TEXTS)
def test_nothing_hidden_is_left_and_what_is_honest_stays(text: str) -> None:
    shown = visible(text)
    assert not hidden(shown)
    assert visible(shown) == shown
    if not hidden(text):
        assert shown == text


@given(TEXTS)
def test_json_means_the_same(text: str) -> None:
    shown = visible_json(json.dumps({"k": [text]}, ensure_ascii=False, indent=2))
    assert not hidden(shown.replace("\n", ""))
    # JSON has no other form for two surrogates that make a pair than for the character that they are (RFC 8259, 7).
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(shown) == {"k": [joined]}


@given(TEXTS)
def test_files_of_json_hide_nothing(text: str) -> None:
    """Receipts, re-requests, profiles and plans leave a network after a person has looked at them (CVE-2021-42574)."""
    raw = pretty_json({"k": [text], "l": "Müller"})
    assert not hidden(raw.decode().replace("\n", ""))
    assert json.loads(raw)["k"] == [text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")]


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Bidi_Control (Unicode Standard Annex 9, 2)


def test_every_control_of_direction_is_hidden_at_every_edge() -> None:
    for sign in BIDI:
        text = f"a{sign}b"
        profile = TargetProfile("m", None, None, (), TargetRegistry(text, None, None, None), (text,))
        said = Receipt("m", (), (), {text: ()}, text)
        asked = ReRequest("m", text, {text: text}, (), (), ())
        shown = [visible(text), sanitize(text, 9), visible_json(json.dumps(text, ensure_ascii=False)), dump_yaml({text: text})]
        files = [target_profile.encode(profile), receipt.encode(said), rerequest.encode(asked)]
        assert not [each for each in (*shown, *map(bytes.decode, files)) if sign in each], hex(ord(sign))


@given(TEXTS)
def test_yaml_means_the_same(text: str) -> None:
    shown = dump_yaml({"k": [text], text: 1})
    assert not hidden(shown.replace("\n", "").replace("\t", ""))
    # YAML has no surrogates, so a reader refuses what a file of Kubernetes cannot have either.
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        assert list(load_yaml_documents(shown, "k")) == [({"k": [text], text: 1} if text != "k" else {"k": 1})]


def test_columns_are_aligned_as_they_are_shown() -> None:
    assert columns([("A", "B"), ("\x1b\n", "x")]) == ["A       B", "\\x1b\\n  x"]


def printed(capsys: pytest.CaptureFixture[str], error: HubError) -> list[str]:
    terminal.tell_error(error)
    return capsys.readouterr().err.split("\n")


def test_no_line_of_an_error_is_forged(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, HubError(EVIL, hint=EVIL))) == 3, "message, hint, and the end of the last line"
    lines = printed(capsys, CatalogError("OLM would refuse:", details=[EVIL, EVIL], hint="Choose.\nerror: forged"))
    assert [line[:2] for line in lines] == ["er", "  ", "  ", "  ", ""]
    both = one_error("f", [UsageError(f"f: {EVIL}"), one_error("f", [UsageError(EVIL), UsageError("g")])])
    assert len(printed(capsys, both)) == 6
    assert len(str(both).split("\n")) == 5
    assert not hidden("".join([*lines, *printed(capsys, both)]))


def test_a_finding_has_the_lines_of_its_evidence_and_no_other() -> None:
    finding = Finding("c", EVIL, EVIL, (EVIL, EVIL), EVIL)
    assert len(finding.lines) == 4
    assert len(finding.text.split("\n")) == 4
    assert not hidden(finding.text.replace("\n", ""))


def test_a_trace_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        int(f"{EVIL}")
    except ValueError as error:
        error.add_note(EVIL)
        terminal.tell_trace()
    said = capsys.readouterr().err
    assert "  Traceback" in said
    assert all(line.startswith("  ") for line in said.rstrip("\n").split("\n"))
    assert not hidden(said.replace("\n", ""))


def test_a_record_of_the_log_is_one_line(tmp_path: Path) -> None:
    shown = io.StringIO()
    log.configure("info", tmp_path / "log", AboveBars(shown))
    logger = logging.getLogger("common.some")
    logger.info("%s: %s", EVIL, HubError(EVIL, hint="Do this."))
    try:
        int(f"{EVIL}")
    except ValueError as error:
        error.add_note(EVIL)
        logger.exception("defect")
    for handler in logger.parent.handlers:
        handler.close()
    written = (tmp_path / "log").read_text(encoding="utf-8")
    for text in (shown.getvalue(), written):
        assert not hidden(text.replace("\n", ""))
        assert "Müller 株式会社" in text
        first, second, *trace = text.rstrip("\n").split("\n")
        assert ("INFO" in first, "ERROR" in second) == (True, True)
        assert all(line.startswith("  ") for line in trace)
    assert len(trace) > 2


@pytest.mark.parametrize("kind", [Plain, JsonLines, Bars])
def test_progress_is_visible(kind: Any) -> None:
    screen = io.StringIO()
    shown = kind(screen)
    shown.begin(EVIL, 10)
    shown.item(EVIL, 5)
    shown.advance(10, EVIL)
    shown.waiting(EVIL)
    shown.item_end(EVIL)
    shown.end()
    said = screen.getvalue()
    # tqdm moves the cursor itself, with CR, CSI A and newlines.
    assert not hidden(
        said.replace("\x1b[A", "").replace("\r", "").replace("\n", "") if kind is Bars else said.replace("\n", "")
    )
    assert not [line for line in said.split("\n") if line.startswith("error")]
    if kind is JsonLines:
        assert json.loads(said.split("\n")[0])["step"] == EVIL


def test_a_result_with_bytes_of_a_path_that_are_not_utf8_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """PEP 383: such bytes of an argument are lone surrogates, which no UTF-8 has."""
    terminal.show_json({"archive": "/media/\udcff", "x": EVIL})
    said = capsys.readouterr().out
    assert json.loads(said) == {"archive": "/media/\udcff", "x": EVIL}
    assert not hidden(said.replace("\n", ""))
