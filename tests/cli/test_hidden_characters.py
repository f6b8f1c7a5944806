"""Text of strangers on its way to a terminal, a log or a file: no hidden character arrives, and no line is forged.

Cursor movement, titles and line erasure: ECMA-48. Reversed text: CVE-2021-42574 (Unicode Technical Report 36, section 3).
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import hostile
from tests.fakes.commands import Result, run
from tests.samples import more

FORGED = "forged line"
# One text with each kind: CSI by ESC and by one character, a title with BEL, both line ends of terminals, the line separators of
# Unicode, reversed text, a soft hyphen, a byte order mark, a tag, a private character; and at the end text of honest publishers.
EVIL = f"a\x1b[2J\x9b2J\x1b]0;t\x07\r\n{FORGED}\n{FORGED}\x85\u2028{FORGED}\u202eb\u200b\xad\ufeff\U000e0041\ue000\x7f Müller 株式会社"
DIGEST = "sha256:" + "0" * 64
HONEST = "Müller 株式会社"


def require_clean(result: Result) -> None:
    """Fail for a hidden character, or a line that a stranger began."""
    for stream in (result.stdout, result.stderr):
        hidden = {sign for sign in stream if unicodedata.category(sign) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")} - {"\n"}
        assert not hidden, f"{[hex(ord(sign)) for sign in hidden]} in {stream[:2000]!r}"
        assert not [line for line in stream.split("\n") if line.lstrip().startswith(FORGED)], stream[:2000]
    assert "Traceback" not in result.stderr


def archive(folder: Path, **fields: Any) -> Path:
    """Write an archive of one volume, without content, whose inventory says EVIL wherever a text may stand."""
    channel = {"name": EVIL, "head": EVIL, "bundles": [{"name": EVIL, "version": EVIL}]}
    package = {"name": EVIL, "defaultChannel": EVIL, "channels": [channel]}
    problem = {"severity": "error", "code": EVIL, "subject": EVIL, "message": EVIL}
    catalog = {"source": EVIL, "digest": None, "image": DIGEST, "name": EVIL, "format": "sqlite", "filtered": True}
    said = {
        "created": EVIL,
        "tool": EVIL,
        "catalogs": [{**catalog, "packages": [package]}],
        "problems": [problem],
        **fields,
    }
    folder.mkdir(exist_ok=True)
    (folder / "volume-0001.tar.zst").write_bytes(hostile.volume(hostile.compact(hostile.inventory(**said))))
    return folder


@pytest.mark.parametrize("shape", ["table", *more(["json"])])
def test_an_inventory_is_shown_without_hidden_characters(tmp_path: Path, shape: str) -> None:
    result = run("hub-import", "inspect", archive(tmp_path / "in"), "--format", shape)
    assert result.status == 0, result.stderr
    assert HONEST in result.stdout
    require_clean(result)
    if shape == "json":
        assert json.loads(result.stdout)["tool"] == EVIL
