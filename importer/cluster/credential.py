"""The credential that the nodes pull from the mirror with: from a file that was given for just that."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from common.registry.credentials import Credentials
from common.registry.settings import RegistrySettings

_NOWHERE = Path("/nonexistent")


def pull_credential(authfile: Path, host: str) -> str:
    """Return what a pull secret says of `host`: base64 of user:password. Raises UsageError when the file has nothing for it.

    No other file is looked into: the credential that pushes may write, and never ends up on nodes by itself.
    """
    settings = RegistrySettings(authfile=authfile, environ={}, system_root=_NOWHERE)
    found = Credentials(settings).find(host)
    if found is None or not found.password:
        raise UsageError(
            f"{authfile} has no user and password for {host}",
            hint=f"Make it with: hub-import login --authfile {authfile} {host}",
        )
    return found.basic
