"""Finding an archive: an inventory that is not signed with the given key is never a trusted one."""

from __future__ import annotations

import dataclasses

import pytest

from common.archive.discover import FoundArchive, TrustedArchive, find, find_untrusted
from common.archive.inventory_file import NAME, SIGNATURE_NAME
from common.archive.reader import Archive
from common.archive.signature import Algorithm, SignatureState, Signer, make_keys
from common.errors import ArchiveUntrustedError
from tests.fakes.archives import CUT, write


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    verifiers = [make_keys(folder / f"{name}.key", folder / f"{name}.pub", Algorithm.ED25519) for name in ("right", "wrong")]
    return Signer.load(folder / "right.key"), *verifiers


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    write(folder, CUT)
    (folder / SIGNATURE_NAME).write_bytes(keys[0].sign((folder / NAME).read_bytes()))
    return folder


def test_a_valid_signature_makes_a_trusted_archive(signed, keys):
    found = find([signed], keys[1])
    assert type(found) is TrustedArchive
    assert found.signature is SignatureState.VALID


def test_without_a_key_the_signature_is_not_checked(signed):
    assert find([signed]).signature is SignatureState.UNCHECKED


def test_another_key_makes_no_trusted_archive(signed, keys):
    with pytest.raises(ArchiveUntrustedError, match="not that of the key SHA256:"):
        find([signed], keys[2])
    found = find_untrusted([signed], keys[2])
    assert type(found) is FoundArchive
    assert (found.signature, found.is_trusted) == (SignatureState.INVALID, False)
    with pytest.raises(ArchiveUntrustedError):
        TrustedArchive(*(getattr(found, field.name) for field in dataclasses.fields(found)))


def test_an_inventory_is_not_parsed_before_its_signature_is_checked(signed, keys, tmp_path):
    (tmp_path / NAME).write_bytes(b"{")
    (tmp_path / SIGNATURE_NAME).write_bytes((signed / SIGNATURE_NAME).read_bytes())
    with pytest.raises(ArchiveUntrustedError):
        find([tmp_path], keys[1])


def test_an_archive_is_not_opened_for_use_before_its_signature_is_checked(signed):
    with pytest.raises(ArchiveUntrustedError, match="not verified"):
        Archive(find_untrusted([signed]))
