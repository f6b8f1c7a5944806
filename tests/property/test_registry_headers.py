"""What a registry sends in headers may be anything; reading it never fails in a way of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.registry.http.auth import Challenge, parse_challenges
from common.retry import MAX_RETRY_AFTER_S, retry_after_s

_VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


@given(st.text(max_size=300))
def test_any_challenge_can_be_read(text):
    assert all(challenge.scheme == challenge.scheme.lower() != "" for challenge in parse_challenges([text]))


@given(_VALUE, _VALUE, _VALUE)
def test_quoted_challenges_come_back(realm, service, scope):
    def quoted(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = f"Basic, Bearer realm={quoted(realm)},service={quoted(service)}, scope={quoted(scope)}"
    assert parse_challenges([text]) == [Challenge("basic"), Challenge("bearer", realm, service, scope)]


@given(st.one_of(_VALUE, st.integers().map(str), st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT"))))
def test_any_pause_is_bounded(text):
    pause = retry_after_s(text, 1_700_000_000.0)
    assert 0 <= pause <= MAX_RETRY_AFTER_S
