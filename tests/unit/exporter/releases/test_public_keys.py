"""Files of OpenPGP public keys: published ones, forms, restrictions, limits, and files that are none."""

from __future__ import annotations

import random

import pytest

from common.errors import UsageError
from exporter.releases.signing import public_keys
from exporter.releases.signing.public_keys import read_keys
from tests.fakes import openpgp as fakes
from tests.fakes.openpgp import BORN, DAY, armored, hashed_key, mpi, old, packet, signer, statement

RED_HAT = "567E347AD0044ADE55BA8A5F199E2F91FD431D51"
CI_4 = "6A9588F07F2D3AE7973AD2A9193E53CCD2E2F7A4"


def test_the_keys_of_the_product():
    """Those of openshift/cluster-update-keys: two of Red Hat, and four of OpenShift CI, of which three have expired."""
    red_hat, beta = public_keys.shipped(okd=False)
    assert (red_hat.fingerprint, red_hat.expiry) == (RED_HAT, "")
    assert beta.fingerprint == "B08B659EE86AF623BC90E8DB938A80CAF21541EB"
    assert [key.expiry for key in public_keys.shipped(okd=True)] == ["2021-04-21", "2023-04-27", "2025-03-29", "2027-03-31"]
    assert not any(key.revoked or not key.signs for okd in (False, True) for key in public_keys.shipped(okd=okd))


@pytest.mark.parametrize(("name", "last"), [("ocp", RED_HAT), ("okd", CI_4)])
def test_the_configmap_of_a_cluster_is_a_file_of_keys(name, last):
    """As `oc get configmap --output yaml` prints it: the armored block is indented, and has several keys."""
    found = public_keys.load(fakes.DATA / "keys" / f"release-verification-configmap-{name}.yaml")
    assert last in {key.fingerprint for key in found}
    assert {key.fingerprint for key in found} <= {key.fingerprint for key in public_keys.shipped(okd=name == "okd")}


def test_forms_of_a_file():
    raw = signer().key()
    (key,) = read_keys(raw, "ring")
    assert key.fingerprint == signer().fingerprint
    assert (key.user, key.created, key.expires, key.signs) == ("tests <tests@example.test>", BORN, 0, True)
    for form in (
        armored(raw),
        armored(raw, "Version: 1\nComment: x\n"),
        b"words\n" + armored(raw).replace(b"\n", b"\r\n"),
        raw + raw,
    ):
        assert read_keys(form, "ring") == (key,)
    both = armored(raw) + b"\nand\n" + armored(signer("two").key())
    assert [each.fingerprint for each in read_keys(both, "ring")] == [signer().fingerprint, signer("two").fingerprint]


def test_old_packets_and_keys_that_cannot_be_used_are_no_harm():
    ed25519 = packet(6, b"\x04" + bytes(4) + b"\x16" + bytes(40)) + packet(13, b"other")
    found = read_keys(ed25519 + old(6, signer().body, 1) + old(13, b"x", 0), "ring")
    assert [key.fingerprint for key in found] == [signer().fingerprint]
    assert found[0].user == "x"


def test_a_user_id_is_made_safe_to_print():
    (key,) = read_keys(signer().key(user="a\x1b[2J\u202eb\n c".encode() + b"\xff" + b"d" * 500), "ring")
    assert key.user.isprintable()
    assert len(key.user) <= 120


# Restrictions.


def certification(key, user=b"tests <tests@example.test>", **options):
    about = hashed_key(key.body) + b"\xb4" + len(user).to_bytes(4, "big") + user
    return packet(2, key.signature(about, kind=0x13, **options))


def lifetime(days):
    return statement(9, (days * DAY).to_bytes(4, "big"))


