"""Dependencies of bundles are added, with catalog, versions and reason; a missing one is a problem."""

from __future__ import annotations

import random
import time

import pytest

from common.archive.inventory import ProblemCode
from common.errors import UsageError
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.readers import sqlite
from exporter.catalog.requirements import NeedsApi, NeedsPackage, provided, required
from exporter.catalog.selection import select
from exporter.catalog.update_graph import UpdateGraph
from exporter.catalog.validation import validate
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes import databases
from tests.fakes.catalogs import bundle_blob, catalog_of, channel_blob, entry, expected, package_blob, real
from tests.samples import more


def prop(kind, /, **value):
    return {"type": kind, "value": value}


def operator(name, *versions, needs=(), provides=(), channel="stable"):
    """Return the blobs of a package with a chain of versions; `needs` are properties of all of its bundles."""
    names = [f"{name}.v{version}" for version in versions]
    entries = [entry(one, names[place - 1] if place else "") for place, one in enumerate(names)]
    blobs = [package_blob(name, channel), channel_blob(channel, entries, name)]
    for one, version in zip(names, versions, strict=True):
        blob = bundle_blob(one, version, name)
        blob["properties"] += [*needs, *provides]
        blobs.append(blob)
    return blobs


def closed(*catalogs, packages=("app",), skip=False):
    """Select the heads of packages from the first catalog, and close over all of them."""
    request = OperatorRequest("x", packages=tuple(PackageRequest(name) for name in packages))
    none = OperatorRequest("x", packages=())
    first, *others = catalogs
    selected = [Selected(first, select(first, request), not skip)]
    for one in others:
        empty = select(one, none)
        selected.append(Selected(one, type(empty)(type(one)({}), (), ())))
    return close(selected)


def kept(selection):
    return {name: list(package.bundles) for name, package in selection.catalog.packages.items()}


def unsatisfied(selection):
    return [(p.subject, p.message) for p in selection.problems if p.code is ProblemCode.DEPENDENCY_UNSATISFIED]


def test_a_required_package_comes_along_with_the_reason():
    needs = [prop("olm.package.required", packageName="base", versionRange=">=1.0.0 <2.0.0")]
    catalog = catalog_of(*operator("app", "1.0.0", needs=needs), *operator("base", "1.0.0", "1.5.0", "2.0.0"))
    (found,) = closed(catalog)
    # 1.5.0 is the newest that fits; 2.0.0 is the head that leads to it
    assert kept(found) == {"app": ["app.v1.0.0"], "base": ["base.v1.5.0", "base.v2.0.0"]}
    reasons = {(r.package, r.bundle): (r.kept, r.reason) for r in found.reasons}
    assert reasons["base", "base.v1.5.0"] == (True, "required by app 1.0.0: package base >=1.0.0 <2.0.0")
    assert reasons["base", "base.v2.0.0"] == (True, "needed to reach 1.5.0, required by app 1.0.0: package base >=1.0.0 <2.0.0")
    assert reasons["base", "base.v1.0.0"] == (False, "nothing requires it")
    assert [f for f in validate(found.catalog) if f.fatal] == []
    assert unsatisfied(found) == []


def test_requirements_of_what_was_added_are_looked_for_too():
    def needs(name):
        return [prop("olm.package.required", packageName=name, versionRange=">=1.0.0")]

    catalog = catalog_of(
        *operator("app", "1.0.0", needs=needs("one")),
        *operator("one", "1.0.0", needs=needs("two")),
        *operator("two", "1.0.0", needs=needs("app")),  # a cycle ends
    )
    (found,) = closed(catalog)
    assert set(kept(found)) == {"app", "one", "two"}


