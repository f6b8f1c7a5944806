"""Packages that are optional, and packages that are left out, also as dependencies (docs/reference/selection.md, *Input*)."""

import pytest

from common.archive.inventory import Problem, ProblemCode
from common.errors import CatalogError, UsageError
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.model import Catalog
from exporter.catalog.readers import sqlite
from exporter.catalog.rebuild import filtered
from exporter.catalog.selection import select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes import databases
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, package_blob, real
from tests.samples import more


def operator(name, *versions, needs=(), provides=()):
    names = [f"{name}.v{version}" for version in versions]
    entries = [entry(one, names[place - 1] if place else "") for place, one in enumerate(names)]
    blobs = [package_blob(name, "stable"), channel_blob("stable", entries, name)]
    for one, version in zip(names, versions, strict=True):
        blob = bundle_blob(one, version, name)
        blob["properties"] += [{"type": kind, "value": value} for kind, value in (*needs, *provides)]
        blobs.append(blob)
    return blobs


API = {"group": "g.io", "version": "v1", "kind": "Thing"}
NEEDS_BASE = ("olm.package.required", {"packageName": "base", "versionRange": ">=1.0.0"})
NEEDS_API = ("olm.gvk.required", API)
NEEDS_ANY = ("olm.constraint", {"failureMessage": "x", "any": {"constraints": [{"package": NEEDS_BASE[1]}, {"gvk": API}]}})


def three(needs=NEEDS_BASE):
    base = operator("base", "1.0.0", provides=[("olm.gvk", API)])
    return catalog_of(*operator("app", "1.0.0", needs=[needs]), *base, *operator("odf-a", "1.0.0", "2.0.0"))


def names(selection):
    return sorted(selection.catalog.packages)


def optional(*wanted, **more):
    return OperatorRequest("a.b/c:d", packages=tuple(PackageRequest(one, optional=True, **more) for one in wanted))


def test_an_optional_package_that_is_absent_is_a_note():
    """ibm-mas/cli keeps a list of packages that a release may lack."""
    request = OperatorRequest("a.b/c:d", packages=(PackageRequest("app"), PackageRequest("odf-aa", optional=True)))
    selection = select(three(), request)
    assert names(selection) == ["app"]
    message = "optional, and catalog a.b/c:d does not have it; near it: odf-a"
    assert selection.problems == (Problem("warning", ProblemCode.PACKAGE_ABSENT, "odf-aa", message),)


def test_an_optional_package_that_is_there_is_as_any_other():
    assert select(three(), optional("odf-a")).problems == ()
    with pytest.raises(UsageError, match="has no channel 'none'"):
        select(three(), optional("odf-a", channels=(ChannelRequest("none"),)))


def test_nothing_is_left_where_all_are_absent():
    selection = select(three(), optional("x", "y"))
    assert (names(selection), [one.subject for one in selection.problems]) == ([], ["x", "y"])


def test_absent_ones_hide_no_package_that_olm_would_refuse():
    broken = catalog_of(package_blob("bad", "stable"), channel_blob("stable", [entry("a"), entry("b")], "bad"))
    with pytest.raises(CatalogError, match="nothing of catalog"):
        select(broken, optional("bad", "x"))


@pytest.mark.parametrize("full", [True, False])
def test_excluded_packages_are_left_out_of_full_and_of_heads(full):
    selection = select(three(), OperatorRequest("x", full, exclude=("base", "odf-?")))
    assert names(selection) == ["app"]
    assert not selection.unmodified
    assert names(select(three(), OperatorRequest("x", full, exclude=("APP",)))) == ["app", "base", "odf-a"]


