"""The version constraints of ClusterExtensions: agreement with Masterminds/semver, and what is none."""

from __future__ import annotations

import pytest

from common.version import parse
from importer.operators.constraint import MAX_LENGTH, Constraint

VERSIONS = ["0.0.0", "0.0.3", "0.2.5", "1.0.0", "1.2.3-rc1", "1.2.3", "1.3.0", "2.0.0", "2.1.0-rc1"]
# Which of VERSIONS each allows, as Masterminds/semver 3.2.0 answers (Debian's golang-github-masterminds-semver-dev).
ALLOWED = {
    "1.2": "000001000",
    "1.2.3": "000001000",
    "=1.2.3": "000001000",
    "!=1.2.3": "111110111",
    "!=1.2": "111100110",
    "!=1": "111000010",
    "!=*": "011101110",
    ">1": "000000010",
    ">1.2": "000000110",
    ">1.2.3": "000000110",
    ">*": "011101110",
    "<1.2": "111100000",
    "<=1": "111101100",
    "<=1.2": "111101000",
    "<=1.2.3": "111101000",
    "<=*": "110000000",
    ">=1.2 <2": "000001100",
    ">=1.2, <2": "000001100",
    "=>1.2": "000001110",
    "=<2": "111101110",
    "~1": "000101100",
    "~1.2": "000001000",
    "~>1.2.3": "000001000",
    "~0.0.0": "111101110",
    "~*": "111101110",
    "^1.2.3": "000001100",
    "^0.2": "001000000",
    "^0.0.3": "010000000",
    "^0": "111000000",
    "^*": "100000000",
    "*": "111101110",
    "1.x": "000101100",
    "1.2 - 2": "000001110",
    "0.2.0 - 1.2.3": "001101000",
    "<1 || >=2": "111000010",
    ">=1.2.3-rc1": "000011111",
    ">=1.0.0-0 <2": "000101100",
    "~1.2.3-rc1": "000011000",
    "v1.2.3": "000001000",
    "1.2.3+5": "000001000",
}


def allowed(text, **how):
    return "".join(str(int(Constraint.parse(text, **how).allows(parse(version)))) for version in VERSIONS)


@pytest.mark.parametrize(("text", "expected"), ALLOWED.items())
def test_it_agrees_with_the_library_of_olm_v1(text, expected):
    assert allowed(text, together=False) == expected
    assert Constraint.parse(text, together=False).allows(parse("1.3.0+build.7")) is (expected[6] == "1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [(">=1.0.0-0 <2", "000111100"), (">=1.0.0-0 !=1.3.0", "000111011"), ("1.x || >=2.1.0-0", "000101101")],
)
def test_a_prerelease_counts_for_its_whole_alternative_since_3_4(text, expected):
    assert allowed(text) == expected


BAD = ["", " ", "latest", "1.2.3.4", ">>1", ">=", "1,", "||1", "1 ||", "1.2 -", "=1.2.3-", "01.a", ">1<2", "1,,2", "1" * 30]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_constraint(text):
    with pytest.raises(ValueError, match="version"):
        Constraint.parse(text)


def test_the_length_has_a_limit():
    longest = ">=1.2.3 " * (MAX_LENGTH // 8)
    assert Constraint.parse(longest).allows(parse("2.0.0"))
    with pytest.raises(ValueError, match="the limit is"):
        Constraint.parse(longest + " ")