def test_an_api_comes_from_what_is_kept_then_from_the_own_catalog_then_from_others():
    api = {"group": "x.io", "version": "v1", "kind": "Thing"}
    needs, gives = [prop("olm.gvk.required", **api)], [prop("olm.gvk", **api)]
    other = catalog_of(*operator("aaa", "9.0.0", provides=gives))
    own = catalog_of(
        *operator("app", "1.0.0", needs=needs),
        *operator("beta", "1.0.0", provides=gives),
        *operator("zeta", "1.0.0", provides=gives),
    )
    first, second = closed(own, other)
    assert (set(kept(first)), kept(second)) == ({"app", "beta"}, {})
    first, second = closed(own, other, packages=("app", "zeta"))
    assert (set(kept(first)), kept(second)) == ({"app", "zeta"}, {})
    lone = catalog_of(*operator("app", "1.0.0", needs=needs))
    first, second = closed(lone, other)
    assert (set(kept(first)), set(kept(second))) == ({"app"}, {"aaa"})


def test_a_package_that_is_kept_in_part_is_kept_further_down():
    needs = [prop("olm.package.required", packageName="base", versionRange="<2.0.0")]
    catalog = catalog_of(*operator("app", "1.0.0", needs=needs), *operator("base", "1.0.0", "1.5.0", "2.0.0", "3.0.0"))
    (found,) = closed(catalog, packages=("app", "base"))
    assert kept(found)["base"] == ["base.v1.5.0", "base.v2.0.0", "base.v3.0.0"]
    reasons = {r.bundle: r.reason for r in found.reasons if r.package == "base"}
    assert reasons["base.v3.0.0"] == "head of stable"
    assert reasons["base.v1.5.0"].startswith("required by app 1.0.0")


@pytest.mark.parametrize(
    ("needs", "word"),
    [
        (
            prop("olm.package.required", packageName="gone", versionRange=">=1.0.0"),
            "package gone >=1.0.0, which is in no catalog",
        ),
        (prop("olm.package.required", packageName="base", versionRange=">=7.0.0"), "no version in the catalogs"),
        (prop("olm.package.required", packageName="base", versionRange="^1.0"), "no range of versions that OLM reads"),
        (prop("olm.gvk.required", group="x.io", version="v1", kind="Thing"), "API x.io/v1 Thing, which is in no catalog"),
        (prop("olm.constraint", cel={"rule": "true"}, failureMessage="why"), "which only the cluster can decide: why"),
        (prop("olm.constraint", strange={}), "a constraint that OLM would not read"),
    ],
)
def test_what_cannot_be_satisfied_is_a_problem_of_the_bundle(needs, word):
    catalog = catalog_of(*operator("app", "1.0.0", needs=[needs]), *operator("base", "1.0.0"))
    (found,) = closed(catalog)
    assert [subject for subject, _ in unsatisfied(found)] == ["app/app.v1.0.0"]
    assert word in unsatisfied(found)[0][1]


def test_constraints():
    def package(name):
        return {"package": {"packageName": name, "versionRange": ">=1.0.0"}}

    everything = prop(
        "olm.constraint", all={"constraints": [package("one"), {"any": {"constraints": [package("gone"), package("two")]}}]}
    )
    catalog = catalog_of(
        *operator("app", "1.0.0", needs=[everything]),
        *operator("one", "1.0.0"),
        *operator("two", "1.0.0"),
        *operator("three", "1.0.0"),
    )
    (found,) = closed(catalog)
    assert (set(kept(found)), unsatisfied(found)) == ({"app", "one", "two"}, [])
    (found,) = closed(catalog, packages=("app",), skip=True)
    assert set(kept(found)) == {"app"}


def test_a_csv_says_what_it_requires_where_there_are_no_properties():
    catalog = sqlite.catalog_of(sqlite.read(databases.database(3), "x"))
    needs = [one for one in required(catalog.packages["foo"].bundles["foo.v1"]) if isinstance(one, NeedsApi)]
    assert [str(one) for one in needs] == ["API example.com/v1 Bar"]
    old = sqlite.catalog_of(sqlite.read(databases.real("schema-05"), "x"))
    wanted = {str(one) for bundle in old.bundles for one in required(bundle)}
    assert "API etcd.database.coreos.com/v1beta2 EtcdCluster" in wanted


