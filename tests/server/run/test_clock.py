from __future__ import annotations

import pytest
from server.driven import Start

from heron_server.run.clock import RunClock


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_goes_like_any_clock_while_the_loop_turns() -> None:
    time = Time()
    clock = RunClock(time)
    for _ in range(8):
        time.now += 0.25
        clock.turn()
    assert clock() == 102.0
    time.now += 1.5
    assert clock() == 103.5


def test_what_the_server_took_itself_beyond_2_s_is_nobody_s_time() -> None:
    time = Time()
    clock = RunClock(time)
    time.now += 60.0
    assert clock() == 102.0, "also before the loop turns"
    clock.turn()
    assert clock() == 102.0
    time.now += 1.0
    assert clock() == 103.0
    clock.turn()
    time.now += 3.0
    clock.turn()
    assert clock() == 105.0


@pytest.mark.parametrize("stopped_s", [60.0, 5000.0])
def test_a_server_that_was_stopped_for_a_while_takes_no_client_for_silent_or_late(
    start: Start, stopped_s: float
) -> None:
    server = start(rounds=1)
    time = Time()
    clock = server.coordinator.clock = RunClock(time)
    clients = server.clients("ab")
    for _ in range(4):
        clock.turn()
        server.coordinator.tick()
        time.now += 0.25
    time.now += stopped_s
    clock.turn()
    server.coordinator.tick()
    assert not any(client.cut or client.heard("dropped") for client in clients)
