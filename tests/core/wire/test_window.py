from __future__ import annotations

import pytest

from heron_core.wire.window import (
    MAX_UNACKNOWLEDGED,
    TOGETHER_BYTES,
    UNACKNOWLEDGED_BYTES,
    may_follow,
    rows_together,
)


@pytest.mark.parametrize(("in_flight", "together_bytes", "may"), [
    (0, 1 << 40, True),
    (1, UNACKNOWLEDGED_BYTES, True),
    (1, UNACKNOWLEDGED_BYTES + 1, False),
    (MAX_UNACKNOWLEDGED, 3, False),
])  # fmt: skip
def test_one_always_leaves_and_a_second_where_both_together_are_small(
    in_flight: int, together_bytes: int, may: bool
) -> None:
    assert may_follow(in_flight, together_bytes) is may


@pytest.mark.parametrize(("batch", "micro", "row_bytes", "rows"), [
    (64, 4, 64, 64),
    (64, 4, TOGETHER_BYTES // 64, 64),
    (64, 4, TOGETHER_BYTES // 64 + 1, 32),  # 60 rows would fit, and the upload is no multiple of them
    (60, 4, TOGETHER_BYTES // 50, 20),
    (64, 4, TOGETHER_BYTES, 4),
    (64, 64, 8, 64),
    (4, 1, 0, 4),
])  # fmt: skip
def test_small_micro_batches_travel_together_and_an_upload_is_whole_messages(
    batch: int, micro: int, row_bytes: int, rows: int
) -> None:
    assert rows_together(batch, micro, row_bytes) == rows
