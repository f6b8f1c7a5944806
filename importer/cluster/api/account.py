"""The account under which the API server knows a client, for the record of a change.

The user of a kubeconfig is only a label in that file, which may be anything; the API server has authenticated the account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import ClusterError
from common.log import SECRETS
from common.text import sanitize
from importer.cluster.api.client import UnavailableError
from importer.cluster.kinds import SELF_REVIEW, USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from importer.cluster.api.client import Body, ClusterClient


# system:serviceaccount:, a namespace of 63 characters, and a name of 253 (RFC 1123).
_LONGEST = 340
_MYSELF = "~"


def account_of(client: ClusterClient) -> str:
    """Return the name of the account, such as `system:serviceaccount:ops:hub-import`; empty where it is not known."""
    ways: tuple[Callable[[ClusterClient], object], ...] = (_reviewed, _user)
    for ask in ways:
        try:
            name = ask(client)
        except UnavailableError:
            return ""
        # The kind does not exist, or a role was taken from `system:authenticated`: a record without a name is still one.
        except ClusterError:
            continue
        if shown := SECRETS.mask(sanitize(name, _LONGEST)):
            return shown
    return ""


def _reviewed(client: ClusterClient) -> object:
    """Ask Kubernetes 1.28 and later (OpenShift 4.15), which every account may: kubernetes/enhancements#3325."""
    found = client.review(SELF_REVIEW, {"apiVersion": SELF_REVIEW.api_version, "kind": SELF_REVIEW.name})
    return _at(_at(found.get("status"), "userInfo"), "username")


def _user(client: ClusterClient) -> object:
    """Ask OpenShift for the user `~`, as `oc whoami` does (openshift/oc, pkg/cli/whoami/whoami.go)."""
    found: Body = client.get(USER, _MYSELF) or {}
    return _at(found.get("metadata"), "name")


def _at(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None