@pytest.mark.parametrize("name", ["schema-05", *more(["community"])])
def test_a_database_is_filtered_by_exclusion(name):
    """`full` of an SQLite catalog carries the original image, unless a package of it is excluded."""
    content = databases.real(name)
    catalog = sqlite.catalog_of(sqlite.read(content, "x"))
    first, *others = sorted(catalog.packages)
    selection = select(catalog, OperatorRequest("x", full=True, exclude=(first,)))
    assert not selection.unmodified
    written = sqlite.catalog_of(sqlite.read(filtered(content, selection.catalog, "x"), "x"))
    assert sorted(written.packages) == [one for one in others if one in selection.catalog.packages]
    assert first not in written.packages
    assert sum(len(one.bundles) for one in written.packages.values()) >= sum(1 for _ in selection.catalog.bundles)


def test_real_packages_are_left_out_of_heads_and_of_full():
    catalog = real("fbc/redhat")
    for full in (True, False):
        selection = select(catalog, OperatorRequest("x", full=full, exclude=("aws-*", "rhtpa-operato[r]")))
        assert (names(selection), selection.problems) == (["openshift-cert-manager-operator"], ())


def test_a_whole_catalog_without_any_of_them_stays_untouched():
    selection = select(three(), OperatorRequest("x", full=True, exclude=("bas", "none-*")))
    assert selection.unmodified
    assert selection.notes == (
        "catalog x has no package 'bas' to exclude; near it: base",
        "catalog x has no package 'none-*' to exclude",
    )


def test_problems_of_excluded_packages_are_not_reported():
    catalog = three()
    found = [Problem("error", ProblemCode.CATALOG_INVALID, subject, "x") for subject in ("base/base.v1", "app", "odf-z")]
    catalog = Catalog(catalog.packages, catalog.others, tuple(found))
    selection = select(catalog, OperatorRequest("x", exclude=("base", "odf-*")))
    assert [one.subject for one in selection.problems] == ["app"]


def test_to_exclude_everything_is_an_error():
    with pytest.raises(UsageError, match="exclude leaves out all of its packages"):
        select(three(), OperatorRequest("x", exclude=("*",)))


@pytest.mark.parametrize("needs", [NEEDS_BASE, NEEDS_API, NEEDS_ANY], ids=["package", "api", "any"])
def test_an_excluded_package_that_another_requires_is_a_problem_that_says_so(needs):
    catalog = three(needs)
    request = OperatorRequest("x", packages=(PackageRequest("app"),), exclude=("bas*",))
    (closed,) = close([Selected(catalog, select(catalog, request), excluded=request.excluded(catalog.packages))])
    assert names(closed) == ["app"]
    (problem,) = closed.problems
    assert (problem.severity, problem.code, problem.subject) == ("warning", "dependency-unsatisfied", "app/app.v1.0.0")
    assert problem.message.endswith(", which only base would satisfy, and the image set excludes it")


def test_another_catalog_may_have_what_one_excludes():
    catalog, other = three(), catalog_of(*operator("base", "1.1.0"))
    request = OperatorRequest("x", packages=(PackageRequest("app"),), exclude=("base",))
    none = select(other, optional("none"))
    first, second = close(
        [Selected(catalog, select(catalog, request), excluded=request.excluded(catalog.packages)), Selected(other, none)]
    )
    assert (names(first), names(second)) == (["app"], ["base"])


@pytest.mark.parametrize("of_channel", [True, False])
def test_the_version_of_min_bundle_is_the_minimum(of_channel):
    """oc-mirror, v1alpha2, IncludeBundle: the bundle, and all up to the head of the channel."""
    catalog = catalog_of(*operator("foo", "1.0.0", "1.1.0", "1.2.0"))

    def request(bundle):
        if of_channel:
            return OperatorRequest("x", packages=(PackageRequest("foo", channels=(ChannelRequest("stable", "", "", bundle),)),))
        return OperatorRequest("x", packages=(PackageRequest("foo", min_bundle=bundle),))

    assert list(select(catalog, request("foo.v1.1.0")).catalog.packages["foo"].bundles) == ["foo.v1.1.0", "foo.v1.2.0"]
    with pytest.raises(UsageError, match=r"has no bundle 'foo.v9'"):
        select(catalog, request("foo.v9"))