def test_the_latest_statement_of_a_key_counts():
    longer = certification(signer(), more=lifetime(20), made=BORN + 2 * DAY)
    (key,) = read_keys(signer().key(lifetime=5 * DAY) + longer, "ring")
    assert key.expires == BORN + 20 * DAY
    shorter = certification(signer(), more=lifetime(1), made=BORN + 3 * DAY)
    assert read_keys(signer().key(lifetime=5 * DAY, extra=longer + shorter), "ring")[0].expires == BORN + DAY
    assert read_keys(signer().key(lifetime=5 * DAY, extra=shorter + longer), "ring")[0].expires == BORN + DAY


@pytest.mark.parametrize(
    "forged",
    [
        lambda: certification(signer("foreign"), made=BORN + DAY),
        lambda: certification(signer("foreign"), made=BORN + DAY, issuer=signer().key_id),
        lambda: certification(signer("foreign"), made=BORN + DAY, loose=b""),
        lambda: certification(signer(), made=BORN + DAY, digest="sha1"),
        lambda: certification(signer(), b"another user", made=BORN + DAY),
        lambda: packet(2, b"\x04nothing"),
        lambda: packet(2, b""),
    ],
    ids=range(7),
)
def test_what_the_key_did_not_state_does_not_extend_it(forged):
    """A signature by SHA-1, which may be forged, counts only where there is no other."""
    (key,) = read_keys(signer().key(lifetime=5 * DAY, extra=forged()), "ring")
    assert key.expires == BORN + 5 * DAY


def test_a_self_signature_by_sha_1_restricts_the_key():
    (key,) = read_keys(signer().key(lifetime=5 * DAY, digest="sha1"), "ring")
    assert key.expires == BORN + 5 * DAY


def test_a_direct_signature_restricts_the_key():
    direct = packet(2, signer().signature(hashed_key(signer().body), kind=0x1F, more=lifetime(3)))
    assert read_keys(packet(6, signer().body) + direct + packet(13, b"x"), "ring")[0].expires == BORN + 3 * DAY


def test_a_key_that_is_there_twice_is_revoked_if_one_of_them_is():
    found = read_keys(signer().key() + signer().key(revoked=True) + signer().key(lifetime=DAY), "ring")
    assert [(key.revoked, key.expires) for key in found] == [(True, 0)]


def test_a_key_of_the_product_that_a_file_revokes_or_renews():
    """`united` is for the keys of the product, and those that are added."""
    old, new = read_keys(signer().key(lifetime=DAY), "old"), read_keys(signer().key(lifetime=9 * DAY), "new")
    revoked = read_keys(signer().key(revoked=True, lifetime=DAY), "revoked")
    assert public_keys.united((*old, *new)) == public_keys.united((*new, *old)) == new
    assert [key.revoked for key in public_keys.united((*old, *revoked, *new))] == [True]


def test_pictures_and_long_names_state_nothing():
    picture = packet(17, bytes(9)) + packet(
        2,
        signer().signature(
            hashed_key(signer().body) + b"\xd1" + bytes(3) + b"\x09" + bytes(9), kind=0x13, more=lifetime(1), made=BORN + DAY
        ),
    )
    name = b"n" * 8193
    long = packet(13, name) + certification(signer(), name, more=lifetime(1), made=BORN + DAY)
    assert read_keys(signer().key(lifetime=5 * DAY, extra=picture + long), "ring")[0].expires == BORN + 5 * DAY
    short = packet(13, name[1:]) + certification(signer(), name[1:], more=lifetime(1), made=BORN + DAY)
    assert read_keys(signer().key(lifetime=5 * DAY, extra=short), "ring")[0].expires == BORN + DAY


def test_a_revocation_by_another_key_is_none():
    other = packet(2, signer("foreign").signature(hashed_key(signer().body), kind=0x20))
    assert not read_keys(packet(6, signer().body) + other + packet(13, b"x"), "ring")[0].revoked


def test_the_revocation_of_a_subkey_is_none_of_the_key():
    extra = (
        packet(14, signer("sub").body)
        + packet(2, signer().signature(b"", kind=0x28))
        + packet(2, signer().signature(b"", kind=0x20))
    )
    (key,) = read_keys(signer().key(extra=extra), "ring")
    assert not key.revoked
    assert key.subkeys == {signer("sub").key_id.hex().upper()}


