"""How many micro-batches of an upload travel together, and how many of them a client may have sent and not heard of.

On the wire and in what acknowledges it, micro-batches that travel together are one.
"""

from __future__ import annotations

TOGETHER_BYTES = 64 << 10
"""A message costs both sides some tenths of a millisecond, however little is in it."""
MAX_UNACKNOWLEDGED = 2
UNACKNOWLEDGED_BYTES = 32 << 20
"""A micro-batch waits for the acknowledgement of the one before where both together are more: next to whole batches of
large maps a second one in flight would make up a quarter of the client's peak, and saves no more than a round trip."""


def rows_together(batch_rows: int, micro_rows: int, row_bytes: int) -> int:
    """Rows of an upload in one message or, where a micro-batch is larger than one, its messages: as many whole
    micro-batches as TOGETHER_BYTES hold and the upload is a multiple of, one at least."""
    count = batch_rows // micro_rows
    fitting = (n for n in range(count, 1, -1) if count % n == 0 and n * micro_rows * row_bytes <= TOGETHER_BYTES)
    return micro_rows * next(fitting, 1)


def may_follow(in_flight: int, together_bytes: int) -> bool:
    """May one more micro-batch leave while `in_flight` are unacknowledged? `together_bytes`: its tensors and theirs."""
    return in_flight == 0 or (in_flight < MAX_UNACKNOWLEDGED and together_bytes <= UNACKNOWLEDGED_BYTES)
