"""Programs that a benchmark needs beside this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def missing_said(what: str) -> Iterator[None]:
    """Print which program is missing, and go on: without it nothing is measured, and a table stays as it is."""
    try:
        yield
    except pytest.skip.Exception as missing:  # of `require`, which skips a test
        print(f"\n{what}: not measured: {missing}", flush=True)
