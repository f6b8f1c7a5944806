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
from tests.fakes.cluster import FakeCluster, Fault
from tests.fakes.commands import Result, run
from tests.fakes.registry import FakeRegistry
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


def catalog(folder: Path) -> Path:
    """Write a catalog whose package, channel, bundles and texts are EVIL."""
    parts = [{"type": "olm.package", "value": {"packageName": EVIL, "version": "1.0.0"}}]
    image = "quay.io/a/b@" + DIGEST
    blobs = [
        {"schema": "olm.package", "name": EVIL, "defaultChannel": EVIL},
        {"schema": "olm.channel", "package": EVIL, "name": EVIL, "entries": [{"name": EVIL}]},
        {
            "schema": "olm.bundle",
            "package": EVIL,
            "name": EVIL,
            "image": image,
            "properties": parts,
            "relatedImages": [{"image": EVIL}],
        },
        {"schema": f"{EVIL}", "package": EVIL, "name": EVIL},
    ]
    folder.mkdir()
    (folder / "catalog.json").write_text("\n".join(json.dumps(blob) for blob in blobs))
    return folder


@pytest.mark.parametrize("options", [["--explain"], *more([["--package", "x\x1b\u202e\n"], ["--format", "json"], ["--heads"]])])
def test_a_catalog_is_listed_without_hidden_characters(tmp_path: Path, options: list[str]) -> None:
    require_clean(run("hub-export", "list", "--catalog", catalog(tmp_path / "c"), *options, "--log-level", "debug"))


def test_a_registry_and_its_log_say_nothing_hidden(tmp_path: Path) -> None:
    """The text of an error of the distribution specification is the registry's own; it reaches messages and the log file."""
    with FakeRegistry() as registry:
        body = json.dumps({"errors": [{"code": EVIL, "message": EVIL, "detail": EVIL}]}).encode()
        registry.fault("GET", "/manifests/", times=100, status=403, body=body)
        file = tmp_path / "log"
        said = ("--catalog", f"{registry.host}/a/b:c", "--insecure", registry.host, "--progress", "plain", "--log-file", file)
        result = run("hub-export", "list", *said, "--log-level", "debug")
    assert result.status == 5, result.stderr
    require_clean(result)
    require_clean(Result(0, file.read_text(encoding="utf-8"), ""))


@pytest.mark.parametrize("command", ["status", *more(["doctor", "undo"])])
def test_an_api_server_says_nothing_hidden(tmp_path: Path, command: str) -> None:
    """The message of a Status (Kubernetes API conventions, *Response Status Kind*) is the server's own, or a proxy's."""
    body = json.dumps({"kind": "Status", "status": "Failure", "message": EVIL, "reason": EVIL, "code": 403}).encode()
    with FakeCluster("4.18") as cluster:
        config = cluster.kubeconfig(tmp_path)
        cluster.faults.append(Fault("GET", "", status=403, times=1000, body=body, content_type="application/json"))
        result = run("hub-import", command, "--kubeconfig", config, "--log-level", "debug")
    assert result.status == 6, result.stderr
    require_clean(result)


def test_a_name_of_a_file_says_nothing_hidden(tmp_path: Path) -> None:
    """A medium is written by strangers, too: its names are shown when something is wrong with it."""
    folder = archive(tmp_path / "in")
    (folder / "volume-0002\x1b[2J\nforged line.tar.zst").write_bytes(b"x" * 1024)
    for name in ("inspect", "verify"):
        require_clean(run("hub-import", name, folder))


@pytest.mark.parametrize("shape", ["table", *more(["json"])])
def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path, shape: str) -> None:
    """Python Library Reference, PYTHONIOENCODING and codecs.backslashreplace_errors: the usual handler of stdout raises."""
    env = {"PYTHONIOENCODING": "ascii:strict"}
    result = run("hub-import", "inspect", archive(tmp_path / "in"), "--format", shape, env=env)
    assert result.status == 0, result.stderr
    assert result.stdout.isascii()
    if shape == "json":
        assert json.loads(result.stdout)["tool"] == EVIL
    else:
        assert r"M\xfcller \u682a" in result.stdout
