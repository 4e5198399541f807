"""Whoever starts something owns its failure: a run whose own part fails ends, and no client is told to end with it."""

from __future__ import annotations

from typing import Any

import pytest
from server.driven import Client, Server, Start, play_round

from heron_core.errors import CheckpointError, DataError, HeronError, RunFailed, TensorError, Unreachable
from heron_server.run.coordinator import Coordinator
from heron_server.run.failure import failure_of


class Planted(Exception):
    """What nobody expects."""


def plant(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def failed(coordinator: Coordinator) -> HeronError:
    assert coordinator.failure is not None, "the run goes on as if nothing had happened"
    return coordinator.failure


PLACES = {
    "a report told to the machine": lambda s: (s.coordinator._rounds, "aggregated"),
    "an action performed inside an RPC": lambda s: (s.coordinator._phases, "aggregate"),
    "a command's completion": lambda s: (s.coordinator._phases, "_committed"),
    "a record made": lambda s: (s.coordinator._journal, "round_made"),
    "a command on the worker": lambda s: (s.trainer, "end_round"),
    "a client's uploads taken": lambda s: (s.coordinator._phases._desk, "open"),
}


@pytest.mark.parametrize("error", [Planted("no\nmore"), SystemExit(0), TensorError("ours")], ids=type)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_fails_ends_the_run_with_its_last_checkpoint_usable(
    start: Start, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    server = start(rounds=3)
    play_round(server.clients("ab"))
    server.close()
    server = start(rounds=3, resume=True)
    with monkeypatch.context() as planted:
        planted.setattr(*PLACES[place](server), plant(error))
        clients = server.clients("ab")
        if server.coordinator.failure is None:  # the uploads are opened as the second client comes
            play_round(clients)
    failure = failed(server.coordinator)
    assert type(failure) is RunFailed and failure.__cause__ is error
    assert "\n" not in str(failure) and "go on with --resume" in str(failure)
    assert not server.coordinator.finished and server.coordinator.rounds_done == 1
    server.close()
    again = start(rounds=3, resume=True)
    clients = again.clients("ab")
    while not again.coordinator.finished:
        play_round(clients)
    assert len(again.history) == 3


def test_an_error_that_says_what_is_wrong_outside_keeps_its_class(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    error = DataError("the test set cannot be read; mend it")
    monkeypatch.setattr(server.trainer, "evaluate", plant(error))
    play_round(server.clients("ab"))
    assert failed(server.coordinator) is error


@pytest.mark.parametrize("error", [CheckpointError("torn"), RunFailed("no disk")], ids=type)
def test_those_classes_are_final(error: HeronError) -> None:
    assert failure_of(error) is error


def fail_the_round(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    clients = server.clients("ab")
    monkeypatch.setattr(server.trainer, "end_round", plant(Planted("first")))
    play_round(clients)
    assert server.coordinator.failure is not None
    return clients


def test_after_a_failure_nothing_is_performed_and_the_first_error_counts(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    clients = fail_the_round(server, monkeypatch)
    monkeypatch.setattr(server.coordinator._loop, "_perform", plant(Planted("second")))
    clients[0].leave()
    server.now = 1e6
    server.coordinator.tick()
    server.coordinator.fail(Planted("third"))
    assert "first" in str(failed(server.coordinator))


def test_after_a_failure_clients_still_hear_that_the_server_stops_and_nobody_comes_in(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    clients = fail_the_round(server, monkeypatch)
    with pytest.raises(Unreachable, match="try again once it is back"):
        server.client("c")
    server.coordinator.drain("the server has failed")
    assert [len(client.heard("draining")) for client in clients] == [1, 1]


def test_an_error_in_a_tick_ends_the_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    monkeypatch.setattr(server.coordinator._rounds, "tick", plant(Planted("tock")))
    server.coordinator.tick()
    assert "a bug in the server: Planted: tock" in str(failed(server.coordinator))


def test_a_bug_leaves_its_traceback_in_the_log_and_a_failure_of_the_world_does_not(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    server.coordinator.fail(RunFailed("the disk is gone"))
    assert not caplog.records
    other = start("other")
    other.coordinator.fail(Planted("tock"))
    assert "Planted: tock" in caplog.text and "Traceback" not in str(failed(other.coordinator))


def test_an_interrupt_is_not_the_run_s_failure(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    monkeypatch.setattr(server.trainer, "end_round", plant(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        play_round(server.clients("ab"))
    assert server.coordinator.failure is None
