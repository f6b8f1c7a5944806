"""`Warning` headers (KEP-1693): what is read of them, and what a webhook may not do with them."""

from __future__ import annotations

import time

import pytest

from importer.cluster.api.server_warnings import LONGEST, MAX_WARNINGS, WarningLog, texts_of, warned
from importer.cluster.apply import apply
from importer.cluster.release import Release
from tests.fakes.wanted import catalog_source


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ('299 - "would violate PodSecurity \\"restricted:latest\\""', ['would violate PodSecurity "restricted:latest"']),
        ('299 - "one", 299 kube-apiserver "two, with a comma"', ["one", "two, with a comma"]),
        ('110 proxy "Response is stale"', []),
        ('299 - "open', []),
        ('299 - ""', []),
        ('299 - "\x1b[31mred\u202e\ttab"', ["[31mred tab"]),
        ('299 - "back\\\\slash" "Wed, 21 Oct 2026 07:28:00 GMT"', ["back\\slash"]),
        ("", []),
    ],
)
def test_texts_are_those_of_code_299_on_one_line(header, texts):
    assert list(texts_of([header])) == texts


def test_a_text_is_given_out_once_and_not_without_bounds():
    log = WarningLog()
    log.hear(['299 - "same"', '299 - "same"'])
    assert log.take() == ("same",)
    log.hear(['299 - "same"'])
    assert log.take() == ()
    log.hear([f'299 - "{number}{"x" * 1000}"' for number in range(MAX_WARNINGS + 5)])
    taken = log.take()
    assert len(taken) == MAX_WARNINGS - 1
    assert {len(text) for text in taken} == {LONGEST}


def test_a_header_of_any_form_takes_no_time():
    began = time.process_time()
    for header in ('299 - "' + "\\" * 60_000, "299 - " * 20_000, '299 - "' * 20_000):
        assert set(texts_of([header])) <= {"299 -"}
    assert time.process_time() - began < 2


def test_a_dry_run_has_them_by_object_and_the_write_does_not_repeat_them(start):
    cluster, client = start()
    cluster.warnings.append(("catalogsources", "would violate PodSecurity"))
    said = []
    dry = apply(client, [catalog_source()], release=Release(4, 18), dry_run=True, tell=said.append)
    (found,) = warned(dry.changes)
    assert (found.code, found.severity, found.evidence) == ("server-warning", "warning", ("would violate PodSecurity",))
    said.clear()
    cluster.warnings.append(("catalogsources", "only with the write"))
    done = apply(client, [catalog_source()], release=Release(4, 18), dry_run=False, tell=said.append)
    assert [each.evidence for each in warned(done.changes)] == [("only with the write",)]
    assert said[0] == "warning of the API server: only with the write"
