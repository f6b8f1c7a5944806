"""Kubeconfig files in the order of kubectl, and several as one.

kubernetes/client-go, tools/clientcmd/loader.go (ClientConfigLoadingRules) and client_config.go (DeferredLoadingClientConfig).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import HubError
from common.serialization import load_yaml_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# With embedded certificates for dozens of clusters a kubeconfig has some hundred KiB.
MAX_KUBECONFIG = 4 * 1024 * 1024
_LISTS = {"clusters": "cluster", "contexts": "context", "users": "user"}
# Relative paths are those of the file that they are in (clientcmd, GetClusterFileReferences, GetAuthInfoFileReferences).
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def in_variable(environ: Mapping[str, str]) -> list[str]:
    """Return the files of $KUBECONFIG."""
    return [each for each in (environ.get("KUBECONFIG") or "").split(os.pathsep) if each]


def files(environ: Mapping[str, str], default: Path) -> list[Path]:
    """Return the files to read: those of $KUBECONFIG that exist, else the default; none where that does not exist either.

    Of a variable whose files are all missing, the first one, for the error. Raises RuntimeError for `~` without a home.
    """
    paths = [Path(each).expanduser() for each in in_variable(environ)]
    return [each for each in paths if each.exists()] or paths[:1] or ([default] if _is_there(default) else [])


def _is_there(path: Path) -> bool:
    # OpenShift runs containers with a random UID, whose home may be closed to it, or be none.
    try:
        return path.expanduser().is_file()
    except (OSError, RuntimeError):
        return False


def document(path: Path) -> Any:
    """Return the content of a kubeconfig. Raises OSError, and ValueError for what is no YAML or too large."""
    # Not `KubeConfig.from_file`: it reads YAML without limits, and raises errors of its own.
    with path.open("rb") as file:
        raw = file.read(MAX_KUBECONFIG + 1)
    # One byte more was requested, so that a file of exactly the limit is accepted.
    if len(raw) > MAX_KUBECONFIG:
        raise ValueError(f"larger than {MAX_KUBECONFIG} bytes")
    try:
        documents = list(load_yaml_documents(raw, str(path), forgiving=True))
    except HubError as error:
        raise ValueError(error.message) from error
    return documents[0] if documents else {}


def merged(documents: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Return several kubeconfigs as one: of one name, the first cluster, context or user counts, as for kubectl.

    Raises KeyError, TypeError or AttributeError for a file of another shape.
    """
    found: dict[str, dict[str, Any]] = {each: {} for each in _LISTS}
    current = ""
    for path, content in documents:
        current = current or str(content.get("current-context") or "")
        for kind, inner in _LISTS.items():
            for each in content.get(kind) or ():
                found[kind].setdefault(each["name"], {**each, inner: _placed(each[inner], path.parent)})
    return {**{kind: list(each.values()) for kind, each in found.items()}, "current-context": current or None}


def _placed(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an entry with paths that do not depend on the place of its file."""
    return {key: str(folder.absolute() / value) if key in _PATHS and value else value for key, value in entry.items()}
