"""The credential that the nodes pull from the mirror with: from a file that was given for just that."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from common.registry.credentials import Credentials
from common.registry.settings import RegistrySettings
from importer.cluster.release import Release

_NOWHERE = Path("/nonexistent")


def pull_secret_key(host: str, prefix: str, release: Release | None) -> str:
    """Return the key that a pull secret has the credential of a mirror under: `HOST/PREFIX` where nodes understand that.

    So the credential of a project stays apart from that of the registry, which the cluster itself may be pulled with.
    """
    namespaced = prefix and release is not None and release.has_namespaced_credentials
    return f"{host}/{prefix}" if namespaced else host


def pull_credential(authfile: Path, host: str, prefix: str = "") -> str:
    """Return what a pull secret says of `host/prefix`: base64 of user:password, of the most specific entry that fits.

    Raises UsageError when the file has nothing for it. No other file is looked into: the credential that pushes may write, and
    never gets to nodes.
    """
    place = f"{host}/{prefix}" if prefix else host
    settings = RegistrySettings(authfile=authfile, environ={}, system_root=_NOWHERE)
    found = Credentials(settings).find(host, prefix)
    if found is None or not found.password:
        raise UsageError(
            f"{authfile} has no user and password for {place}",
            hint=f"Make it with: hub-import login --authfile {authfile} {place}",
        )
    return found.basic
