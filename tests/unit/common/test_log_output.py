"""The log: secrets in every form in which a server may send them back, and a log file that cannot be written any more."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from common import log
from common.log import Secrets
from tests.fakes import hostile
from tests.fakes.commands import run
from tests.samples import more

# Values of this kind are what password generators give; the last has the longest forms, and the first is no UTF-8 alone.
PASSWORDS = ["Sup3r/sec+ret=&<x>\"y'z %~", *more(["pässwörd/9", "a:b@c?d#e", "====/=", "per%cent\\back\tslash", "🔑🔑🔑🔑"])]


def forms(secret: str) -> dict[str, str]:
    """Return what registries and proxies echo: parts of URLs, forms, headers, JSON and pages of errors."""
    raw = secret.encode()
    packed, user = base64.b64encode(raw).decode(), base64.b64encode(b"me:" + raw).decode()
    return {
        "raw": secret,
        "quoted twice": quote(quote(secret, safe=""), safe=""),
        "quote": quote(secret),
        "quote, all": quote(secret, safe=""),
        "quote, lower case": quote(secret, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
        "form": quote_plus(secret),
        "path of Go": quote(secret, safe="$&+=:@!'()*,;~"),
        "base64": packed,
        "base64 without padding": packed.rstrip("="),
        "base64 of URLs": base64.urlsafe_b64encode(raw).decode(),
        "basic": user,
        "basic without padding": user.rstrip("="),
        "basic in a URL": quote(user, safe=""),
        "JSON": json.dumps(secret)[1:-1],
        "JSON, UTF-8": json.dumps(secret, ensure_ascii=False)[1:-1],
        "JSON of PHP": json.dumps(secret).replace("/", r"\/")[1:-1],
        "JSON of Go": json.dumps(secret).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")[1:-1],
        "HTML": html.escape(secret),
        "HTML of Go": html.escape(secret).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        "HTML without quotes": html.escape(secret, quote=False),
    }


@pytest.mark.parametrize("secret", PASSWORDS)
def test_a_secret_is_masked_in_every_form(secret: str) -> None:
    known = Secrets()
    known.add(secret)
    known.add(base64.b64encode(f"me:{secret}".encode()).decode())
    for name, form in forms(secret).items():
        said = known.mask(f"denied for <{form}>, again [{form}]")
        assert form not in said, name
        assert said.startswith("denied for <***"), f"{name}: {said}"


def test_ordinary_text_stays() -> None:
    known = Secrets()
    for secret in ("", "a", "abc", "x" * 2000):
        known.add(secret)
    assert known.mask("a, abc, YWJj and %2F stay") == "a, abc, YWJj and %2F stay"
    assert known.mask("x" * 2000) == "***"


def test_many_tokens_take_memory_of_their_size() -> None:
    """A push of hours gets thousands of bearer tokens: of an opaque one there is one form, of its base64 none."""
    known = Secrets()
    known.add("ey" + "J" * 2000)
    assert len(known._known) == 1


def test_a_log_file_on_a_full_disk_is_given_up_with_one_warning() -> None:
    """Linux, full(4): writing to /dev/full gives ENOSPC."""
    shown = io.StringIO()
    log.configure("error", Path("/dev/full"), shown)
    logger = logging.getLogger("exporter.some")
    for number in range(3):
        logger.info("record %d", number)
    logger.error("one that is shown")
    warning, last = shown.getvalue().splitlines()
    assert warning == "WARNING /dev/full: the log file cannot be written, and ends here: No space left on device"
    assert last == "ERROR one that is shown"


def steady(text: str) -> str:
    """Return a text without the time and the rate of the run."""
    return re.sub(r"^(checked .*?) at .*$", r"\1", text, flags=re.MULTILINE)


def test_a_command_whose_log_file_is_on_a_full_disk_ends_as_without_it(tmp_path: Path) -> None:
    volume = tmp_path / "volume-0001.tar.zst"
    volume.write_bytes(hostile.volume(hostile.compact(hostile.inventory())))
    asked = ("hub-import", "verify", tmp_path)
    result, usual = run(*asked, "--log-file", "/dev/full"), run(*asked)
    assert (result.status, steady(result.stdout)) == (usual.status, steady(usual.stdout))
    assert "Logging error" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if "the log file cannot be written" in line]) <= 1


def test_a_log_file_that_cannot_be_opened_is_an_error_before_the_work(tmp_path: Path) -> None:
    result = run("hub-import", "inspect", tmp_path, "--log-file", tmp_path / "no" / "log")
    assert result.status == 2
    assert result.stderr.startswith(
        f"error: --log-file {tmp_path}/no/log: cannot be written: No such file or directory\n  Name"
    )
