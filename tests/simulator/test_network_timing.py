"""The virtual clock against rounds worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heron_server.metrics.ledger import framed
from heron_simulator.network_model import Compute, Link, Sent, figures, round_seconds, window_of

LATENCY = Link(latency_s=1.0)
NOTHING = Compute()


def seconds(
    *clients: Sent, link: Link = LATENCY, compute: Compute = NOTHING, steps: int = 4, period: int = 1,
    slots: int = 100, window: int = 2,
) -> float:  # fmt: skip
    return round_seconds(clients, link, compute, local_steps=steps, upload_period=period, slots=slots, window=window)


def sent(uploads: int, gradients: int = 0, pieces: int = 1, size: int = 1) -> Sent:
    return Sent(
        fetch=1, state=1, opening=1 if uploads else 0, uploads=[[size] * pieces for _ in range(uploads)],
        gradients=[size] * gradients, update=1,
    )  # fmt: skip


def test_without_uploads_a_round_is_four_latencies() -> None:
    assert seconds(sent(0)) == 4.0  # RoundBegins, request, client state, update


def test_a_state_that_comes_with_round_begins_saves_its_round_trip() -> None:
    assert seconds(replace(sent(0), fetch=0)) == 2.0
    assert seconds(replace(sent(0), fetch=0), link=Link(1.0, down_bit_per_s=8.0)) == 3.0


def test_uploads_go_out_two_a_round_trip() -> None:
    # Begins 1, fetch 3, Position 5; uploads 0 and 1 at 5, 2 and 3 at 7; acknowledged at 9; the update is there at 10.
    assert seconds(sent(4)) == 10.0
    assert seconds(sent(2), steps=2) == 8.0
    assert seconds(sent(1), steps=4, period=4) == 8.0


def test_cut_gradients_cost_a_round_trip_each_step() -> None:
    assert seconds(sent(4, gradients=4)) == 5.0 + 4 * 2.0 + 1.0


def test_micro_batches_fill_the_window_one_by_one() -> None:
    # Six micro-batches, two at a time: 5, 7, 9; acknowledged at 11.
    assert seconds(sent(2, pieces=3), steps=2) == 12.0


def test_large_micro_batches_go_out_one_a_round_trip() -> None:
    # At 5, 7, 9, 11, 13, 15; the last is acknowledged at 17.
    assert seconds(sent(2, pieces=3), steps=2, window=1) == 18.0


def test_the_window_is_one_where_two_micro_batches_are_more_than_32_mib() -> None:
    assert [window_of(size) for size in (1, 16 << 20, (16 << 20) + 1, 1 << 30)] == [2, 2, 1, 1]


def test_micro_batches_leave_one_after_the_other_as_they_are_computed() -> None:
    # Begins to Position at 0; one leaves at 1, 3 and 7 s of a step of 8 s and takes 1 s; the update leaves at its end.
    link = Link(up_bit_per_s=8.0)
    free = Sent(uploads=[[1, 1, 1]], update=1)
    assert seconds(free, link=link, compute=Compute(8.0, (1 / 8, 3 / 8, 7 / 8)), steps=1) == 9.0
    slow = Link(up_bit_per_s=2.0)
    assert seconds(free, link=slow, compute=Compute(8.0, (1 / 8, 3 / 8, 7 / 8)), steps=1) == 1 + 4 * 4


def test_a_message_occupies_its_link_for_its_bits() -> None:
    link = Link(up_bit_per_s=8.0, down_bit_per_s=4.0)
    one = Sent(fetch=1, state=10, opening=2, uploads=[[3], [4]], update=5)
    assert seconds(one, link=link, steps=2) == 1 + 2 * 10 + 2 + 3 + 4 + 5


def test_uploads_leave_while_the_client_computes_on() -> None:
    link = Link(up_bit_per_s=8.0)
    free = Sent(uploads=[[3], [3], [3]], update=1)
    # Half a step, then each upload while a step of 4 s goes on; after the last, half a step and the update.
    assert seconds(free, link=link, compute=Compute(4.0, (0.5,)), steps=3) == 2 + 4 + 4 + 3 + 1
    # Steps of 1 s hide behind uploads of 3 s, but for the first half.
    assert seconds(free, link=link, compute=Compute(1.0, (0.5,)), steps=3) == 0.5 + 9 + 1


def test_cut_gradients_keep_a_client_from_computing_on() -> None:
    link = Link(up_bit_per_s=8.0, down_bit_per_s=8.0)
    bound = Sent(uploads=[[3], [3]], gradients=[3, 3], update=1)
    # For each step: a third computed, up 3, down 3, the rest computed.
    assert seconds(bound, link=link, compute=Compute(3.0, (1 / 3,)), steps=2) == pytest.approx(2 * (3 + 6) + 1)


def test_what_a_client_can_compute_without_the_cut_gradients_hides_behind_them() -> None:
    link = Link(up_bit_per_s=8.0, down_bit_per_s=8.0)
    bound = Sent(uploads=[[3], [3]], gradients=[3, 3], update=1)
    # For each step: 1 s computed, up 3 and down 3 while the other 2 s are computed.
    compute = Compute(3.0, (1 / 3,), answer_share=1.0)
    assert seconds(bound, link=link, compute=compute, steps=2) == pytest.approx(2 * (1 + 6) + 1)
    long = Compute(12.0, (1 / 12,), answer_share=1.0)
    assert seconds(bound, link=link, compute=long, steps=2) == pytest.approx(2 * 12 + 1)


def test_server_takes_uploads_one_at_a_time() -> None:
    assert seconds(sent(2), sent(2), compute=Compute(server_step_s=10.0), steps=2) == 6.0 + 4 * 10.0


def test_a_step_waits_for_its_credit() -> None:
    # Room for two: the first two uploads are there at 6, so two more leave at 7 and are there at 8, the last two leave
    # at 9 and are acknowledged at 11. With room for all, every upload is acknowledged at 7.
    assert seconds(sent(2), sent(2), sent(2), steps=2, slots=2) == 12.0
    assert seconds(sent(2), sent(2), sent(2), steps=2, slots=6) == 8.0


def test_a_round_ends_with_its_slowest_update() -> None:
    link = Link(up_bit_per_s=8.0)
    assert seconds(Sent(update=2), Sent(update=7), link=link) == 7.0


def test_those_who_vanished_take_no_time_and_abandoned_rounds_are_free() -> None:
    rounds = {(1, 1): {0: sent(0), 1: Sent(fetch=1)}, (1, 2): {0: Sent()}, (2, 2): {0: sent(0)}}
    found = figures(rounds, LATENCY, NOTHING, local_steps=4, upload_period=1, byte_budget=9, upload_bytes=1)
    assert found.round_s == (4.0, 4.0)


def test_messages_are_counted_with_their_framing() -> None:
    one = Sent()
    assert one.up(100) == framed(100)
    assert one.down(7) == framed(7)
    assert (one.messages_up, one.messages_down) == (1, 1)


def test_a_pool_of_mixed_batches_begins_when_its_last_upload_is_here() -> None:
    slow, compute = sent(2, pieces=3), Compute(server_step_s=1.0)
    together = round_seconds([sent(2), slow], LATENCY, compute, local_steps=2, upload_period=1, slots=3, mixing=True)
    # Of three micro-batches the third leaves when the first is acknowledged, at 7: the pool is whole at 8.
    assert round_seconds([slow], LATENCY, compute, local_steps=2, upload_period=1, slots=3) > 8
    assert together >= 8 + 2 * 2 * 1.0
