"""--platform and --filter-by-os: an expression of oc, and an architecture alone, are answered with the platforms to write."""

from __future__ import annotations

import time

import pytest

from common.errors import UsageError
from exporter.cli.options import platforms_of
from tests.samples import more

ALL = "--platform linux/amd64 --platform linux/arm64 --platform linux/ppc64le --platform linux/s390x"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("linux/(amd64|arm64)", "Once for each: --platform linux/amd64 --platform linux/arm64"),
        ("amd64", "Wanted: --platform linux/amd64"),
        ("linux", f"Leave it out for all platforms, or name each: {ALL}"),
        *(
            pytest.param(*row, marks=pytest.mark.more)
            for row in [
                ("linux/.*", f"Leave it out for all platforms, or name each: {ALL}"),
                ("^linux/amd64$", "Wanted: --platform linux/amd64"),
                ("(?:amd64)", "Wanted: --platform linux/amd64"),
                ("linux/amd64,linux/arm64", "Once for each: --platform linux/amd64 --platform linux/arm64"),
                ("amd64|s390x", "Once for each: --platform linux/amd64 --platform linux/s390x"),
                ("x86_64", "Wanted: --platform linux/amd64"),
                ("aarch64", "Wanted: --platform linux/arm64"),
                ("LINUX/amd64", "Wanted: --platform linux/amd64"),
                ("windows", "Wanted: os/architecture, for example linux/amd64"),
                ("linux/(amd64", "Wanted: os/architecture, for example linux/amd64"),
                ("[[a]", "Wanted: os/architecture, for example linux/amd64"),
            ]
        ),
    ],
)
def test_an_expression_is_answered_with_its_platforms(text, hint):
    with pytest.raises(UsageError, match="not a platform") as caught:
        platforms_of([text])
    assert caught.value.hint == hint


def test_all_and_single_platforms_are_taken():
    assert platforms_of([".*"]) == ()
    assert [str(one) for one in platforms_of(["linux/amd64", "linux/arm/v7"])] == ["linux/amd64", "linux/arm/v7"]


@pytest.mark.parametrize("text", ["(((.*)*)*)*x!", ".*" * 39 + "!", *more(["(" * 80, "(a|" * 25 + "$", "l?" * 40])])
def test_the_time_of_an_expression_is_bounded(text):
    began = time.process_time()
    with pytest.raises(UsageError, match="not a platform"):
        platforms_of([text])
    assert time.process_time() - began < 1
