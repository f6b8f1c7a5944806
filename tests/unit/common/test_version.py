"""SemVer order, bounds, and OLM's ranges."""

from __future__ import annotations

import pytest

from common.version import MAX_LENGTH, MAX_RANGE_LENGTH, Bounds, OlmRange, parse, try_parse

ORDER = [
    "0.0.0-0", "0.1.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
    "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "4.12.0-202301010000", "4.12.0", "10.0.0",
]  # fmt: skip


def test_versions_stand_in_the_order_of_semver() -> None:
    keys = [parse(text).key for text in ORDER]
    assert keys == sorted(keys)
    assert len({parse(text).key for text in ORDER}) == len(ORDER)


def test_build_metadata_has_no_precedence() -> None:
    assert parse("1.42.0-5").key == parse("1.42.0-5+0.1687199951.p").key
    assert parse("1.42.0-5+0.1687199951.p").build == "0.1687199951.p"


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", " 1.2.3", "1.2.٣", "1.2.3-ü", "latest",
     "1" * MAX_LENGTH + ".0.0"],
)  # fmt: skip
def test_what_is_no_strict_version_is_refused(text: str) -> None:
    assert try_parse(text) is None
    with pytest.raises(ValueError, match="version"):
        parse(text)


@pytest.mark.parametrize(
    ("minimum", "maximum", "inside", "outside"),
    [
        ("1.34.0", "", ["1.34.0", "1.34.1-5", "2.0.0"], ["1.33.9", "1.34.0-1"]),
        ("", "1.4.0", ["1.4.0", "1.4.0-1", "0.1.0", "1.4.0+build"], ["1.4.1", "1.4.1-0"]),
        ("1.2.0", "1.4.0", ["1.2.0", "1.3.0-rc1", "1.4.0"], ["1.2.0-rc1", "1.4.1"]),
        ("4.12.0", "", ["4.12.0"], ["4.12.0-202301010000"]),
        ("1.2", "1.2", ["1.2.0", "1.2.99"], ["1.3.0", "1.3.0-0", "1.1.9"]),
        ("3", "", ["3.0.0", "3.0.1-1", "4.0.0"], ["3.0.0-rc.1", "2.99.99"]),
        ("3.1", "", ["3.1.0", "3.1.0+b"], ["3.1.0-0", "3.0.9"]),
        ("", "3", ["3.0.0-rc.1", "3.99.99-5", "0.0.1"], ["4.0.0-0", "4.0.0-rc.1", "4.0.0"]),
        ("", "3.1", ["3.1.99", "3.1.99-rc.1"], ["3.2.0-0", "3.2.0"]),
        ("3", "3.1", ["3.0.0", "3.1.5"], ["3.2.0"]),
        ("v1", "v1", ["1.0.0", "1.99.0"], ["2.0.0", "2.0.0-alpha"]),
    ],
)
def test_bounds(minimum: str, maximum: str, inside: list[str], outside: list[str]) -> None:
    bounds = Bounds.of(minimum, maximum)
    assert [text for text in inside + outside if bounds.contains(parse(text))] == inside
    assert bounds.text == f"{minimum}..{maximum}"


def test_exact_is_one_version_by_precedence() -> None:
    assert str(Bounds.of("1.2.3", "1.2.3").exact) == "1.2.3"
    assert str(Bounds.of("1.2.3", "1.2.3+b").exact) == "1.2.3+b"
    assert Bounds.of("1.2", "1.2").exact is None
    assert Bounds.of("3", "3").exact is None
    assert str(Bounds.of("3", "3.0.0").exact) == "3.0.0"
    assert Bounds.of("1.2.3", "1.2.4").exact is None
    assert Bounds.of("", "").open


@pytest.mark.parametrize(
    ("minimum", "maximum"),
    [
        ("2.0.0", "1.0.0"),
        ("2", "1"),
        ("x", ""),
        ("", "1.2-rc"),
        ("3-rc.1", ""),
        ("3.1+b", ""),
        ("3.", ""),
        ("3.x", ""),
        ("4", "3"),
        ("1.2.3.4", ""),
    ],
)
def test_bounds_that_mean_nothing_are_refused(minimum: str, maximum: str) -> None:
    with pytest.raises(ValueError, match=r"not a version|above"):
        Bounds.of(minimum, maximum)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">1.2.2", ["1.2.3", "2.0.0", "1.2.3-rc"], ["1.2.2", "1.2.1"]),
        ("> 1.2.2", ["1.2.3"], ["1.2.2"]),
        (">=1.2.2", ["1.2.2", "1.2.2+meta"], ["1.2.2-rc", "1.2.1"]),
        ("<2.0.0", ["1.9.9", "2.0.0-rc.1"], ["2.0.0"]),
        ("<= 2.0.0", ["2.0.0"], ["2.0.1"]),
        ("1.2.3", ["1.2.3", "1.2.3+x"], ["1.2.4"]),
        ("=1.2.3", ["1.2.3"], ["1.2.2"]),
        ("==1.2.3", ["1.2.3"], ["1.2.2"]),
        ("!1.2.3", ["1.2.4"], ["1.2.3"]),
        ("!=1.2.3", ["1.2.4"], ["1.2.3"]),
        (">=1.2.0 <2.0.0 || >3.0.0", ["1.2.0", "1.9.0", "3.0.1"], ["1.1.0", "2.0.0", "3.0.0"]),
        ("  >=1.0.0   <2.0.0  ", ["1.0.0"], ["2.0.0"]),
        (">1.2.2 <1.2.4 || >=2.0.0 !=2.1.0", ["1.2.3", "2.0.0"], ["1.2.4", "2.1.0"]),
        ("1.2.x", ["1.2.0", "1.2.9"], ["1.3.0", "1.1.9", "1.2.0-rc"]),
        ("1.x", ["1.0.0", "1.9.0", "2.0.0-rc"], ["2.0.0", "0.9.0"]),
        ("1.x.x", ["1.0.5"], ["1.1.0"]),
        (">1.2.x", ["1.3.0"], ["1.2.9"]),
        (">=1.2.x", ["1.2.0"], ["1.1.9"]),
        ("<1.2.x", ["1.1.9"], ["1.2.0"]),
        ("<=1.2.x", ["1.2.9"], ["1.3.0"]),
        ("<=1.x", ["1.9.9"], ["2.0.0"]),
        ("1.0.0 - 2.0.0", [], ["1.0.0", "1.5.0", "2.0.0"]),  # the lone dash is dropped, and nothing is two versions at once
        ("!1.2.x", [], ["1.1.0", "1.2.0", "1.3.0"]),
        (">=1.0.0-next.1 <2.0.0", ["1.0.0-next.2"], ["1.0.0-alpha"]),
    ],
)
def test_ranges_as_olm_reads_them(text: str, inside: list[str], outside: list[str]) -> None:
    one = OlmRange.parse(text)
    assert [version for version in inside + outside if one.contains(parse(version))] == inside


@pytest.mark.parametrize(
    "text",
    ["", " ", "||", ">1.0.0 ||", "|| >1.0.0", ">1.0.0 || || <2.0.0", "^1.0.0", "~1.0.0", "foo", "1.2", ">v1.2.3",
     "x", "1.x.3", "=<1.0.0", ">1.0.0-next.1", "1.2.*", ">1.2.3\t<2.0.0", ">" * MAX_RANGE_LENGTH + "1.0.0"],
)  # fmt: skip
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        OlmRange.parse(text)
