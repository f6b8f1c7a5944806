"""One example of each kind runs in `make test`; further ones of the same kind are marked `more` and run in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def more(values: Iterable[Any]) -> list[Any]:
    """Return parameters that only `make test-all` runs: other seeds, releases or pages of a kind that is already tested."""
    values = list(values)
    # A parameter within a parameter would reach the test as its value, and only in `make test-all`.
    assert not any(isinstance(value, type(pytest.param())) for value in values), "more() takes values, not parameters"
    return [pytest.param(value, marks=pytest.mark.more) for value in values]


# Each differs in what apply writes: OperatorSources and no server-side apply (4.3), ImageContentSourcePolicy (4.12),
# ImageDigestMirrorSet with grpcPodConfig (4.18), extractContent and the default-deny NetworkPolicy (4.20).
RELEASES = ["4.3", "4.12", "4.18", "4.20", *more(["4.5", "4.6", "4.8", "4.13", "4.14", "4.15"])]
