"""Every secret of the suite in one place, and the search for them: what a command shows or leaves must hold none."""

from __future__ import annotations

import base64
from collections.abc import Iterable

FAKE_USER, FAKE_PASSWORD = "fake-user", "fake:pass:word"  # scripted registry
REAL_USER, REAL_PASSWORD = "mirror-user", "s3cret:with:colons"  # docker-registry with htpasswd or tokens
PROXY_USER, PROXY_PASSWORD = "proxyuser", "proxy-p4ssword"
IDENTITY_TOKEN = "identity-token-of-the-suite"
CLUSTER_TOKEN = "sha256~a-token-that-must-not-be-shown"
STORAGE_KEY, STORAGE_SECRET = "STORAGEKEYOFTHESUITE", "storage/secret+of/the/suite"

_PAIRS = ((FAKE_USER, FAKE_PASSWORD), (REAL_USER, REAL_PASSWORD), (PROXY_USER, PROXY_PASSWORD))
ALL = (FAKE_PASSWORD, REAL_PASSWORD, PROXY_PASSWORD, IDENTITY_TOKEN, CLUSTER_TOKEN, STORAGE_SECRET)
_ENCODED = (
    *(base64.b64encode(f"{user}:{password}".encode()).decode() for user, password in _PAIRS),
    *(base64.b64encode(secret.encode()).decode().rstrip("=") for secret in ALL),
)


def leaked(text: str | bytes, more: Iterable[str] = ()) -> list[str]:
    """Return the secrets that `text` holds, plain, quoted for an URL or in base64; `more`: those of this moment."""
    content = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    wanted = (*ALL, *_ENCODED, *more)
    return [secret for secret in wanted if secret in content or secret.replace(":", "%3A") in content]
