"""The operators of a cluster as they are, without an archive: by the catalogs that earlier imports left there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from common.errors import ClusterError
from importer.cluster.api.client import UnavailableError
from importer.operators.outlook import Outlook, recorded
from importer.operators.reading import read_operators
from importer.operators.table import make

if TYPE_CHECKING:
    from collections.abc import Iterable

    from importer.cluster.api.client import ClusterClient
    from importer.cluster.readiness.readiness import ExpectedCatalog
    from importer.cluster.release import Release
    from importer.operators.installed import Installed
    from importer.operators.table import Row


def present(seen: Installed, expected: Iterable[ExpectedCatalog]) -> list[Row]:
    """Return the rows of the operators `seen`; `expected`: the catalogs of the record."""
    available = seen.cluster_catalogs
    known = [
        replace(each, in_olm_v1=available is None or each.source[1] in available)
        for each in recorded(expected)
        if each.source in seen.sources.bodies
    ]
    return make(seen, Outlook(known, seen.sources.namespace, seen.sources))


def readable_rows(client: ClusterClient, release: Release | None, expected: Iterable[ExpectedCatalog]) -> tuple[Row, ...]:
    """Return the rows of the operators of a cluster; none where they cannot be read. Raises UnavailableError."""
    try:
        return tuple(present(read_operators(client, release), expected))
    except UnavailableError:
        raise
    except ClusterError:
        return ()
