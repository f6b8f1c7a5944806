from __future__ import annotations

import pytest

from common.registry.http.auth import MAX_HEADER, Challenge, parse_challenges

CASES = [
    ('Bearer realm="https://a/token",service="s",scope="x:y:pull,push"', [Challenge("bearer", "https://a/token", "s", "x:y:pull,push")]),
    ('bearer REALM="https://a"', [Challenge("bearer", "https://a")]),
    ('Basic realm="a \\"b\\", c"', [Challenge("basic", 'a "b", c')]),
    ("Basic realm=plain", [Challenge("basic", "plain")]),
    ("Basic", [Challenge("basic")]),
    ('Basic realm="x", Bearer realm="https://a",service="s"', [Challenge("basic", "x"), Challenge("bearer", "https://a", "s")]),
    ('Negotiate, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", "x")]),
    ('Bearer realm = "https://a" , service = "s"', [Challenge("bearer", "https://a", "s")]),
    ('Bearer realm="https://a",error="insufficient_scope"', [Challenge("bearer", "https://a")]),
    ("", []),
    (",,,", []),
    ('="x"', []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), CASES)
def test_challenges(text, wanted):
    assert parse_challenges([text]) == wanted


def test_several_headers():
    assert [c.scheme for c in parse_challenges(["Basic", "Bearer"])] == ["basic", "bearer"]


def test_long_headers_are_left_out():
    """A challenge that was cut would ask for half of a scope, or at half of an address."""
    assert parse_challenges(['Bearer realm="' + "a" * MAX_HEADER + '"']) == []
    realm = "a" * (MAX_HEADER - len('Bearer realm=""'))
    assert parse_challenges([f'Bearer realm="{realm}"']) == [Challenge("bearer", realm)]
