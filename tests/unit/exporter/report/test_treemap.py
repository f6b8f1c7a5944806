"""Pictures of sizes: areas are as the sizes, nothing overlaps, small things are drawn together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.report.page import MOST, Item, framed, treemap

WIDTH, HEIGHT = 960, 420


@given(st.lists(st.integers(0, 10**13), max_size=90))
def test_areas_are_as_the_sizes(sizes: list[int]) -> None:
    boxes = treemap([Item(f"w{n}", size) for n, size in enumerate(sizes)], WIDTH, HEIGHT)
    seen = [size for size in sizes if size * WIDTH * HEIGHT > sum(sizes)]
    assert min(len(seen), MOST) <= len(boxes) <= MOST
    drawn = sum(box.item.size for box in boxes)
    assert 0.999 * sum(sizes) <= drawn <= sum(sizes)
    for box in boxes:
        share = box.item.size / drawn
        assert box.share == pytest.approx(share)
        assert box.width * box.height == pytest.approx(share * WIDTH * HEIGHT, abs=0.2 * (box.width + box.height) + 0.1)
        assert box.x >= -0.1
        assert box.y >= -0.1
        assert box.x + box.width <= WIDTH + 0.3
        assert box.y + box.height <= HEIGHT + 0.3


def test_nothing_overlaps() -> None:
    boxes = treemap([Item(f"w{n}", 1000 // (n + 1)) for n in range(30)], WIDTH, HEIGHT)
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            tall = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(wide, tall) < 0.3, (one.title, other.title)


def test_what_is_small_is_drawn_together() -> None:
    boxes = treemap([Item(f"w{n}", 1000 if n < 70 else 1) for n in range(100)], WIDTH, HEIGHT)
    assert [box.item.label for box in boxes if "others" in box.item.label] == ["41 others"]


def test_labels_fit_and_titles_say_it_all() -> None:
    large, small = treemap(
        [Item("a-rather-long-name-of-an-operator", 5 * 1024**3, "operator-1-1"), Item("tiny", 1_000_000)], 200, 100
    )
    assert large.title == "a-rather-long-name-of-an-operator: 5.0 GiB, 100.0 %"
    assert large.label == "a-rather-long-name-of-an-…"
    assert large.note == "5.0 GiB"
    assert large.colour != small.colour
    assert (small.label, small.note) == ("", "")
    assert small.title == "tiny: 976.6 KiB, 0.0 %"


@pytest.mark.parametrize("count", [1, 2, 7, 57, 347])
def test_volumes_come_in_their_order(count: int) -> None:
    volumes = {f"volume-{n:04d}": [Item("a", 3), Item("b", n)] for n in range(1, count + 1)}
    frames = framed(volumes, WIDTH, 600)
    assert [frame.outline.item.label for frame in frames] == list(volumes)
    places = [(frame.outline.y, frame.outline.x) for frame in frames]
    assert places == sorted(places)
    for frame in frames:
        assert sum(box.item.size for box in frame.boxes) == frame.outline.item.size
        assert all(box.y >= frame.outline.y and box.x >= frame.outline.x - 0.1 for box in frame.boxes)


def test_nothing_is_no_picture() -> None:
    assert treemap([], WIDTH, HEIGHT) == ()
    assert framed({}, WIDTH, HEIGHT) == ()
    assert framed({"volume-0001": []}, WIDTH, HEIGHT)[0].boxes == ()
