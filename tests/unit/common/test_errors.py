"""Every error of the tree says what next, and the tree is drawn as it is."""

from __future__ import annotations

import inspect
import re

import pytest

from common import errors
from common.errors import HubError

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, HubError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_without_a_hint_says_what_usually_helps(kind):
    error = kind("it failed")
    assert error.advice.endswith(".")
    assert len(error.advice) > 20
    assert str(error) == "it failed", "in a list of many, only what is known of this one"
    assert kind("it failed", hint="Mend it.").advice == "Mend it."


def test_the_tree_is_drawn_as_it_is():
    drawn = dict(re.findall(r"(\w+Error) +(\d+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__: str(int(kind.exit_code)) for kind in CLASSES}