@pytest.mark.parametrize("name", sorted(expected("dependencies.json")))
def test_real_catalogs_require_what_was_worked_out_for_them(name):
    catalog = sqlite.catalog_of(sqlite.read(databases.real("community"), "x")) if name.startswith("sqlite") else real(name)
    for one in expected("dependencies.json")[name]:
        found = 0
        for bundle in catalog.packages[one["package"]].bundles.values():
            for need in required(bundle):
                named = need.package if isinstance(need, NeedsPackage) else need.api.kind if isinstance(need, NeedsApi) else ""
                found += named == one["requires"]
        assert found == one["bundles"], one
        selection = select(catalog, OperatorRequest("x", full=True, packages=(PackageRequest(one["package"]),)))
        (closure,) = close([Selected(catalog, selection)])
        assert one["found"].startswith("ok") == (not unsatisfied(closure)), unsatisfied(closure)
        provider = one["found"].rpartition(" ")[2] if "gvk" in one["found"] else one["requires"]
        assert provider in closure.catalog.packages


def random_request(catalog, chance):
    packages = []
    for name in chance.sample(sorted(catalog.packages), min(4, len(catalog.packages))):
        package = catalog.packages[name]
        versions = sorted((b.version for b in package.bundles.values() if b.version), key=lambda v: v.key)
        low = str(chance.choice(versions)) if versions and chance.random() < 0.5 else ""
        channels = (ChannelRequest(package.default_channel, low),) if chance.random() < 0.5 else ()
        packages.append(PackageRequest(name, min_version="" if channels else low, channels=channels))
    return OperatorRequest("x", packages=tuple(packages))


@pytest.mark.parametrize("name", ["fbc/community-v4.20", "fbc/redhat", "fbc/malformed", *more(["sqlite/community"])])
def test_for_random_selections_the_closure_holds(name):
    catalog = sqlite.catalog_of(sqlite.read(databases.real("community"), "x")) if name.startswith("sqlite") else real(name)
    done = 0
    for seed in range(30):
        try:
            selection = select(catalog, random_request(catalog, random.Random(seed)))
        except UsageError:
            continue
        (found,) = close([Selected(catalog, selection)])
        assert [f for f in validate(found.catalog) if f.fatal] == []
        told = {subject for subject, _ in unsatisfied(found)}
        have = {api for bundle in found.catalog.bundles for api in provided(bundle)}
        for bundle in found.catalog.bundles:
            for need in required(bundle):
                if isinstance(need, NeedsApi):
                    fine = need.api in have
                else:
                    packages = found.catalog.packages
                    candidates = packages[need.package].bundles.values() if need.package in packages else ()
                    fine = any(b.version and need.range and need.range.contains(b.version) for b in candidates)
                assert fine or f"{bundle.package}/{bundle.name}" in told
        for package in found.catalog.packages.values():
            for channel in package.channels.values():
                whole = UpdateGraph.of(catalog.packages[package.name].channels[channel.name].entries, "")
                assert UpdateGraph.of(channel.entries, "").head == whole.head
        assert {r.bundle for r in found.reasons if r.kept} == {b.name for b in found.catalog.bundles}
        done += 1
    assert done > 10


def test_many_bundles_and_requirements_take_no_time():
    api = {"group": "x.io", "version": "v1", "kind": "Thing"}
    needs = [prop("olm.package.required", packageName="base", versionRange=">=1.0.0"), prop("olm.gvk.required", **api)]
    versions = [f"1.{number}.0" for number in range(800)]
    catalog = catalog_of(
        *operator("app", *versions, needs=needs), *operator("base", *versions, provides=[prop("olm.gvk", **api)])
    )
    selection = select(catalog, OperatorRequest("x", full=True, packages=(PackageRequest("app"),)))
    began = time.process_time()
    (found,) = close([Selected(catalog, selection)])
    assert time.process_time() - began < 5  # a second; quadratic would be minutes
    assert len(found.catalog.packages["base"].bundles) == 1
