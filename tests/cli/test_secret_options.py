"""Secrets reach a command by a file, standard input or the environment; ps shows arguments to every user (proc(5))."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.commands import run

ASKED = ("build-catalog", "--from", "127.0.0.1:1/a/b:c", "--to", "127.0.0.1:1/a/b:d", "--appregistry-org", "x")
THERE = ("--appregistry-endpoint", "http://127.0.0.1:1/cnr", "--insecure")
WARNING = "warning: --auth-token is visible in the process list"


@pytest.mark.parametrize(
    ("options", "stdin", "env", "warned"),
    [
        (["--auth-token-file", "-"], "basic dG9rZW4=\n", {}, False),
        pytest.param([], None, {"HUB_EXPORT_AUTH_TOKEN": "basic dG9rZW4="}, False, marks=pytest.mark.more),
        (["--auth-token", "basic dG9rZW4="], None, {}, True),
    ],
)
def test_a_token_on_the_command_line_is_warned_of(options, stdin, env, warned) -> None:
    result = run("hub-export", *ASKED, *THERE, *options, stdin=stdin, env={**env, "HUB_REGISTRY_PATIENCE": "1"})
    assert result.status == 5, result.stderr
    assert (WARNING in result.stderr) is warned


@pytest.mark.parametrize(
    ("options", "stdin", "said"),
    [
        (["--auth-token-file", "-"], "", "--auth-token-file: standard input is empty"),
        (
            ["--auth-token-file", "/nonexistent/token"],
            None,
            "--auth-token-file: /nonexistent/token: cannot be read: No such file",
        ),
        (["--auth-token-file", "-", "--auth-token", "x"], "y", "--auth-token-file and --auth-token at once"),
        pytest.param(
            ["--auth-token-file", "/"], None, "--auth-token-file: /: cannot be read: Is a directory", marks=pytest.mark.more
        ),
    ],
)
def test_no_token_is_a_usage_error(options, stdin, said) -> None:
    result = run("hub-export", *ASKED, *THERE, *options, stdin=stdin)
    assert (result.status, result.stderr.startswith(f"error: {said}")) == (2, True), result.stderr


def test_a_token_that_is_no_text_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe\n")
    result = run("hub-export", *ASKED, *THERE, "--auth-token-file", tmp_path / "token")
    assert (result.status, result.stderr.partition("\n")[0].endswith("cannot be read: it is no text")) == (2, True), (
        result.stderr
    )
