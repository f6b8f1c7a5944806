"""Verification of OpenPGP messages, next to gpgv of Debian: samples, tamperings, forms, keys and limits."""

from __future__ import annotations

import random
import shutil

import pytest

from common.errors import SignatureError
from common.openshift import openpgp as packets
from exporter.releases.signing import public_keys
from exporter.releases.signing.openpgp import verify
from tests.fakes import openpgp as fakes
from tests.fakes.openpgp import (
    BORN,
    DAY,
    SAMPLES,
    Gpgv,
    compressed,
    literal,
    old,
    packet,
    partial,
    plain,
    sample,
    signer,
    statement,
)
from tests.samples import more

TEXT = b'{"critical": {}}'
LATER = BORN + 10 * DAY
needs_gpgv = pytest.mark.skipif(shutil.which("gpgv") is None, reason="no gpgv")


@pytest.fixture(scope="module")
def keys():
    return [
        *public_keys.shipped(okd=False),
        *public_keys.shipped(okd=True),
        *public_keys.load(fakes.DATA / "keys" / "oc-mirror-test-release-pk.asc"),
    ]


@pytest.fixture(scope="module")
def gpgv(tmp_path_factory):
    return Gpgv(tmp_path_factory.mktemp("published"), *fakes.published_keys())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Our verifier and gpgv with one key that was made here."""
    raw = signer().key()
    return public_keys.read_keys(raw, "own"), Gpgv(tmp_path_factory.mktemp("own"), raw)


def accepted(message, keys, **options):
    """Return the content, or None."""
    try:
        return verify(message, keys, **{"expired": True, **options}).content
    except SignatureError:
        return None


# The published samples.


@needs_gpgv
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name[:16])
def test_samples_have_the_verdict_of_gpgv(path, keys, gpgv):
    found = verify(path.read_bytes(), keys, expired=True)
    assert found.content == gpgv.content(path.read_bytes())
    assert path.name.split(".sha256-")[1].partition(".")[0].encode() in found.content


SIGNED_BY = {
    "ocp-4.15.0": "567E347AD0044ADE55BA8A5F199E2F91FD431D51",
    "albo-bundle": "567E347AD0044ADE55BA8A5F199E2F91FD431D51",
    "rhel7": "567E347AD0044ADE55BA8A5F199E2F91FD431D51",
    "ocp-ci": "D04761B116203B0C0859B61628B76E05B923888E",
    "oc-mirror-test": "FC358FA834ABE2517DFCC5AEF53FAEFBECBD6FD9",
}


@pytest.mark.parametrize("name", SIGNED_BY)
def test_the_key_of_a_sample(name, keys):
    assert verify(sample(name), keys, expired=True).key.fingerprint == SIGNED_BY[name]


def flipped(raw, at, bit=1):
    return raw[:at] + bytes((raw[at] ^ bit,)) + raw[at + 1 :]


def swapped(raw, keys):
    """Return a message with the content of another one, which has the same signer."""
    first, second = (list(packets.packets(plain(each), 1 << 20)) for each in (raw, sample("albo-bundle")))
    return b"".join(packet(each.tag, each.body) for each in (first[0], second[1], first[2]))


# What the README of the samples asks for, and neighbours. Each is done to the packets, which are compressed again.
TAMPERED = {
    "a byte of the content": lambda raw: flipped(raw, raw.index(b'"critical"') + 30),
    "a byte of the signature": lambda raw: flipped(raw, len(raw) - 20),
    "the last byte of the signature": lambda raw: flipped(raw, len(raw) - 1),
    "the last ten bytes": lambda raw: raw[:-10],
    "half of it": lambda raw: raw[: len(raw) // 2],
    "a second literal": lambda raw: raw + packet(11, literal(TEXT)),
    "a second literal, old format": lambda raw: raw + old(11, literal(TEXT)),
    "a literal before it": lambda raw: packet(11, literal(TEXT)) + raw,
    "the whole twice": lambda raw: raw + raw,
    "the signature twice": lambda raw: raw + packet(2, list(packets.packets(raw, 1 << 20))[2].body),
    "no signature": lambda raw: packet(4, raw[2:15]) + packet(11, literal(TEXT)),
    "only a literal": lambda _: packet(11, literal(TEXT)),
    "bytes after it": lambda raw: raw + b"\x01\x02",
    "no content": lambda _: b"",
}


@needs_gpgv
@pytest.mark.parametrize("name", ["ocp-4.15.0", "ocp-ci", *more(["rhel7", "albo-bundle", "oc-mirror-test"])])
def test_tampered_samples_are_refused_as_gpgv_does(name, keys, gpgv):
    raw = plain(sample(name))
    for kind, tamper in TAMPERED.items():
        for message in (tamper(raw), compressed(tamper(raw))):
            assert gpgv.content(message) is None or kind == "the signature twice", kind
            assert accepted(message, keys) is None, kind
    assert accepted(compressed(raw), keys) == gpgv.content(compressed(raw)) != None  # noqa: E711


@needs_gpgv
def test_the_content_of_another_signature(keys, gpgv):
    message = swapped(sample("ocp-4.15.0"), keys)
    assert accepted(message, keys) is gpgv.content(message) is None


@pytest.mark.parametrize("after", [b"\0", packet(11, literal(TEXT)), old(11, literal(TEXT)), b"anything"])
def test_what_follows_the_end_of_a_compressed_packet_is_refused(after, keys):
    """gpgv does not read it: a compressed packet of GnuPG has no length, and its stream says where it ends."""
    assert accepted(sample("ocp-4.15.0") + after, keys) is None


def unsigned_fields(raw):
    """Return the places of a message that its signature does not cover, and whose damage changes nothing for gpgv."""
    first, second, third = packets.packets(raw, 1 << 20)
    start_of_signature = len(raw) - len(third.body)
    head = len(raw) - len(third.body) - len(second.body)
    announced = range(len(first.body) + 2)
    hashed = 6 + int.from_bytes(third.body[4:6], "big") if third.body[0] == 4 else 17
    loose = hashed + 2 + int.from_bytes(third.body[hashed : hashed + 2], "big") if third.body[0] == 4 else 17
    return {
        *announced,
        *range(head - 16, head + 40),
        *range(start_of_signature - 3, start_of_signature + 3),
        *range(start_of_signature + hashed, start_of_signature + loose + 4),
    }


@needs_gpgv
@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("ocp-ci", 29),
        pytest.param("ocp-4.15.0", 23, marks=pytest.mark.more),
        *[pytest.param(name, 1, marks=pytest.mark.more) for name in SIGNED_BY],
    ],
)
def test_flipped_bytes_have_the_verdict_of_gpgv(name, every, keys, gpgv):
    """Nothing is accepted that gpgv refuses; and what gpgv accepts and we do not is no part of what is signed."""
    raw = plain(sample(name))
    good, loose = gpgv.content(raw), unsigned_fields(raw)
    for at in range(every // 2, len(raw), every):
        message = flipped(raw, at, random.Random(at).choice((1, 2, 4, 8, 16, 32, 64, 128)))
        ours, theirs = accepted(message, keys), gpgv.content(message)
        assert ours in (None, good), at
        assert theirs in (None, good), at
        assert ours == theirs or (ours is None and at in loose), at


@pytest.mark.parametrize("name", [*more(["rhel7", "oc-mirror-test"]), "albo-bundle"])
def test_a_damaged_file_says_what_it_says_or_nothing(name, keys):
    raw = sample(name)
    good = accepted(raw, keys)
    assert {accepted(flipped(raw, at, 1 << at % 8), keys) for at in range(len(raw))} <= {good, None}


# Forms of a message.


# Lambdas: what is made when a module is imported costs each process of a test run.
FORMS = {
    "version 4": lambda: signer().message(TEXT),
    "version 3": lambda: signer().message(TEXT, version=3),
    "SHA-384": lambda: signer().message(TEXT, digest="sha384"),
    "SHA-512, version 3": lambda: signer().message(TEXT, digest="sha512", version=3),
    "parts of a byte": lambda: signer().message(TEXT, parts=partial),
    "parts of 512 bytes": lambda: signer().message(TEXT * 100, parts=lambda tag, body: partial(tag, body, 9)),
    "old packets": lambda: signer().message(TEXT, parts=old),
    "old packets, four bytes of length": lambda: signer().message(TEXT, parts=lambda tag, body: old(tag, body, 2)),
    "empty": lambda: signer().message(b""),
    "ZIP": lambda: compressed(signer().message(TEXT)),
    "ZLIB": lambda: compressed(signer().message(TEXT), 2),
    "ZLIB in parts": lambda: compressed(signer().message(TEXT), 2, lambda tag, body: partial(tag, body, 9)),
    "ZIP with a length": lambda: compressed(signer().message(TEXT), 1, packet),
    "a lifetime": lambda: signer().message(TEXT, more=statement(3, (30_000 * DAY).to_bytes(4, "big"))),
    "a fingerprint": lambda: signer().message(TEXT, more=of_fingerprint()),
    "a fingerprint alone": lambda: signer().message(TEXT, more=of_fingerprint(), loose=b""),
    "a notation": lambda: signer().message(TEXT, more=statement(20, b"\x80\0\0\0\0\x03\0\x01a@bc")),
    "a critical lifetime": lambda: signer().message(TEXT, more=statement(3, bytes(4), critical=True)),
}


def of_fingerprint():
    return statement(33, b"\x04" + bytes.fromhex(signer().fingerprint))


@needs_gpgv
@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_accepted(form, own):
    keys, gpgv = own
    message = FORMS[form]()
    content = verify(message, keys).content
    assert content == gpgv.content(message)
    assert content in (TEXT, TEXT * 100, b"")


def ops_and(*rest):
    return packet(4, signer().one_pass()) + b"".join(rest)


def with_number(number):
    """Return the body of a good signature with another number."""
    body = signer().signature(TEXT)
    return body[: -len(packets.read_signature(body).number) - 2] + fakes.mpi(number)


REFUSED = {
    "SHA-1": lambda: (signer().message(TEXT, digest="sha1"), "SHA-1"),
    "SHA-1, version 3": lambda: (signer().message(TEXT, digest="sha1", version=3), "SHA-1"),
    "a foreign key": lambda: (signer("foreign").message(TEXT), "which is none of 1 key"),
    "the ID of a known key": lambda: (signer("foreign").message(TEXT, issuer=signer().key_id).replace(signer("foreign").one_pass(), signer().one_pass()), "does not belong"),
    "no issuer": lambda: (signer().message(TEXT, loose=b""), "announced"),
    "over text": lambda: (signer().message(TEXT, kind=1), "type 0x01"),
    "of a key": lambda: (signer().message(TEXT, kind=0x13), "type 0x13"),
    "a detached signature": lambda: (packet(2, signer().signature(TEXT)), "not one signature"),
    "the signature first": lambda: (packet(2, signer().signature(TEXT)) + packet(11, literal(TEXT)), "not one signature"),
    "announced for another key": lambda: (packet(4, signer().one_pass(issuer=bytes(8))) + packet(11, literal(TEXT)) + packet(2, signer().signature(TEXT)), "announced"),
    "announced with another digest": lambda: (packet(4, signer().one_pass(digest="sha512")) + packet(11, literal(TEXT)) + packet(2, signer().signature(TEXT)), "announced"),
    "a critical statement": lambda: (signer().message(TEXT, more=statement(99, b"x", critical=True)), "critical"),
    "a critical user ID": lambda: (signer().message(TEXT, more=statement(28, b"tests", critical=True)), "critical"),
    "a critical statement, unsigned": lambda: (signer().message(TEXT, loose=statement(16, signer().key_id) + statement(99, b"", critical=True)), "critical"),
    "two times": lambda: (signer().message(TEXT, more=statement(2, bytes(4))), "twice"),
    "a short time": lambda: (signer().message(TEXT, more=statement(3, b"x")), "not in its form"),
    "two keys": lambda: (signer().message(TEXT, more=statement(33, b"\x04" + bytes(20))), "different keys"),
    "an expired signature": lambda: (signer().message(TEXT, more=statement(3, (DAY).to_bytes(4, "big"))), "the signature expired on 2020-09-15"),
    "compressed twice": lambda: (compressed(compressed(signer().message(TEXT))), "not one signature"),
    "bzip2": lambda: (packet(8, b"\x03BZh9"), "algorithm 3"),
    "not compressed": lambda: (packet(8, b"\x01nothing of that"), "decompress"),
    "an empty compressed packet": lambda: (packet(8, b""), "ends early"),
    "an armored one": lambda: (b"-----BEGIN PGP MESSAGE-----\n\n" + b"owGb" * 9 + b"\n-----END PGP MESSAGE-----\n", "not an OpenPGP packet"),
    "JSON": lambda: (TEXT, "not an OpenPGP packet"),
    "HTML": lambda: (b"<!DOCTYPE html><html>", "not an OpenPGP packet"),
    "nothing": lambda: (b"", "not one signature"),
    "partial lengths of a signature": lambda: (ops_and(packet(11, literal(TEXT)), partial(2, signer().signature(TEXT))), "partial"),
    "something after the number": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, signer().signature(TEXT) + b"\0")), "follows the signature"),
    "version 6": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, b"\x06" + signer().signature(TEXT)[1:])), "version 6"),
    "Ed25519": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, b"\x04\x00\x16" + signer().signature(TEXT)[3:])), "not RSA"),
    "an empty literal packet": lambda: (ops_and(packet(11, b""), packet(2, signer().signature(b""))), "ends early"),
    "a long number": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, with_number(1 << 4095))), "does not belong"),
    "the number 0": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, with_number(0))), "does not belong"),
    "the number 1": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, with_number(1))), "does not belong"),
    "the modulus": lambda: (ops_and(packet(11, literal(TEXT)), packet(2, with_number(signer().private.public_key().public_numbers().n))), "does not belong"),
    "before the key was made": lambda: (signer().message(TEXT, made=BORN - 1), "before the key"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_and_why(kind, own):
    message, why = REFUSED[kind]()
    with pytest.raises(SignatureError, match=why):
        verify(message, own[0], now=LATER)


# Where gpgv is more lenient: SHA-1, forms that the cluster does not read, and fields that gpgv does not look at.
LENIENT = {
    *("SHA-1", "SHA-1, version 3", "over text", "compressed twice", "the signature first", "announced for another key"),
    *("something after the number", "two keys", "two times"),
}


@needs_gpgv
def test_gpgv_refuses_the_rest_of_these_too(own):
    lenient = {kind for kind, case in REFUSED.items() if own[1].content(case()[0]) is not None}
    assert lenient <= LENIENT


# Keys.


def test_an_expired_key():
    """library-go does not look at the expiry of a key (openshift/library-go, pkg/verify/verify.go): OKD was signed so."""
    keys = public_keys.read_keys(signer().key(lifetime=5 * DAY), "ring")
    message = signer().message(TEXT)
    assert verify(message, keys, now=BORN + 4 * DAY).note == ""
    with pytest.raises(SignatureError, match=r"signed on 2020-09-14 with the key .*, which expired on 2020-09-18"):
        verify(message, keys, now=LATER)
    assert "expired on 2020-09-18" in verify(message, keys, now=LATER, expired=True).note


def test_the_expired_key_of_openshift_ci(keys):
    assert "(openshift-ci), which expired on 2021-04-21" in verify(sample("ocp-ci"), keys, expired=True).note
    with pytest.raises(SignatureError, match="expired on 2021-04-21"):
        verify(sample("ocp-ci"), keys)


@pytest.mark.parametrize("options", [{"revoked": True}, {"revoked": True, "lifetime": 5 * DAY}])
def test_a_revoked_key_is_never_accepted(options):
    keys = public_keys.read_keys(signer().key(**options), "ring")
    with pytest.raises(SignatureError, match="is revoked"):
        verify(signer().message(TEXT), keys, expired=True)


def test_a_key_that_may_not_sign():
    keys = public_keys.read_keys(signer().key(flags=0x0C), "ring")
    with pytest.raises(SignatureError, match="not for signatures"):
        verify(signer().message(TEXT), keys)


@needs_gpgv
@pytest.mark.parametrize("options", [{}, {"digest": "sha512"}, {"flags": 0x0E}])
def test_a_subkey_that_signs(options, tmp_path):
    sub = signer("sub")
    raw = signer().key(extra=fakes.subkey(signer(), sub, **options))
    found = verify(sub.message(TEXT), public_keys.read_keys(raw, "ring"))
    assert found.content == Gpgv(tmp_path, raw).content(sub.message(TEXT)) == TEXT
    assert (found.key.fingerprint, found.key.primary) == (sub.fingerprint, signer().fingerprint)
    assert str(found.key) == f"{sub.fingerprint} (tests <tests@example.test>), a subkey of {signer().fingerprint}"


def binding(sub, **options):
    """Return only the packet that binds a subkey."""
    return packet(2, list(packets.packets(fakes.subkey(signer(), sub, **options), 1 << 20))[1].body)


SUBKEYS = {
    "alone": lambda: packet(14, signer("sub").body),
    "for encryption": lambda: fakes.subkey(signer(), signer("sub"), flags=0x0C),
    "for encryption since": lambda: fakes.subkey(signer(), signer("sub")) + binding(signer("sub"), flags=12, made=BORN + DAY),
    "by SHA-1": lambda: fakes.subkey(signer(), signer("sub"), digest="sha1"),
    "bound by another key": lambda: fakes.subkey(signer("foreign"), signer("sub")),
    "signed back by another key": lambda: fakes.subkey(signer(), signer("sub"), back=signer("foreign")),
    "with the binding of another subkey": lambda: packet(14, signer("sub").body) + binding(signer("foreign")),
}


@needs_gpgv
@pytest.mark.parametrize("kind", SUBKEYS)
def test_a_subkey_that_is_not_bound_for_signatures(kind, tmp_path):
    raw = signer().key(extra=SUBKEYS[kind]())
    message = signer("sub").message(TEXT)
    with pytest.raises(SignatureError, match=f"a subkey of {signer().fingerprint} .* that is not bound"):
        verify(message, public_keys.read_keys(raw, "ring"))
    assert Gpgv(tmp_path, raw).content(message) is None or kind == "by SHA-1"


@pytest.mark.parametrize(
    ("options", "more_", "why"),
    [
        ({"revoked": True}, {}, "revoked"),
        ({}, {"revoked": True}, "revoked"),
        ({"lifetime": 5 * DAY}, {}, "expired on 2020-09-18"),
        ({}, {"more": statement(9, (2 * DAY).to_bytes(4, "big"))}, "expired on 2020-09-15"),
        ({"lifetime": 5 * DAY}, {"more": statement(9, (2 * DAY).to_bytes(4, "big"))}, "expired on 2020-09-15"),
    ],
    ids=range(5),
)
def test_a_subkey_is_restricted_by_both_keys(options, more_, why):
    raw = signer().key(**options, extra=fakes.subkey(signer(), signer("sub"), **more_))
    with pytest.raises(SignatureError, match=why):
        verify(signer("sub").message(TEXT), public_keys.read_keys(raw, "ring"), now=LATER)


def test_a_subkey_of_a_key_that_another_file_revokes():
    whole = public_keys.read_keys(signer().key(extra=fakes.subkey(signer(), signer("sub"))), "ring")
    revoked = public_keys.read_keys(signer().key(revoked=True), "revoked")
    with pytest.raises(SignatureError, match="revoked"):
        verify(signer("sub").message(TEXT), public_keys.united((*whole, *revoked)))


@pytest.mark.parametrize("name", ["redhat-release-sha1-selfsig.asc"])
def test_the_older_form_of_a_key_verifies_the_same(name):
    """Its self-signature is made with SHA-1, which strict libraries refuse (OCPBUGS-48314); the key is the same."""
    (older,) = public_keys.load(fakes.DATA / "keys" / name)
    assert older == public_keys.shipped(okd=False)[0]
    assert verify(sample("rhel7"), [older]).key.user == "Red Hat, Inc. (release key 2) <security@redhat.com>"


# Limits.


def noise(size):
    return random.Random(size).randbytes(size)


def test_the_size_of_a_message(own):
    fits = packets.MAX_MESSAGE - len(signer().message(b"")) - 8
    message = signer().message(noise(fits))
    message += b""
    assert len(message) <= packets.MAX_MESSAGE
    assert accepted(message, own[0]) == noise(fits)
    with pytest.raises(SignatureError, match="larger than 51200 bytes"):
        verify(message + bytes(packets.MAX_MESSAGE + 1 - len(message)), own[0])


@pytest.mark.parametrize("parts", [packet, lambda tag, body: partial(tag, body, 10)])
def test_the_size_of_a_packet(parts, own):
    head = len(literal(b""))
    fits = signer().message(bytes(packets.MAX_BODY - head), parts=parts)
    assert len(verify(compressed(fits), own[0]).content) == packets.MAX_BODY - head
    with pytest.raises(SignatureError, match="larger than those"):
        verify(compressed(signer().message(bytes(packets.MAX_BODY - head + 1), parts=parts)), own[0])


@pytest.mark.parametrize("algorithm", [1, 2])
def test_the_size_of_decompressed_content(algorithm, own):
    with pytest.raises(SignatureError, match="more than 1048576 bytes"):
        verify(compressed(bytes(packets.MAX_DECOMPRESSED + 1), algorithm), own[0])
    with pytest.raises(SignatureError, match="not an OpenPGP packet"):
        verify(compressed(bytes(packets.MAX_DECOMPRESSED), algorithm), own[0])


def test_many_small_packets_are_not_read(own):
    with pytest.raises(SignatureError, match="not one signature"):
        verify(compressed(packet(11, b"") * 500_000), own[0])
