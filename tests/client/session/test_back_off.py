"""Pauses between two attempts to reach the server, by a clock of the test's own."""

from __future__ import annotations

from heron_client.session.back_off import BackOff


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pause_s(back_off: BackOff, clock: Clock, attempts: int) -> float:
    """Seconds until the next attempt, to a hundredth, after this many failures."""
    began = clock.now
    assert back_off.failed(attempts)
    while back_off.waiting:
        clock.now += 0.01
    return clock.now - began


def test_pauses_double_with_jitter_up_to_the_longest() -> None:
    clock = Clock()
    back_off = BackOff(4.0, 0.0, clock)
    for attempts, longest_s in [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 4.0), (400, 4.0)]:
        assert longest_s / 2 - 0.02 <= pause_s(back_off, clock, attempts) <= longest_s + 0.02


def test_it_gives_up_only_after_the_time_it_was_given_without_any_answer() -> None:
    clock = Clock()
    back_off = BackOff(1.0, 10.0, clock)
    assert back_off.failed(1) and back_off.offline
    clock.now += 9.0
    assert back_off.failed(2)
    back_off.succeeded()
    assert not back_off.offline
    clock.now += 9.0
    assert back_off.failed(1)
    clock.now += 10.1
    assert not back_off.failed(2)
