"""Trust of the nodes in the mirror: its CA and its credential are merged into those of the cluster.

Foreign CAs and credentials are not replaced (openshift/api, config/v1, Image; OpenShift documentation, *global pull secret*).
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import ClusterError, UsageError
from common.log import SECRETS
from common.registry.credentials import Credentials
from common.registry.settings import RegistrySettings
from importer.cluster.differences import docker_config, encoded
from importer.cluster.kinds import CONFIG_NAMESPACE, IMAGE_CONFIG, SECRET, Resource
from importer.cluster.writing import Change, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from importer.cluster.api.client import Body, ClusterClient
    from importer.cluster.record import Recorder
    from importer.cluster.release import Release


_KEY = ".dockerconfigjson"
PULL_SECRET = "pull-secret"  # noqa: S105 - the name of the Secret
_TYPE = "kubernetes.io/dockerconfigjson"


def ca_config_map_name(client: ClusterClient, wanted: str) -> str:
    """Return the ConfigMap with the CAs of the cluster's registries; `wanted` where none is set yet."""
    live = client.get(IMAGE_CONFIG, "cluster") or {}
    trusted = (live.get("spec") or {}).get("additionalTrustedCA") or {}
    return trusted.get("name") or wanted


def trusting(name: str) -> Callable[[Body | None], Mapping[str, Any]]:
    """Return the wish for images.config: CAs from the ConfigMap `name`, unless it names another one already."""

    def wish(live: Body | None) -> Mapping[str, Any]:
        current = (((live or {}).get("spec") or {}).get("additionalTrustedCA") or {}).get("name")
        return {"spec": {"additionalTrustedCA": {"name": current or name}}}

    return wish


def managed(resource: Resource) -> Callable[[Body | None], Mapping[str, Any] | None]:
    """Return the wish for the image registry: Managed, with the storage that it has, or that of `resource`.

    It raises ClusterError when neither has storage.
    """

    def wish(live: Body | None) -> Mapping[str, Any] | None:
        spec = (live or {}).get("spec") or {}
        if live is None or spec.get("managementState") == "Managed":
            return None
        asked = resource.body["spec"]
        wanted = {name: asked[name] for name in ("managementState", "storage") if name in asked}
        if any(spec.get("storage") or {}):
            wanted.pop("storage", None)  # emptyDir would replace storage that holds images
        elif "storage" not in wanted:
            raise ClusterError(
                f"the image registry of this cluster is {spec.get('managementState') or 'not managed'} and has no storage: "
                "up to OpenShift 4.4, nodes get the CA of a registry only while it is Managed",
                hint="Give it storage, or use --image-registry-emptydir: its own content is then lost when it restarts.",
            )
        return {"spec": wanted}

    return wish


def allow(writer: Writer, registries: Sequence[str]) -> None:
    """Add `registries` to the allowed registries, where the cluster has such a list; this rolls pools."""
    current = _allowed(writer.client.get(IMAGE_CONFIG, "cluster"))
    if not current or set(registries) <= set(current):
        return

    def wish(live: Body | None) -> Mapping[str, Any] | None:
        # A merge patch replaces an array whole (RFC 7386).
        present = _allowed(live)
        added = (registry for registry in registries if registry not in present)
        return {"spec": {"registrySources": {"allowedRegistries": [*present, *added]}}}

    writer.shared(IMAGE_CONFIG, "cluster", "", wish)


def _allowed(live: Body | None) -> list[str]:
    sources = ((live or {}).get("spec") or {}).get("registrySources") or {}
    return list(sources.get("allowedRegistries") or [])


def with_ca(resource: Resource) -> Callable[[Body | None], Mapping[str, Any]]:
    """Return the wish for the CA ConfigMap: the mirror's CA under its key, after those of the same host."""

    def wish(live: Body | None) -> Mapping[str, Any]:
        existing = (live or {}).get("data") or {}
        data = {host: _joined(existing.get(host, ""), pem) for host, pem in resource.body["data"].items()}
        return {**resource.body, "data": data} if live is None else {"data": data}

    return wish


def merge_pull_secret(
    client: ClusterClient,
    key: str,
    auth: str,
    *,
    replace: bool = False,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
    recorder: Recorder | None = None,
) -> Change:
    """Add a credential (`auth`: base64 of user:password) under `key` to the cluster's pull secret; all others stay.

    `key` is a registry's host, or `HOST/PATH`. Nothing is written where nodes find the same credential for it already. Another
    credential of a whole host, or under `key`, is replaced only with `replace`, or where `recorder` shows that hub-import
    wrote it. Raises ClusterError for another credential, and when the pull secret is missing or cannot be read.
    """
    # Its base64 form would pass a redaction of the password alone.
    SECRETS.add(auth)
    writer = Writer(client, server_side=False, dry_run=dry_run, tell=tell, recorder=recorder)
    recorded: list[Any] = []  # entries that hub-import wrote; after a conflict the record has the new one already

    def wish(live: Body | None) -> Mapping[str, Any]:
        document = _docker_config(live)
        auths = document["auths"]
        found = _credential_for(auths, key)
        if found == auth:
            return {}
        if _is_recorded(recorder, key, auths.get(key)):
            recorded.append(auths[key])
        # Other images of that registry, or below that prefix, even the release, may be pulled with it.
        theirs = found if "/" not in key else auths.get(key)
        if theirs and not replace and auths.get(key) not in recorded:
            raise _another(key)
        merged = {**document, "auths": {**auths, key: {"auth": auth}}}
        return {"data": {_KEY: encoded(merged)}}

    writer.shared(SECRET, PULL_SECRET, CONFIG_NAMESPACE, wish)
    return writer.changes[-1]


