"""Lines that peers cause, on a clock that the test moves."""

from __future__ import annotations

from heron_server.metrics.sparing import Sparing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_one_a_second_and_the_rest_is_counted() -> None:
    clock = Clock()
    sparing = Sparing(3, clock)
    assert [sparing.allows() for _ in range(5)] == [True, True, True, False, False]
    clock.now = 1.0
    assert [sparing.allows() for _ in range(2)] == [True, False]
    assert sparing.left_out() == 3 and sparing.left_out() == 0
    clock.now = 100.0
    assert [sparing.allows() for _ in range(4)] == [True, True, True, False]
