from __future__ import annotations

import pytest

from heron_core.wire.window import MAX_UNACKNOWLEDGED, UNACKNOWLEDGED_BYTES, may_follow


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