# Files that are refused.


def rsa(bits, exponent=65537):
    return packet(6, b"\x04" + bytes(4) + b"\x01" + mpi((1 << bits - 1) | 1) + mpi(exponent))


REFUSED = {
    "nothing": (lambda: b"", "there is no key"),
    "words": (lambda: b"no key\n", "there is no key"),
    "a private key": (lambda: packet(5, signer().body), "a private key"),
    "an armored private key": (
        lambda: b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n",
        "PRIVATE KEY BLOCK",
    ),
    "a PEM key": (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "there is no key"),
    "a message": (lambda: b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", "PGP MESSAGE"),
    "no end": (lambda: armored(signer().key()).partition(b"-----END")[0], "without an end"),
    "half a key": (lambda: signer().key()[:100], "ends early"),
    "no base64": (lambda: armored(signer().key()).replace(b"\n\n", b"\n\n!", 1), "not base64"),
    "a signature": (lambda: packet(2, signer().signature(b"x")), "a packet of type 2"),
    "an Ed25519 key": (lambda: packet(6, b"\x04" + bytes(4) + b"\x16" + bytes(40)), "algorithm 22, not RSA"),
    "an ElGamal key": (lambda: packet(6, b"\x04" + bytes(4) + b"\x10" + bytes(40)), "algorithm 16, not RSA"),
    "version 3": (lambda: packet(6, b"\x03" + signer().body[1:]), "version 3"),
    "version 6": (lambda: packet(6, b"\x06" + signer().body[1:]), "version 6"),
    "an empty packet": (lambda: packet(6, b""), "version 0"),
    "1024 bits": (lambda: rsa(1024), "1024 bits"),
    "2047 bits": (lambda: rsa(2047), "2047 bits"),
    "8193 bits": (lambda: rsa(8193), "8193 bits"),
    "a long exponent": (lambda: rsa(2048, 1 << 31), "2048 bits"),
    "an even exponent": (lambda: rsa(2048, 4), "not an RSA key"),
    "something after the numbers": (lambda: packet(6, signer().body + b"x"), "follows the numbers"),
    "a certificate": (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "there is no key"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_are_refused_and_why(kind):
    make, why = REFUSED[kind]
    with pytest.raises(UsageError, match=why) as caught:
        read_keys(make(), "ring.asc")
    assert caught.value.message.startswith("ring.asc: ")
    assert "gpg" in caught.value.hint


@pytest.mark.parametrize("bits", [2048, 8192])
def test_sizes_of_keys(bits):
    assert read_keys(rsa(bits, (1 << 31) - 1), "ring")[0].rsa_key.key_size == bits


def test_the_size_of_a_file(tmp_path):
    path = tmp_path / "ring"
    filler = public_keys.MAX_FILE - len(signer().key()) - 6
    path.write_bytes(signer().key() + packet(17, bytes(filler)))
    assert path.stat().st_size == public_keys.MAX_FILE
    assert len(public_keys.load(path)) == 1
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UsageError, match="larger than 1048576 bytes"):
        public_keys.load(path)


def test_the_packets_of_a_file():
    room = public_keys.MAX_PACKETS - 3
    assert len(read_keys(signer().key(extra=packet(13, b"") * room), "ring")) == 1
    with pytest.raises(UsageError, match="more than 5000 packets"):
        read_keys(signer().key(extra=packet(13, b"") * (room + 1)), "ring")


def test_a_file_of_beginnings_takes_no_time():
    with pytest.raises(UsageError, match="without an end"):
        read_keys(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n" * 28_000, "ring")


def test_damaged_files_end_in_an_error_or_a_key():
    raw = signer().key(lifetime=DAY)
    for at in range(0, len(raw), 9):
        chance = random.Random(at)
        try:
            found = read_keys(raw[:at] + chance.randbytes(chance.randrange(3)) + raw[at + 1 :], "ring")
        except UsageError:
            continue
        assert found
