"""The table follows updates as OLM of the cluster's release does."""

from __future__ import annotations

import pytest

from common.archive.inventory import BundleRecord, CatalogRecord, ChannelRecord, PackageRecord
from common.oci.image import Digest
from common.olm.catalog_names import Identity
from importer.operators.installed import Csv, Installed, Sources, Subscribed
from importer.operators.outlook import Offering, Outlook
from importer.operators.table import make

SOURCE = ("openshift-marketplace", "index")
# 2.0.0 alone updates 1.0.0, and 3.0.0 skips it.
ENTRIES = (BundleRecord("a.v3", "3.0.0", "a.v2", ("a.v2",)), BundleRecord("a.v2", "2.0.0", "a.v1"))
PACKAGE = PackageRecord("a", "stable", (ChannelRecord("stable", "a.v3", ENTRIES),))
RECORD = CatalogRecord(
    "x", None, Digest("sha256:" + "1" * 64), "index", "sqlite", filtered=True, packages=(PACKAGE,), update_graph=True
)


@pytest.mark.parametrize(
    ("release", "result", "path"),
    [((4, 5), "updates-now", ("a.v2", "a.v3")), ((4, 6), "stranded", ()), (None, "stranded", ())],
)
def test_a_skipped_entry_is_installed_before_4_6(release, result, path):
    """operator-framework/operator-lifecycle-manager#1652 brought the resolver that never does."""
    offering = Offering("index", SOURCE, RECORD, Identity("index", "x/index", "v1", "", "x"), release=release)
    sources = Sources({SOURCE: {"metadata": {"name": "index"}, "spec": {}}}, SOURCE[0])
    seen = Installed(
        (Subscribed("team", "a", "a", SOURCE, "a.v1", channel="stable"),),
        sources,
        {("team", "a.v1"): Csv("1.0.0", "Succeeded")},
    )
    (row,) = make(seen, Outlook([offering], SOURCE[0], sources))
    assert (row.result, row.path) == (result, path)
