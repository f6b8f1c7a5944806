import tracemalloc
from dataclasses import replace

import pytest

from common.errors import UsageError
from common.oci.reference import Reference

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("quay.io/org/image:v1", "quay.io", "org/image", "v1", None),
        (f"quay.io/org/image@sha256:{HEX}", "quay.io", "org/image", None, f"sha256:{HEX}"),
        (f"quay.io/org/image:v1@sha256:{HEX}", "quay.io", "org/image", "v1", f"sha256:{HEX}"),
        ("localhost:5000/a", "localhost:5000", "a", None, None),
        ("localhost/a", "localhost", "a", None, None),
        ("registry.example:5000/a/b/c/d:1", "registry.example:5000", "a/b/c/d", "1", None),
        ("[::1]:5000/a:b", "[::1]:5000", "a", "b", None),
        ("127.0.0.1:5000/a_b/c__d/e-f.g", "127.0.0.1:5000", "a_b/c__d/e-f.g", None, None),
        ("ubi9", "docker.io", "library/ubi9", None, None),
        ("library/ubi9:latest", "docker.io", "library/ubi9", "latest", None),
        ("org/image", "docker.io", "org/image", None, None),
        ("index.docker.io/org/image", "docker.io", "org/image", None, None),
    ],
)
def test_parses(text, registry, repository, tag, digest):
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no repository path"),
        ("quay.io/", "no repository path"),
        ("quay.io/Org/image", "upper-case"),
        ("quay.io/org/im age", "no repository path"),
        ("quay.io/org/image:-x", "no tag"),
        ("quay.io/org/image:" + "x" * 129, "no tag"),
        ("quay.io/org/image@sha256:abc", "not a digest"),
        (f"quay.io/org/image@sha512:{'a' * 128}", "not supported"),
        ("quay.io:99999/a", "no host name"),
        ("quay.io/../etc", "no repository path"),
        ("oci://quay.io/kuadrant/wasm-shim:v0.5.0", "no host name"),
        ("quay.io/a//b", "no repository path"),
        ("quay.io/" + "a" * 256, "no repository path"),
    ],
)
def test_refuses_with_a_reason(text, why):
    with pytest.raises(UsageError, match=why):
        Reference.parse(text)


def test_text_round_trips_and_pins():
    reference = Reference.parse("quay.io/org/image:v1")
    assert str(reference) == "quay.io/org/image:v1"
    assert str(reference.pinned(f"sha256:{HEX}")) == f"quay.io/org/image@sha256:{HEX}"
    assert str(replace(reference, digest=f"sha256:{HEX}")) == f"quay.io/org/image:v1@sha256:{HEX}"


@pytest.mark.parametrize(
    "text", ["a/" * 3_000_000, "a.b/" + "a" * 6_000_000, "h.test/a:" + "t" * 6_000_000, "A" * 6_000_000, "x" * 100_000 + "://a"]
)
def test_a_long_text_takes_no_multiple_of_its_memory(text):
    """An untrusted payload or bundle may name megabytes; the expression of repositories took a hundred times as many."""
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as refused:
            Reference.parse(text)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()
    assert len(refused.value.message) < 1_000
