"""The advice after Ctrl-C, by the steps that a command has begun."""

from __future__ import annotations

import pytest

from common.cli.summary import Measured
from common.progress import Silent

NOTHING = "Nothing was changed by this step; run the same command again."
KEPT = "Completed work is kept; run the same command again to continue."


@pytest.mark.parametrize(
    ("ended", "stopped", "said"),
    [
        (["looking up 2 images"], "", ""),
        (["looking up 2 images"], "looking for the signatures of 2 manifests", NOTHING),
        (["looking up 2 images"], "fetching 2 blobs", KEPT),
        (["looking up 2 images", "fetching 2 blobs"], "", KEPT),
        (["asking for 2 manifests", "deleting 2 manifests"], "", KEPT),
        (["asking for 2 manifests"], "deleting 2 manifests", KEPT),
        (["asking the mirror for 2 images", "pushing 2 blobs"], "asking for 2 blobs", NOTHING),
        ([], "checking 2 volumes", NOTHING),
        ([], "checking and repairing 2 volumes", KEPT),
        ([], "", ""),
    ],
)
def test_the_advice_depends_on_the_steps(ended, stopped, said):
    measured = Measured(Silent())
    for what in ended:
        measured.begin(what, 2, "items")
        measured.advance(2)
        measured.end()
    if stopped:
        measured.begin(stopped, 2, "items")
        measured.advance(1)
        measured.end()
    assert measured.kept() == said
