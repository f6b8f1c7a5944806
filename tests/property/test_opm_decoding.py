"""No selection of a damaged real catalog is written that opm would refuse; `tests/fakes/opm.py` is the model of opm."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CatalogError, UsageError
from exporter.catalog.dependencies import Selected, close
from exporter.catalog.readers import file_based
from exporter.catalog.rebuild import catalog_files
from exporter.catalog.selection import Selection, select
from exporter.imageset.model import ChannelRequest, OperatorRequest, PackageRequest
from tests.fakes import opm
from tests.fakes.catalogs import real

# Small packages of every style: descriptors and descriptions, objects inside, deprecations, requirements.
SEEDS = {
    "fbc/redhat": ("rhtpa-operator", "openshift-cert-manager-operator"),
    "fbc/community-v4.20": ("ecr-secret-operator", "kepler-operator", "rabbitmq-messaging-topology-operator"),
    "fbc/bundle-object-v4.16": ("odf-node-recovery-operator",),
    "fbc/malformed": ("kuadrant-operator",),
}
HUGE = "number beyond a float64"
VALUES: list[Any] = [
    *(
        None,
        5,
        None,
        5,
        1.0,
        1.5,
        2**31,
        2**63,
        -1,
        True,
        "",
        "text",
        "1.0.0",
        "olm.gvk",
        "e30=",
        "e30",
        [],
        [None],
        {},
        {"a": 1},
        HUGE,
    ),
    *(
        [{"name": "a", "type": "String", "value": "x"}],
        {"data": "e30="},
        {"ref": "a"},
        {"packageName": "foo", "version": "1.0.0"},
    ),
    *({"data": base64.b64encode(text).decode()} for text in (b"kind: [", b"{\xff", b"a: 1", b"\xff")),
]
TYPES = [*opm.PROPERTIES, "olm.constraint", "olm.maxOpenShiftVersion", "example.other", "", 5]


@cache
def package_blobs(catalog: str, name: str) -> tuple[dict[str, Any], ...]:
    package = real(f"{catalog}/{name}").packages[name]
    blobs = [package.blob, *(one.blob for one in (*package.channels.values(), *package.bundles.values()))]
    return tuple(json.loads(one.raw) for one in (*blobs, *([package.deprecations.blob] if package.deprecations else [])))


def damage_value(random: Random, parent: Any, depth: int = 0) -> None:
    """Damage something below an object or list."""
    if not parent or not isinstance(parent, (dict, list)):
        return
    key = random.choice(list(parent)) if isinstance(parent, dict) else random.randrange(len(parent))
    if depth < 6 and isinstance(parent[key], (dict, list)) and parent[key] and random.random() < 0.7:
        damage_value(random, parent[key], depth + 1)
    elif isinstance(parent, dict) and random.random() < 0.3:
        value = parent.pop(key)
        if random.random() < 0.7:
            parent[random.choice([key.upper(), key.title(), key.replace("s", "\u017f"), key + "x"])] = value
    else:
        parent[key] = random.choice(VALUES)


def damage_properties(random: Random, blob: dict[str, Any]) -> None:
    listed = blob.get("properties")
    if not isinstance(listed, list):
        blob["properties"] = random.choice([[], [{"type": random.choice(TYPES), "value": random.choice(VALUES)}], *VALUES])
        return
    match random.randrange(5):
        case 0:
            listed.append({"type": random.choice(TYPES), "value": random.choice(VALUES)})
        case 1 if listed:
            listed.append(copy.deepcopy(random.choice(listed)))
        case 2 if listed:
            one = random.choice(listed)
            if isinstance(one, dict):
                one["value"] = random.choice(VALUES)
        case 3 if listed:
            listed.remove(random.choice(listed))
        case _:
            damage_value(random, listed)


def damaged(random: Random, blobs: list[dict[str, Any]]) -> bytes:
    for _ in range(1 + random.randrange(2)):
        blob = random.choice(blobs)
        if random.random() < 0.8:
            bundles = [one for one in blobs if one.get("schema") == "olm.bundle"] or blobs
            damage_properties(random, random.choice(bundles))
        elif random.random() < 0.6:
            damage_value(random, blob)
        else:
            field = random.choice(
                ["icon", "description", "properties", "image", "relatedImages", "entries", "Name", "more", "package"]
            )
            blob[field] = random.choice(VALUES)
    return b"".join(json.dumps(one).encode() + b"\n" for one in blobs).replace(f'"{HUGE}"'.encode(), b"1e400")


def request(random: Random, names: list[str], channels: list[str]) -> OperatorRequest:
    if random.random() < 0.2:
        return OperatorRequest("catalog", full=random.random() < 0.5)
    wanted = tuple(ChannelRequest(name) for name in random.sample(channels, min(len(channels), random.randrange(3))))
    default = wanted[0].name if wanted else ""
    packages = [PackageRequest(name) for name in names[1:]]
    return OperatorRequest("catalog", random.random() < 0.7, (PackageRequest(names[0], default, channels=wanted), *packages))


def pick(random: Random) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Return the blobs of two packages, the names of both, and the channels of the first."""
    first, second = random.sample([(catalog, name) for catalog, found in SEEDS.items() for name in found], 2)
    blobs = [copy.deepcopy(one) for each in (first, second) for one in package_blobs(*each)]
    channels = [one["name"] for one in package_blobs(*first) if one["schema"] == "olm.channel"]
    return blobs, [first[1], second[1]], channels


def check(random: Random) -> None:
    blobs, names, channels = pick(random)
    content = damaged(random, blobs)
    wanted = request(random, names, channels)
    # A file that is no catalog file, names that are missing, and nothing that could be served: nothing is written.
    with contextlib.suppress(CatalogError, UsageError):
        catalog = file_based.load([("catalog.json", content)])
        (selection,) = close([Selected(catalog, select(catalog, wanted))])
        opm.load(written(selection))


def written(selection: Selection) -> dict[str, bytes]:
    try:
        return catalog_files(selection.catalog)
    except CatalogError as error:
        if selection.unmodified:  # a whole catalog has bundles of no channel, too, and is refused as a whole
            raise
        raise AssertionError("a selection is checked before it is written") from error


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_what_opm_would_refuse_is_never_written(random: Random) -> None:
    check(random)


@pytest.mark.more
@pytest.mark.timeout(900)  # two minutes of CPU, beside other tests
@given(st.randoms(use_true_random=False))
@settings(max_examples=2000)
def test_what_opm_would_refuse_is_never_written_in_many_more_tries(random: Random) -> None:
    check(random)


@pytest.mark.parametrize(("catalog", "name"), [(catalog, name) for catalog, names in SEEDS.items() for name in names])
def test_the_model_takes_what_opm_takes(catalog: str, name: str) -> None:
    opm.load({"catalog.json": b"\n".join(json.dumps(one).encode() for one in package_blobs(catalog, name))})
