import pytest

from common.cli import options
from common.errors import UsageError


@pytest.mark.parametrize("text", ["abc", "-1", "1.0", " 1", "1_0", "٣", "²", "9" * 5000])
def test_what_numbers_no_shard_is_said(text):
    with pytest.raises(UsageError, match="JOB_COMPLETION_INDEX is not the number of a shard") as raised:
        options.shard_index(text)
    assert len(raised.value.message) < 200


def test_a_shard_that_nobody_numbered_is_said():
    with pytest.raises(UsageError, match="--shards without JOB_COMPLETION_INDEX"):
        options.shard_index("")


def test_a_shard_has_its_number_from_the_job():
    assert [options.shard_index(text) for text in ("0", "7", "000000012")] == [0, 7, 12]
