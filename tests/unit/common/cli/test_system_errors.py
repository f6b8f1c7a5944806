"""Errors of the system that no command expects: their exit status and advice."""

from __future__ import annotations

import errno
import os

import pytest
import typer
from typer.testing import CliRunner

from common.cli.options import command
from common.errors import ExitCode
from tests.samples import more


@pytest.mark.parametrize(
    "case",
    [
        (errno.ENOTCONN, ExitCode.FAILED, "/media/stick/x: the medium is gone: Transport endpoint is not connected\n  Connect"),
        (errno.EIO, ExitCode.FAILED, "/media/stick/x: Input/output error\n  Connect and mount it again, or choose another"),
        (errno.ENOSPC, ExitCode.SPACE, "No space left on device\n  Free some"),
        (errno.EACCES, ExitCode.FAILED, "Permission denied\n  Run it again with --log-level debug"),
        *more([(errno.ESTALE, 1, "gone"), (errno.ENODEV, 1, "gone"), (errno.ENXIO, 1, "gone"), (errno.EROFS, 1, "mount it")]),
    ],
)
def test_an_error_of_a_medium_says_what_to_do(case):
    """A stick of ntfs-3g that is pulled gives ENOTCONN (fuse(4))."""
    number, status, words = case
    app = typer.Typer()

    @command(app)
    def work() -> ExitCode:
        """Write to a stick."""
        raise OSError(number, os.strerror(number), "/media/stick/x")

    result = CliRunner().invoke(app, [])
    assert result.exit_code == status
    assert words in result.stderr