def _is_recorded(recorder: Recorder | None, key: str, entry: Any) -> bool:
    """Return whether hub-import wrote an entry of the pull secret, by its record."""
    change = recorder.change(SECRET, PULL_SECRET, CONFIG_NAMESPACE, ("data", _KEY)) if recorder is not None else None
    if change is None or entry is None:
        return False
    before, after = ((docker_config(value) or {}).get("auths", {}) for value in (change.before, change.after))
    return bool(after.get(key) == entry != before.get(key))


def _credential_for(auths: Mapping[str, Any], key: str) -> str:
    """Return the credential that nodes find for a key: that of the most specific entry; empty without one."""
    # As in containers-auth.json(5): HOST/a/b, then HOST/a, then HOST.
    entries = {_bare(each): entry for each, entry in auths.items()} | dict(auths)
    while True:
        entry = entries.get(key)
        if isinstance(entry, dict) and (found := _basic(entry)):
            return found
        if "/" not in key:
            return ""
        key = key.rpartition("/")[0]


def _bare(key: str) -> str:
    """Return the host of a key in docker's old form, `https://HOST/v1/`; any other key unchanged."""
    scheme, mark, rest = key.partition("://")
    return rest.partition("/")[0] if mark and scheme in ("http", "https") else key


def _basic(entry: Mapping[str, Any]) -> str:
    user, password = entry.get("username"), entry.get("password")
    joined = base64.b64encode(f"{user}:{password}".encode()).decode() if user and password else ""
    return str(entry.get("auth") or joined or entry.get("identitytoken") or "")


def _another(key: str) -> ClusterError:
    own = "another prefix" if "/" in key else "a prefix"
    return ClusterError(
        f"the pull secret has another credential for {key}, which the cluster may pull other images with",
        hint=f"It was not replaced. From OpenShift 4.9 on {own}, --registry HOST/PREFIX, keeps the two apart; "
        "or let that account read the mirror and leave --cluster-authfile out; or use --replace-credential.",
    )


def _joined(existing: str, pem: str) -> str:
    """Return both certificates: while a registry changes its CA, nodes need the old one too."""
    # A second apply must not add it again.
    if pem.strip() in existing:
        return existing
    return f"{existing.rstrip()}\n{pem.lstrip()}" if existing.strip() else pem


def _docker_config(secret: Body | None) -> dict[str, Any]:
    if secret is None:
        raise ClusterError(
            f"the cluster has no pull secret: Secret {PULL_SECRET} in {CONFIG_NAMESPACE}",
            hint=f"Create it (type {_TYPE}), or leave --cluster-authfile out.",
        )
    try:
        document = json.loads(base64.b64decode((secret.get("data") or {})[_KEY], validate=True))
    except (KeyError, ValueError, TypeError, RecursionError, binascii.Error):
        document = None
    if not isinstance(document, dict) or not isinstance(document.setdefault("auths", {}), dict):
        raise ClusterError(
            f"Secret {PULL_SECRET} in {CONFIG_NAMESPACE} has no readable {_KEY}",
            hint="Repair it first: nodes cannot pull with it either.",
        ) from None  # the cause could show its content
    return document


# The credential with which nodes pull from the mirror: only from the file of --cluster-authfile.

_NOWHERE = Path("/nonexistent")


def pull_secret_key(host: str, prefix: str, release: Release | None) -> str:
    """Return the key of a mirror's credential in a pull secret: `HOST/PREFIX` where nodes support that, else `HOST`."""
    # A key of its own keeps the credential of the registry, with which the release may be pulled, untouched.
    namespaced = prefix and release is not None and release.has_namespaced_credentials
    return f"{host}/{prefix}" if namespaced else host


def pull_credential(authfile: Path, host: str, prefix: str = "") -> str:
    """Return base64 of user:password for `host/prefix`, of the most specific entry in a file. Raises UsageError without one."""
    if not authfile.is_file():
        raise UsageError(
            f"--cluster-authfile: no such file: {authfile}", hint="Make it with hub-import login --authfile FILE HOST."
        )
    # No other file is read: the credential of a push may write, and must not get to the nodes.
    mirror = f"{host}/{prefix}" if prefix else host
    settings = RegistrySettings(authfile=authfile, environ={}, system_root=_NOWHERE)
    found = Credentials(settings).find(host, prefix)
    if found is None or not found.password:
        raise UsageError(
            f"{authfile} has no user and password for {mirror}",
            hint=f"Make it with: hub-import login --authfile {authfile} {mirror}",
        )
    return found.basic
