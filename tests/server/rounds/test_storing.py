"""What the driver does alone: no phase of it lasts for ever, and a full disk pauses the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from server.rounds.by_hand import come, kinds, of, submit_all, told, training

from heron_server.rounds.actions import Fail, NoteFullDisk, TryAgain
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import IllegalEvent, Phase

RULES = {"round_deadline_s": 100, "silence_s": 1e9, "space_wait_s": 30}


def aggregating(now: float = 0.0) -> Rounds:
    rounds = training(now=now, **RULES)
    submit_all(rounds, now)
    return rounds


def evaluating(now: float = 0.0) -> Rounds:
    rounds = aggregating(now)
    rounds.aggregated(now)
    return rounds


def committing(now: float = 0.0) -> Rounds:
    rounds = evaluating(now)
    rounds.evaluated()
    return rounds


def restoring(now: float = 0.0) -> Rounds:
    rounds = training(now=now, min_clients=3, **RULES)
    rounds.client_failed("a", "NaN")
    assert rounds.phase is Phase.RESTORING
    return rounds


DRIVER_ALONE = {
    "averaging the clients' updates": aggregating,
    "evaluating on the server": evaluating,
    "writing the checkpoint": committing,
    "going back to the last round": restoring,
}


@pytest.mark.parametrize("at_work", DRIVER_ALONE)
def test_a_driver_that_does_not_come_to_an_end_fails_the_run(at_work: str) -> None:
    rounds = DRIVER_ALONE[at_work](now=50.0)
    assert rounds.tick(60) == [] and rounds.tick(150) == []
    (action,) = rounds.tick(161)
    assert action == Fail(f"{at_work} has taken more than 100 s (server.round_deadline_s)")


def test_each_phase_has_the_whole_time() -> None:
    rounds = aggregating()
    assert rounds.tick(90) == []
    rounds.aggregated(95)
    assert rounds.tick(190) == []
    rounds.evaluated()
    assert rounds.tick(195) == [] and rounds.tick(290) == []
    assert kinds(rounds.tick(296)) == ["Fail"]


def test_clients_that_evaluate_do_not_fail_the_run() -> None:
    rounds = evaluating()
    rounds.clients_evaluate(("a", "b"))
    assert rounds.tick(101) == []
    late = rounds.client_failed("a", "late") + rounds.client_failed("b", "late")
    assert kinds(late) == ["SkipEvaluation", "SkipEvaluation", "Commit"]


@pytest.mark.parametrize(("storing", "interrupted"), [(committing, Phase.COMMITTING), (restoring, Phase.RESTORING)])
def test_a_full_disk_pauses_the_run_and_what_was_at_work_is_tried_again(
    storing: Callable[[], Rounds], interrupted: Phase
) -> None:
    rounds = storing()
    actions = rounds.out_of_space("no space", 10)
    assert of(NoteFullDisk, actions).text == "no space; tried again every 5 s, for at most 30 s"
    assert all(told(f"{name}-1", actions) == ["waiting"] for name in "abc")
    assert rounds.phase is Phase.PAUSED and rounds.restoring is (interrupted is Phase.RESTORING)
    assert rounds.tick(14) == []
    assert rounds.tick(15) == [TryAgain()] and rounds.phase is interrupted
    assert rounds.out_of_space("no space", 16) == [], "said once"
    assert rounds.tick(20) == [] and rounds.tick(21) == [TryAgain()]
    if interrupted is Phase.COMMITTING:
        rounds.committed(22)
        assert rounds.rounds_done == 1
    else:
        rounds.restored(2, 22)
    assert rounds.full_disk is None and not rounds.restoring


def test_a_run_that_finds_no_space_in_time_fails() -> None:
    rounds = committing()
    rounds.out_of_space("no space", 10)
    for now in (15, 21, 27, 33, 39):
        assert rounds.tick(now) == [TryAgain()]
        rounds.out_of_space("no space", now + 1)
    assert rounds.tick(40) == [Fail("no space, and in 30 s (server.space_wait_s) no space came free")]


def test_the_next_pause_has_the_whole_time_again() -> None:
    rounds = committing()
    rounds.out_of_space("no space", 10)
    rounds.tick(15)
    rounds.committed(16)
    submit_all(rounds, 17)
    rounds.aggregated(18)
    rounds.evaluated()
    assert kinds(rounds.out_of_space("no space", 35)) == ["NoteFullDisk", "waiting", "waiting", "waiting"]
    assert rounds.tick(41) == [TryAgain()]


def test_while_the_run_is_paused_clients_come_and_go_and_hear_why_nothing_happens() -> None:
    rounds = restoring()
    rounds.out_of_space("no space", 10)
    rounds.leave("b-1", "bye")
    (waiting,) = come(rounds, "b", 11, session="b-2")
    assert waiting.event.waiting.reason.startswith("the server's disk is full")  # type: ignore[union-attr]
    assert rounds.client_failed("c", "NaN") == []
    assert rounds.phase is Phase.PAUSED


@pytest.mark.parametrize("phase", [training, aggregating, evaluating])
def test_only_what_stores_can_find_the_disk_full(phase: Callable[[], Rounds]) -> None:
    rounds = phase()
    with pytest.raises(IllegalEvent, match="belongs to COMMITTING or RESTORING"):
        rounds.out_of_space("no space", 1)


def test_a_paused_run_that_is_told_of_a_success_it_did_not_try_for_is_a_bug() -> None:
    rounds = committing()
    rounds.out_of_space("no space", 10)
    with pytest.raises(IllegalEvent, match="in phase PAUSED"):
        rounds.committed(11)
