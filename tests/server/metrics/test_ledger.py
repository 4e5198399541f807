from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_server.metrics.ledger import (
    AGAINST_DOWN_BYTES,
    AGAINST_UP_BYTES,
    CALL_DOWN_BYTES,
    CALL_UP_BYTES,
    HTTP2_FRAME_PAYLOAD,
    SESSION_DOWN_BYTES,
    SESSION_UP_BYTES,
    Direction,
    Kind,
    Ledger,
    framed,
)

KINDS = list(get_args(Kind))
CHARGE = st.tuples(
    st.sampled_from(get_args(Direction)), st.integers(0, 1 << 24), st.sampled_from(KINDS), st.floats(0, 1)
)


@given(st.lists(CHARGE), st.integers(0, 5))
def test_the_kinds_add_up_to_what_crossed_the_wire(
    charges: list[tuple[Direction, int, Kind, float]], calls: int
) -> None:
    ledger = Ledger()
    ledger.charge_session()
    for direction, message, kind, share in charges:
        ledger.charge(direction, message, kind, int(message * share))
    for _ in range(calls):
        ledger.charge_call()
    ledger.move("activations_up", "labels_up", 17)
    figures = ledger.as_dict()
    assert set(figures) == {*KINDS, "wire_up", "wire_down"}
    assert sum(figures[kind] for kind in KINDS) == figures["wire_up"] + figures["wire_down"]
    up = [framed(message) for direction, message, *_ in charges if direction == "up"]
    down = [framed(message) for direction, message, *_ in charges if direction == "down"]
    assert ledger.wire_up == SESSION_UP_BYTES + calls * CALL_UP_BYTES + sum(up) + len(down) * AGAINST_DOWN_BYTES
    assert ledger.wire_down == SESSION_DOWN_BYTES + calls * CALL_DOWN_BYTES + sum(down) + len(up) * AGAINST_UP_BYTES


def test_payload_goes_to_its_kind_exactly_and_the_rest_to_control() -> None:
    ledger = Ledger()
    ledger.charge("up", 1000, "activations_up", 900)
    ledger.move("activations_up", "labels_up", 100)
    assert (ledger.activations_up, ledger.labels_up) == (800, 100)
    assert ledger.control == framed(1000) - 900 + AGAINST_UP_BYTES


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_framing_is_5_bytes_a_message_and_9_a_frame(frames: int) -> None:
    full = frames * HTTP2_FRAME_PAYLOAD - 5
    assert framed(full) == full + 5 + 9 * frames
    assert framed(full + 1) == full + 1 + 5 + 9 * (frames + 1)


@given(st.integers(0, 1000), st.integers(0, 2000))
def test_no_more_is_moved_than_there_is(charged: int, moved: int) -> None:
    ledger = Ledger()
    ledger.charge("down", 1000, "client_state_down", charged)
    before = sum(ledger.as_dict().values())
    ledger.move("client_state_down", "evaluation_down", moved)
    assert ledger.client_state_down == max(0, charged - moved) and sum(ledger.as_dict().values()) == before
    assert min(ledger.as_dict().values()) >= 0
