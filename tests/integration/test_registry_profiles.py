"""Every main flow on every profile of a registry; the table in docs/reference/registry.md says what ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.oci import media_types
from tests.fakes import registry_profiles, registry_profiles_closed
from tests.fakes.cluster import FakeCluster
from tests.fakes.registry import PASSWORD, USER
from tests.fakes.registry_flows import FLOWS, Mirror, World, world
from tests.fakes.registry_product import PREFIX, Product
from tests.fakes.registry_profile import OCI_ONLY, Refusal
from tests.fakes.registry_profiles import DOCKER_REGISTRY_2, DOCKER_REGISTRY_3, HARBOR, MIRROR_REGISTRY, PULP, QUAY, ZOT
from tests.fakes.registry_profiles_closed import ECR_PUBLIC
from tests.samples import more

pytestmark = pytest.mark.integration
PRODUCTS: tuple[Product, ...] = (*registry_profiles.PROFILES, *registry_profiles_closed.PROFILES)
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/registry.md"


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeCluster("4.18") as cluster:
        yield world(tmp_path_factory.mktemp("world"), cluster)


def row(product: str) -> list[str]:
    """Return the cells of a product's row in the page's table."""
    table = PAGE.read_text(encoding="utf-8").partition("<!-- matrix -->")[2].partition("<!-- end of matrix -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert rows[0][1:] == list(FLOWS)
    return next((cells[1:] for cells in rows if cells[0] == f"**{product}**"), [])


# They differ from what they are made of (docker-registry 2.8, Quay, Satellite, ECR) in one or two answers, which tests/unit has.
VARIANTS = (DOCKER_REGISTRY_3, MIRROR_REGISTRY, PULP, ECR_PUBLIC)


@pytest.mark.parametrize(
    "product", [*(each for each in PRODUCTS if each not in VARIANTS), *more(VARIANTS)], ids=lambda one: one.name
)
def test_every_flow(product: Product, made: World, tmp_path: Path) -> None:
    with product.registry() as registry:
        did = Mirror(product, registry, made, tmp_path).run_all()
    assert list(did.values()) == row(product.name), f"|**{product.name}**|{'|'.join(did.values())}|"


@contextmanager
def mirror(product: Product, made: World, folder: Path, **switches: Any) -> Iterator[Mirror]:
    """Give a product with some switches flipped, logged in to."""
    changed = replace(product, profile=replace(product.profile, **switches))
    with changed.registry() as registry:
        found = Mirror(changed, registry, made, folder)
        assert found.log_in().status == 0
        yield found


def named(product: Product) -> str:
    return product.name


# What the account may not do, and what is not there.


@pytest.mark.parametrize("product", [HARBOR, *more([QUAY])], ids=named)
def test_a_project_or_organization_that_is_not_there(product: Product, made: World, tmp_path: Path) -> None:
    """Harbor says 401 with an empty challenge (goharbor/harbor#966); Quay grants nothing (quay/quay, endpoints/v2/v2auth.py)."""
    unprepared = replace(product, prepared=frozenset(), organizations=frozenset())
    with mirror(unprepared, made, tmp_path) as site:
        refused = site.run("push", made.first)
        assert refused.status == 5, refused.stdout
        errors = [each for each in refused.json["problems"] if each["severity"] == "error"]
        assert [each["subject"] for each in errors] == [f"{site.registry.host}/{PREFIX}"], "one problem for all of it"
        assert PREFIX in errors[0]["message"]
        site.registry.prepared.add(PREFIX)
        if site.registry.quay:
            site.registry.quay.creates.add(PREFIX)
        done = site.run("push", made.first)
        assert done.status == 0, done.stdout
        site.holds()


# htpasswd of docker-registry knows accounts, not rights.
RIGHTS = [each for each in PRODUCTS if each.profile.auth == "token" or each.profile.no_write]


@pytest.mark.parametrize("product", more(RIGHTS), ids=named)
def test_an_account_that_may_only_pull(product: Product, made: World, tmp_path: Path) -> None:
    """It takes a receipt, and pushes nothing where all is there; where something is missing the right that it lacks is named."""
    with mirror(product, made, tmp_path) as site:
        site.arrived(site.run("push", made.first))
        site.registry.passwords["reader"] = PASSWORD
        site.registry.readers.add("reader")
        if site.registry.quay:
            site.registry.quay.readers.add("reader")
        assert site.log_in("reader").status == 0
        taken = site.run("receipt", made.first, "--output", tmp_path / "read.json")
        assert taken.status == 0, taken.stderr
        assert json.loads((tmp_path / "read.json").read_bytes())["blobs"] == made.receipt["blobs"]
        if product.profile.artifact_types is None:  # else each push tries the artifact that is refused
            site.arrived(site.run("push", made.first))
        refused = site.run("push", made.second)
        assert refused.status == 5, refused.stdout
        assert "may not write" in refused.stdout


@pytest.mark.parametrize("product", more(PRODUCTS), ids=named)
def test_immutable_tags(product: Product, made: World, tmp_path: Path) -> None:
    """All but the catalog's tag, which moves with every archive, is written once; the tags that pin digests never change."""
    with mirror(product, made, tmp_path, immutable=True) as site:
        for _ in range(2):
            site.arrived(site.run("push", made.first))
        moved = site.run("push", made.second)
        assert moved.status == 5, moved.stdout
        errors = [each for each in moved.json["problems"] if each["severity"] == "error"]
        assert ["immutable" in each["message"] or "TAG_" in each["message"] for each in errors] == [True], "the catalog alone"
        site.registry.profile = replace(site.registry.profile, immutable=False)
        done = site.run("push", made.second)
        assert done.status == 0, done.stdout


@pytest.mark.parametrize("product", more(PRODUCTS), ids=named)
def test_a_line_that_breaks_and_tokens_that_end(product: Product, made: World, tmp_path: Path) -> None:
    with mirror(product, made, tmp_path) as site:
        for method in ("PUT", "PATCH"):
            site.registry.fault(method, "/blobs/", read_before_drop=100, drop=True, times=2)
        site.registry.fault("HEAD", "/blobs/", skip=6, action=site.registry.revoke_tokens)
        site.arrived(site.run("push", made.first))
        site.holds()
        assert [each for each in site.registry.log() if each.status == 0], "it broke"


@pytest.mark.parametrize("product", more(PRODUCTS), ids=named)
def test_a_wrong_password_is_not_kept(product: Product, made: World, tmp_path: Path) -> None:
    with product.registry() as registry:
        registry.passwords[USER] = "another"
        done = Mirror(product, registry, made, tmp_path).log_in()
    assert done.status == 5, done.stderr
    assert "refused" in done.stderr
    assert not (tmp_path / "auth.json").exists()


# One switch after the other.

# Each is what some product or proxy does; the site is docker-registry otherwise.
QUIRKS: tuple[dict[str, Any], ...] = (
    {"auth": "token", "realm_redirect": 301},
    {"auth": "token", "realm_redirect": 308},
    {"auth": "token", "token_life_s": None},
    {"auth": "token", "also_basic": True, "challenge_again": 'Basic realm="harbor"'},
    {"location": "relative"},
    {"location": "elsewhere"},
    {"whole_put": "ignored"},
    {"whole_put": "refused"},
    {"whole_put": "ignored", "patch": "one", "patch_status": 204},
    {"patch": "none"},
    {"upload_status": False},
    {"mounts": "session"},
    {"mounts": "refused"},
    {"digest_header": False},
    {"head_length": False},
    {"head_zero": True},
    {"blob_head_length": False},
    {"auth": "token", "challenge_scope": "repository:registry:pull,push"},
    {"encoded": True},
    {"referrers": True},
    {"referrers": True, "subject_header": False},
    {"redirect": True},
    {"visible_after": 2},
    {"limit_every": 25},
    {"limit_every": 10, "limited": Refusal(429, "TOOMANYREQUESTS", "slow down", headers=(("Retry-After", "0"),))},
    {"chunk_min": 1000, "whole_put": "refused"},
    {"mounts_across": False},
    {"put_status": 202},
    {"page": 1},
)


@pytest.mark.parametrize(
    "quirk",
    more(QUIRKS),
    ids=lambda quirk: ", ".join(f"{key}={getattr(value, 'status', value)}" for key, value in quirk.items()),
)
def test_a_quirk(quirk: dict[str, Any], made: World, tmp_path: Path) -> None:
    with mirror(DOCKER_REGISTRY_2, made, tmp_path, **quirk) as site:
        for archive in (made.first, made.second, made.first):
            done = site.run("push", archive)
            assert done.status == 0, done.stdout + done.stderr
        site.holds()
        taken = site.run("receipt", made.first, "--output", tmp_path / "taken.json")
        assert taken.status == 0, taken.stderr
        assert taken.json["inventories"] == made.receipt["inventories"]
        healed = site.run("push", made.first, "--heal")
        assert healed.status == 0, healed.stdout


@pytest.mark.more
def test_flat_paths(made: World, tmp_path: Path) -> None:
    """Old Quay and GitLab (openshift/oc-mirror#590): with --max-path-components all of it fits."""
    with mirror(DOCKER_REGISTRY_2, made, tmp_path, depth=2) as site:
        refused = site.run("push", made.first)
        assert refused.status == 5, refused.stdout
        assert "--max-path-components" in refused.stdout
        done = site.run("push", made.first, "--max-path-components", "2")
        assert done.status == 0, done.stdout


@pytest.mark.more
def test_a_registry_of_oci_types_alone(made: World, tmp_path: Path) -> None:
    """zot without `http.compat` (project-zot/zot#724, #3104): the Docker image is refused, all else arrives."""
    with mirror(ZOT, made, tmp_path, media_types=OCI_ONLY) as site:
        refused = site.run("push", made.first)
        assert refused.status == 5, refused.stdout
        (error,) = [each for each in refused.json["problems"] if each["severity"] == "error"]
        assert "/org/app:v1" in error["subject"] + error["message"]
        assert "OCI" in error["message"]
        assert f"{PREFIX}/deep/down/many" in site.registry.repositories


# Of docker-registry otherwise: what does not fit is named with the registry's own words, and all else arrives.
LIMITS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"max_layer": 3000}, "HTTP 413 SIZE_INVALID"),
    ({"max_manifest": 600}, "HTTP 400 MANIFEST_INVALID"),
    ({"config_types": frozenset({media_types.OCI_CONFIG})}, "MANIFEST_INVALID"),
)


