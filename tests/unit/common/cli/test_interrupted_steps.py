"""The advice after Ctrl-C, by the steps that a command has begun."""

from __future__ import annotations

import pytest

from common.cli.summary import Measured
from common.progress import Silent, step

NOTHING = "Nothing was changed by this step; run the same command again."
KEPT = "Completed work is kept; run the same command again to continue."


@pytest.mark.parametrize(
    ("ended", "stopped", "said"),
    [
        (["look"], "", ""),
        (["look"], "look", NOTHING),
        (["look"], "keep", KEPT),
        (["look", "keep"], "", KEPT),
        (["look", "keep"], "look", KEPT),
        ([], "look", NOTHING),
        ([], "keep", KEPT),
        ([], "", ""),
    ],
)
def test_the_advice_depends_on_the_steps(ended, stopped, said):
    measured = Measured(Silent())
    for what in ended:
        with step(measured, what, 2, "items", kept=what == "keep"):
            measured.advance(2)
    if stopped:
        with pytest.raises(KeyboardInterrupt), step(measured, stopped, 2, "items", kept=stopped == "keep"):
            measured.advance(1)
            raise KeyboardInterrupt
        assert measured.steps[-1].ended is not None
    assert measured.kept() == said
