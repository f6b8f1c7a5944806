"""The wait after an import: for operators that were well, and no longer than that may help."""

from __future__ import annotations

import itertools
from dataclasses import replace

from importer.cluster.api.client import UnavailableError
from importer.operators.installed import Csv, Extension, Installed, Sources, Subscribed
from importer.operators.settling import LONGEST_S, settle, waited_for
from importer.operators.table import Result, Row

HERE = ("openshift-marketplace", "mirrored")
ONE = Subscribed("team", "a", "alpha", HERE, "alpha.v1")
ROW = Row(
    *("Subscription", "alpha", "team", "a", "alpha.v1", "1.0.0", "Succeeded", "", "Automatic", "mirrored", "mirrored"),
    *("stable", "alpha.v2", ("alpha.v2",), Result.UPDATES),
    well=True,
)


def seen(one, phase="Succeeded"):
    return Installed([one], Sources({}, HERE[0]), {("team", one.installed): Csv("", phase)})


def waiting(rows, states, timeout_s=3600.0):
    """Wait while the cluster has one of `states` after the other, the last of them for ever."""
    times, lines = itertools.count(0.0, 5.0), []
    answers = itertools.chain(states, itertools.repeat(states[-1]))

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    left = settle(rows, look, lines.append, timeout_s=timeout_s, clock=lambda: next(times), sleep=lambda _seconds: None)
    return left, lines, next(times)


def test_an_update_ends_when_the_last_version_of_its_path_is_well():
    new = replace(ONE, installed="alpha.v2")
    away = UnavailableError("cannot reach it")
    left, lines, _ = waiting([ROW], [seen(ONE), away, seen(new, "Installing"), seen(new)])
    assert (left, len(lines)) == ([], 2)
    assert "alpha.v2 is not installed yet" in lines[0]


def test_an_operator_that_does_not_get_well_is_said_after_a_bounded_time():
    left, _, ended_s = waiting([ROW], [seen(replace(ONE, installed="alpha.v2"), "Failed")])
    assert [each.finding.evidence for each in left] == [("alpha.v2 is Failed",)]
    assert ended_s <= LONGEST_S + 30
    left, _, ended_s = waiting([ROW], [seen(replace(ONE, plan_failure="DeadlineExceeded"))])
    assert (left[0].text, ended_s < 30) == ("DeadlineExceeded", True)
    assert waiting([ROW], [seen(ONE)], timeout_s=20.0)[2] <= 40


def test_manual_approvals_are_not_waited_for():
    waits = replace(ONE, current="alpha.v2", plan="install-x", needs_approval=True)
    assert waiting([replace(ROW, result=Result.WAITS)], [seen(waits)])[0] == []


def test_only_what_was_well_and_keeps_a_way_is_waited_for():
    others = [replace(ROW, well=False), *(replace(ROW, result=each) for each in (Result.ORPHANED, Result.STRANDED))]
    assert waited_for(others) == []
    gone = Installed([], Sources({}, HERE[0]))
    assert waiting([ROW], [gone])[0] == []
    extension = replace(ROW, kind="ClusterExtension", name="a", result=Result.UNCHANGED, path=())
    ill = Installed([], Sources({}, HERE[0]), extensions=[Extension("a", "team", "alpha", installed="alpha.v1")])
    well = replace(ill, extensions=[replace(ill.extensions[0], healthy=True)])
    assert [len(waiting([extension], [each], 20.0)[0]) for each in (ill, well)] == [1, 0]


def test_an_update_of_olm_v1_is_waited_for():
    """`Installed` stays true while an update fails: Progressing has the reason Retrying (operator-controller, api/v1)."""
    row = replace(ROW, kind="ClusterExtension", name="a")
    conditions = [
        {"type": "Installed", "status": "True"},
        {"type": "Progressing", "status": "True", "reason": "Retrying", "message": "CRD alphas: stored version is removed"},
    ]
    body = {
        "metadata": {"name": "a"},
        "spec": {"namespace": "team", "source": {"catalog": {"packageName": "alpha"}}},
        "status": {"conditions": conditions, "install": {"bundle": {"name": "alpha.v1", "version": "1.0.0"}}},
    }
    failing = Extension.of(body)
    there = Installed([], Sources({}, HERE[0]), extensions=[failing])
    left, _, _ = waiting([row], [there], 20.0)
    assert [each.text for each in left] == ["alpha.v1 is installed, alpha.v2 not yet: CRD alphas: stored version is removed"]
    done = replace(there, extensions=[replace(failing, installed="alpha.v2", trouble="")])
    assert waiting([row], [there, done])[0] == []
