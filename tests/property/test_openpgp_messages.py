"""OpenPGP: packets are read as they were written, in any form and in any parts; any bytes end in a message or a SignatureError."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from common.errors import SignatureError, UsageError
from common.openshift import openpgp
from common.openshift.release_signature import parse_signed
from exporter.releases.signing.public_keys import read_keys
from tests.fakes.openpgp import compressed, literal, old, packet, partial, plain, sample, statement

BODIES = st.binary(max_size=9000)
FORMS = st.one_of(
    st.just(packet),
    st.sampled_from([1, 2]).map(lambda kind: lambda tag, body: old(tag, body, kind)),
    st.integers(0, 12).map(lambda power: lambda tag, body: partial(tag, body, power)),
)


@given(st.lists(st.tuples(st.sampled_from([openpgp.LITERAL, openpgp.COMPRESSED]), BODIES, FORMS), max_size=5))
def test_packets_are_read_as_written(written):
    raw = b"".join(form(tag, body) for tag, body, form in written)
    assert [(each.tag, each.body) for each in openpgp.packets(raw, 9000)] == [(tag, body) for tag, body, _ in written]


@given(BODIES, FORMS, st.sampled_from([0, 1, 2]))
def test_the_content_of_a_message(content, form, algorithm):
    """The signature of a sample, over any content: it is read, and not verified."""
    first, _, last = openpgp.packets(plain(sample("ocp-4.15.0")), 1 << 20)
    message = packet(4, first.body) + form(11, literal(content, name=b"name")) + packet(2, last.body)
    found = openpgp.read_message(compressed(message, algorithm) if algorithm else message)
    assert found.content == content
    assert found.signature.issuer == "199E2F91FD431D51"


@given(st.binary(max_size=600))
def test_any_bytes(raw):
    for read in (parse_signed, openpgp.read_signature, lambda each: list(openpgp.packets(each, 600))):
        try:
            read(raw)
        except SignatureError:
            continue
    with contextlib.suppress(UsageError):
        assert read_keys(raw, "any")


@given(st.lists(st.tuples(st.integers(35, 127), st.binary(max_size=300)), max_size=9))
def test_statements_that_are_not_understood_change_nothing(extra):
    head = b"\x04\x00\x01\x08"
    signed = statement(2, b"\x5f\x5e\x10\x00") + b"".join(statement(kind, body) for kind, body in extra)
    loose = statement(16, bytes(8))
    rest = len(loose).to_bytes(2, "big") + loose + b"\x12\x34" + b"\0\x08\xff"
    found = openpgp.read_signature(head + len(signed).to_bytes(2, "big") + signed + rest)
    assert (found.created, found.issuer, found.lifetime, found.flags) == (1_600_000_000, "0" * 16, 0, None)
    assert found.hashed[:6] == head + len(signed).to_bytes(2, "big")
