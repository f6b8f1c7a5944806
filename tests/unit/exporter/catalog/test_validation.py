"""Our validator refuses what OLM would refuse, rule by rule, and takes every real catalog that OLM takes."""

import pytest

from common.errors import CatalogError
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.validation import validate
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, expected, package_blob, real

B1, B2 = bundle_blob("foo.v1.0.0"), bundle_blob("foo.v2.0.0")
CHAIN = channel_blob("stable", [entry("foo.v2.0.0", replaces="foo.v1.0.0"), entry("foo.v1.0.0")])
GOOD = [package_blob(), CHAIN, B1, B2]


def properties(name, *more):
    return bundle_blob(name)["properties"] + list(more)


def test_a_good_catalog_has_no_findings():
    assert validate(catalog_of(*GOOD)) == []


RULES = {
    "name of the package": ([package_blob("Foo_bar", "stable")], "no DNS label"),
    "no default channel": ([package_blob(default=""), CHAIN, B1, B2], "default"),
    "unknown default channel": ([package_blob(default="other"), CHAIN, B1, B2], "other"),
    "no channel": ([package_blob(), B1], "channel"),
    "channel without entries": ([package_blob(), channel_blob("stable", []), B1], "no entries"),
    "two heads": ([package_blob(), channel_blob("stable", [entry("foo.v1.0.0"), entry("foo.v2.0.0")]), B1, B2], "heads"),
    "cycle": (
        [
            package_blob(),
            channel_blob(
                "stable",
                [entry("foo.v2.0.0", "foo.v1.0.0"), entry("foo.v1.0.0", "foo.v3.0.0"), entry("foo.v3.0.0", "foo.v1.0.0")],
            ),
            B1,
            B2,
            bundle_blob("foo.v3.0.0"),
        ],
        "cycle",
    ),
    "entry twice": ([package_blob(), channel_blob("stable", [entry("foo.v1.0.0"), entry("foo.v1.0.0")]), B1], "duplicate"),
    "entry without bundle": ([package_blob(), CHAIN, B2], "foo.v1.0.0"),
    "bundle in no channel": ([*GOOD, bundle_blob("foo.v3.0.0")], "foo.v3.0.0"),
    "same version twice": ([package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", "1.0.0")], "1.0.0"),
    "no version": ([package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", properties=[])], "foo.v2.0.0"),
    "version is none": ([package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", "two")], "foo.v2.0.0"),
    "property of another package": (
        [package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", properties=bundle_blob("x.v2.0.0", package="x")["properties"])],
        "foo.v2.0.0",
    ),
    "no image and no objects": ([package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", image="")], "image"),
    "image that is none": ([package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", image="oci://quay.io/x")], "foo.v2.0.0"),
    "related image that is none": (
        [package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", relatedImages=[{"name": "a", "image": "a b"}])],
        "foo.v2.0.0",
    ),
    "head without CSV": (
        [package_blob(), CHAIN, B1, bundle_blob("foo.v2.0.0", properties=properties("foo.v2.0.0")[:1])],
        "olm.csv.metadata",
    ),
    "empty skip": (
        [package_blob(), channel_blob("stable", [entry("foo.v2.0.0", skips=("",)), entry("foo.v1.0.0")]), B1, B2],
        "skip",
    ),
    "skipRange that is none": (
        [package_blob(), channel_blob("stable", [entry("foo.v1.0.0", skip_range=">=x")]), B1],
        "skipRange",
    ),
    "deprecation of nothing": (
        [
            *GOOD,
            {
                "schema": "olm.deprecations",
                "package": "foo",
                "entries": [{"reference": {"schema": "olm.bundle", "name": "gone"}, "message": "x"}],
            },
        ],
        "gone",
    ),
}


@pytest.mark.parametrize(("blobs", "word"), RULES.values(), ids=RULES)
def test_every_rule_is_checked(blobs, word):
    catalog = catalog_of(*blobs)
    told = [*map(str, validate(catalog)), *(f"{problem.subject}: {problem.message}" for problem in catalog.problems)]
    assert any(word in line for line in told), told


def test_related_images_may_be_empty_on_purpose():
    bundle = bundle_blob("foo.v2.0.0", relatedImages=[{"name": "a", "image": ""}])
    assert validate(catalog_of(package_blob(), CHAIN, B1, bundle)) == []


@pytest.mark.parametrize(("name", "verdict"), [(n, v) for n, v in expected("validate.json").items() if n.startswith("fbc/")])
def test_real_catalogs_get_the_verdict_of_opm(name, verdict):
    if name.count("/") > 1:
        return
    findings = [finding for finding in validate(real(name)) if "olm.csv.metadata" not in finding.message]
    assert (findings == []) is verdict["ok"], findings[:3]


def test_what_olm_would_refuse_is_not_written():
    with pytest.raises(CatalogError, match=r"foo"):
        catalog_files(catalog_of(package_blob(default="other"), CHAIN, B1, B2))
    assert list(catalog_files(catalog_of(*GOOD))) == ["foo/catalog.json"]
