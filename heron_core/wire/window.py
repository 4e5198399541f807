"""How many micro-batches a client may have sent and not heard of."""

from __future__ import annotations

MAX_UNACKNOWLEDGED = 2
UNACKNOWLEDGED_BYTES = 32 << 20
"""A micro-batch waits for the acknowledgement of the one before where both together are more: next to whole batches of
large maps a second one in flight would make up a quarter of the client's peak, and saves no more than a round trip."""


def may_follow(in_flight: int, together_bytes: int) -> bool:
    """May one more micro-batch leave while `in_flight` are unacknowledged? `together_bytes`: its tensors and theirs."""
    return in_flight == 0 or (in_flight < MAX_UNACKNOWLEDGED and together_bytes <= UNACKNOWLEDGED_BYTES)
