"""A volume while it is written: what of it may be read back, and when."""

from __future__ import annotations

import os

import pytest

from common.archive.direct_io import Buffers, CachedWriter, DirectWriter, open_direct
from common.archive.inventory import VolumeRecord
from common.archive.volume import OPENING
from exporter.archive.volume_writer import VolumeWriter

MIB = 1024**2
PLACES = tuple(
    (len(OPENING) + begin * MIB, len(OPENING) + end * MIB) for begin, end in ((0, 200), (200, 300), (300, 400), (400, 401))
)


@pytest.fixture(name="volume")
def _volume(tmp_path):
    volume = VolumeWriter(tmp_path / "volume-0001.tar.zst", 1, VolumeRecord("volume-0001.tar.zst", PLACES[-1][1]), 4, Buffers())
    volume.create(PLACES[-1][1])
    os.truncate(volume.path, PLACES[-1][1])
    yield volume
    volume.close()


def read_back(volume):
    told = []
    volume.read_back_data(told.append)
    return sum(told)


def test_what_is_settled_from_the_beginning_on_is_read_back_before_the_rest(volume):
    assert not volume.settle(*PLACES[1]), "the first place is not settled"
    assert volume.settle(*PLACES[0]), "300 MiB are"
    assert read_back(volume) == PLACES[1][1]
    assert not volume.settle(*PLACES[2]), "100 MiB more are not worth a lap"
    assert read_back(volume) == 0
    assert volume.settle(*PLACES[3])
    assert read_back(volume) == PLACES[3][1] - PLACES[1][1]


def test_only_large_places_go_past_the_page_cache(volume):
    assert isinstance(volume.run(*PLACES[0][:1], end=PLACES[0][0] + MIB), CachedWriter)
    direct = open_direct(volume.path)
    large = volume.run(PLACES[0][0], end=PLACES[0][1])
    assert isinstance(large, CachedWriter if direct is None else DirectWriter)
    if direct is not None:
        os.close(direct)
