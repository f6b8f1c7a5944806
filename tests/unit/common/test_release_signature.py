"""Content of release signatures, read as strictly as the cluster does."""

from __future__ import annotations

import json

import pytest

from common.errors import SignatureError
from common.openshift.release_signature import parse_signed, read_payload
from tests.fakes.openpgp import SAMPLES, payload

DIGEST = "sha256:" + "1" * 64
GOOD = json.loads(payload(DIGEST))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name[:16])
def test_published_signatures(path):
    assert parse_signed(path.read_bytes()).digest == "sha256:" + path.name.split(".sha256-")[1].partition(".")[0]


def test_the_reference_of_a_published_one():
    (path,) = (path for path in SAMPLES if path.name.startswith("ocp-4.15.0"))
    assert parse_signed(path.read_bytes()).reference == "quay.io/openshift-release-dev/ocp-release:4.15.0-x86_64"


@pytest.mark.parametrize(
    "optional",
    [None, {}, {"creator": "x"}, {"timestamp": -1}, {"timestamp": (1 << 63) - 1, "creator": None}],
)
def test_what_is_optional(optional):
    assert read_payload(json.dumps({**GOOD, "optional": optional}).encode()).digest == DIGEST
    assert read_payload(json.dumps({"critical": GOOD["critical"]}).encode() + b" \n").digest == DIGEST


def changed(**changes):
    return json.dumps({**GOOD, "critical": {**GOOD["critical"], **changes}}).encode()


REFUSED = {
    "another type": changed(type="atomic container signatures"),
    "no type": changed(type=None),
    "no identity": changed(identity={"docker-reference": ""}),
    "an identity of another type": changed(identity={"docker-reference": 1}),
    "an identity that hides": changed(identity={"docker-reference": "quay.io/a:\u202eb"}),
    "half a surrogate": changed(identity={"docker-reference": "quay.io/a:\ud800"}),
    "sha512": changed(image={"docker-manifest-digest": "sha512:" + "1" * 128}),
    "capitals": changed(image={"docker-manifest-digest": "sha256:" + "A" * 64}),
    "a short digest": changed(image={"docker-manifest-digest": "sha256:11"}),
    "a list of digests": changed(image={"docker-manifest-digest": [DIGEST]}),
    "a field more": json.dumps({**GOOD, "more": 1}).encode(),
    "a field more inside": changed(more=1),
    "a field more of optional": json.dumps({**GOOD, "optional": {"x": 1}}).encode(),
    "another case": payload(DIGEST).replace(b'"critical"', b'"Critical"'),
    "twice": payload(DIGEST)[:-1] + b', "optional": {}}',
    "a digest twice": payload(DIGEST).replace(
        b'{"docker-manifest', b'{"docker-manifest-digest": "sha256:' + b"2" * 64 + b'", "docker-manifest'
    ),
    "a fraction": json.dumps({**GOOD, "optional": {"timestamp": 1.5}}).encode(),
    "a whole fraction": json.dumps({**GOOD, "optional": {"timestamp": 1.0}}).encode(),
    "beyond int64": json.dumps({**GOOD, "optional": {"timestamp": 1 << 63}}).encode(),
    "a number of 5000 digits": payload(DIGEST).replace(b"1600000000", b"9" * 5000),
    "NaN": payload(DIGEST).replace(b"1600000000", b"NaN"),
    "a list": b"[]",
    "nothing": b"",
    "two documents": payload(DIGEST) * 2,
    "not UTF-8": payload(DIGEST).replace(b"tests", b"\xff"),
    "UTF-16": payload(DIGEST).decode().encode("utf-16"),
    "deep": b"[" * 60_000,
    "no critical": b'{"optional": {}}',
}


@pytest.mark.parametrize("kind", REFUSED)
def test_documents_that_are_refused(kind):
    with pytest.raises(SignatureError, match="the signed document") as caught:
        read_payload(REFUSED[kind])
    assert len(caught.value.message) < 600
    assert caught.value.message.isprintable()
