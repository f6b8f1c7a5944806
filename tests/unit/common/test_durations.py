"""Durations on the command line and in variables: the words of Go's time.ParseDuration, which `oc` and `kubectl` take."""

from __future__ import annotations

import pytest

from common.durations import seconds_of
from common.errors import UsageError
from common.registry.settings import RegistrySettings
from tests.fakes.commands import run

DAY = 24 * 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20), ("5m", 300), ("1h30m", 5400), ("45", 2700), ("0.5", 30), ("1.5h", 5400), ("1m0.5s", 60.5), (" 3m ", 180)],
)
def test_what_oc_takes_is_taken(text, seconds):
    assert seconds_of(text, "--timeout", unit="m", longest_s=DAY) == seconds


@pytest.mark.parametrize(
    "text", ["", "5d", "5M", "m", "5m x", "-5m", "1:30", "٣m", "1e3", "5 m", "0", "0s", "25h", "9" * 5000, "1h30"]
)
def test_anything_else_is_refused_with_the_setting_and_an_example(text):
    with pytest.raises(UsageError) as caught:
        seconds_of(text, "--timeout", unit="m", longest_s=DAY)
    assert caught.value.message.startswith("--timeout")
    assert len(caught.value.message) < 200
    assert "1h30m" in caught.value.hint
    assert "45 minutes" in caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("10m", 600), ("24h", DAY)])
def test_the_patience_with_a_registry_is_a_duration_too(text, seconds):
    assert RegistrySettings(environ={"HUB_REGISTRY_PATIENCE": text}).outage_s == seconds


def test_a_command_refuses_a_wrong_one_before_it_does_anything():
    done = run("hub-import", "deploy", "/nowhere", "--registry", "mirror.example/ocp", "--timeout", "5 minutes")
    assert done.status == 2
    assert "--timeout: not a duration: '5 minutes'" in done.stderr
    again = run(*("hub-import", "apply", "/nowhere", "--registry", "mirror.example/ocp"), env={"HUB_IMPORT_TIMEOUT": "3w"})
    assert (again.status, "--timeout: not a duration: '3w'" in again.stderr) == (2, True)