@pytest.mark.parametrize("limit", more(LIMITS), ids=["a layer", "a manifest", "a type of config"])
def test_a_limit(limit: tuple[dict[str, Any], str], made: World, tmp_path: Path) -> None:
    switches, words = limit
    with mirror(DOCKER_REGISTRY_2, made, tmp_path, **switches) as site:
        refused = site.run("push", made.first)
        assert refused.status == 5, refused.stdout
        errors = [each["message"] for each in refused.json["problems"] if each["severity"] == "error"]
        assert errors
        assert all(words in message for message in errors), errors
        assert f"{PREFIX}/example/alpha" in site.registry.repositories


@pytest.mark.more
def test_repositories_that_have_to_be_made_first(made: World, tmp_path: Path) -> None:
    """As in ECR without create-on-push: one list of them; then the push does it."""
    unknown = Refusal(404, "NAME_UNKNOWN", "The repository with name '{name}' does not exist in the registry")
    with mirror(DOCKER_REGISTRY_2, made, tmp_path, must_exist="repository", missing_write=unknown) as site:
        refused = site.run("push", made.first)
        assert refused.status == 5, refused.stdout
        (error,) = [each["message"] for each in refused.json["problems"] if each["severity"] == "error"]
        names = {
            f"{PREFIX}/{name}"
            for name in ("example/index", "example/alpha", "example/alpha-operand", "org/app", "deep/down/many")
        }
        assert all(name in error for name in names), error
        site.registry.prepared |= names
        done = site.run("push", made.first)
        assert done.status == 0, done.stdout
        site.holds()
