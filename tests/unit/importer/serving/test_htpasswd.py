"""Accounts: a malformed Authorization header is refused, and is no error of the server."""

from __future__ import annotations

import base64

import bcrypt
import pytest

from common.errors import UsageError
from importer.serving.htpasswd import Htpasswd


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Htpasswd:
    file = tmp_path_factory.mktemp("accounts") / "htpasswd"
    file.write_text(f"reader:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    return Htpasswd.load(file)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def test_an_account_is_known_each_time(accounts: Htpasswd) -> None:
    assert [accounts.accepts(basic("reader:secret")) for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic \xe9\xe9",
        "Basic /w==",
        "Basic A",
        "Bearer x",
        basic("reader"),
        basic("reader:wrong"),
        basic("x:secret"),
    ],
)
def test_anything_else_is_refused(accounts: Htpasswd, header: str) -> None:
    assert not accounts.accepts(header)


@pytest.mark.parametrize("text", ["reader:" + "s" * 73, "reader:secret\0", "reader:é" * 40])
def test_passwords_that_bcrypt_would_cut_or_refuse(accounts: Htpasswd, text: str) -> None:
    assert not accounts.accepts(basic(text))


def test_a_file_at_its_limit_and_beyond(tmp_path) -> None:
    line = f"reader:$2b$04${'a' * 53}\n".encode()
    file = tmp_path / "htpasswd"
    file.write_bytes(line + b"#" * (1024 * 1024 - len(line)))
    Htpasswd.load(file)
    file.write_bytes(line + b"#" * (1024 * 1024 - len(line) + 1))
    with pytest.raises(UsageError, match="larger than 1048576 bytes"):
        Htpasswd.load(file)


class Accepting:
    """bcrypt that accepts everything."""

    def checkpw(self, password: bytes, hashed_password: bytes) -> bool:
        return bool(password and hashed_password)


def test_a_thousand_headers_are_remembered_and_further_ones_checked_again() -> None:
    names = [f"user{number}" for number in range(1001)]
    accounts = Htpasswd(dict.fromkeys(names, f"$2b$04${'a' * 53}"), Accepting())
    assert all(accounts.accepts(basic(f"{name}:x")) for name in names)
    assert [accounts.is_known(basic(f"{name}:x")) for name in names] == [True] * 1000 + [False]
