from __future__ import annotations

from typing import Any

import pytest
from server.rounds.by_hand import (
    DRIVER_EVENTS,
    come,
    commit,
    facts,
    in_phase,
    kinds,
    of,
    submit_all,
    told,
    training,
)

from heron_core.errors import UnknownSession
from heron_server.rounds.actions import (
    Commit,
    Evaluate,
    Fence,
    Finish,
    OpenRound,
    SkipEvaluation,
    Tell,
)
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import IllegalEvent, Phase
from heron_server.rounds.rules import Rules


def test_only_clients_that_count_and_are_here_are_asked_to_evaluate() -> None:
    rounds = training()
    rounds.client_failed("a", "NaN")
    rounds.update_received("b")
    rounds.update_received("c")
    rounds.watch_lost("c-1", 1)
    assert of(Evaluate, rounds.aggregated(1)).names == ("b",)
    actions = rounds.clients_evaluate(("b",))
    assert told("b-1", actions) == ["evaluation_begins"]
    event = actions[0].event.evaluation_begins
    assert (event.round, event.version, event.rank) == (1, 1, 1)
    assert rounds.client_evaluated("b") == [Commit()]


def test_a_round_between_two_evaluations_is_committed_at_once() -> None:
    rounds = training(rounds=3, evaluate_every=2)
    submit_all(rounds)
    assert rounds.aggregated(0) == [Commit()] and rounds.phase is Phase.COMMITTING
    rounds.committed(0)
    for _ in range(2):  # the second of each two, and the last
        submit_all(rounds)
        assert kinds(rounds.aggregated(0)) == ["Evaluate"]
        rounds.evaluated()
        rounds.committed(0)
    assert rounds.phase is Phase.FINISHED


def evaluating(**rules: Any) -> Rounds:
    rounds = training(**rules)
    submit_all(rounds)
    rounds.aggregated(0)
    rounds.clients_evaluate(("a", "b", "c"))
    return rounds


def test_a_client_lost_in_evaluation_is_skipped_and_the_round_commits() -> None:
    rounds = evaluating()
    assert rounds.client_evaluated("a") == []
    assert rounds.client_failed("b", "NaN") == [SkipEvaluation("b")]
    assert rounds.client_evaluated("b") == [], "its last counts come in late"
    assert rounds.leave("c-1", "bye") == [Fence("c-1"), SkipEvaluation("c"), Commit()]


def test_a_client_that_comes_back_in_evaluation_is_asked_again() -> None:
    rounds = evaluating()
    assert kinds(come(rounds, "a", 1, session="a-2")) == ["Fence", "evaluation_begins"]


def test_the_last_commit_finishes_the_run_and_late_comers_hear_of_it() -> None:
    rounds = training(rounds=1)
    submit_all(rounds)
    actions = commit(rounds)
    assert kinds(actions) == ["round_ends"] * 3 + ["finished"] * 3 + ["Finish"]
    assert rounds.phase is Phase.FINISHED and rounds.rounds_done == 1 and isinstance(actions[-1], Finish)
    assert kinds(come(rounds, "a", 5, session="a-2")) == ["Fence", "finished"]


def test_between_rounds_a_client_within_its_grace_is_waited_for() -> None:
    rounds = training(min_clients=2, grace_s=10)
    submit_all(rounds)
    rounds.watch_lost("b-1", 1)
    assert told("a-1", commit(rounds, 2)) == ["round_ends"]
    assert of(OpenRound, come(rounds, "b", 3, session="b-2")) == OpenRound(1, 2, ("a", "b", "c"))


def test_between_rounds_the_others_go_on_once_a_client_is_lost() -> None:
    rounds = training(min_clients=2, grace_s=10)
    submit_all(rounds)
    rounds.watch_lost("b-1", 1)
    commit(rounds, 2)
    for name in "ac":
        rounds.beat(f"{name}-1", 12)
    assert of(OpenRound, rounds.tick(12)) == OpenRound(1, 2, ("a", "c"))


def test_between_rounds_too_few_clients_wait() -> None:
    rounds = training(min_clients=2, silence_s=1e9)
    submit_all(rounds)
    rounds.watch_lost("b-1", 1)
    rounds.watch_lost("c-1", 1)
    assert kinds(commit(rounds, 2)) == ["round_ends"]
    assert rounds.phase is Phase.GATHERING
    assert "OpenRound" not in kinds(rounds.tick(1000))


def test_draining_tells_everyone_who_listens_and_changes_nothing() -> None:
    rounds = training()
    rounds.watch_lost("b-1", 1)
    before = facts(rounds)
    actions = rounds.drain("stopped")
    assert [(a.session_id, a.event.draining.reason) for a in actions if isinstance(a, Tell)] == [
        ("a-1", "stopped"), ("c-1", "stopped"),
    ]  # fmt: skip
    assert facts(rounds) == before


def test_a_resumed_run_waits_rejoin_s_for_everyone_it_knew() -> None:
    def resumed() -> Rounds:
        rules = Rules(rounds=5, clients=3, min_clients=1, rejoin_s=60, silence_s=1e9)
        rounds = Rounds(rules, table={"a": 0, "b": 1, "c": 2}, rounds_done=2, term=7)
        assert rounds.tick(0) == []
        come(rounds, "c", 5)
        come(rounds, "b", 6)
        return rounds

    everyone = come(resumed(), "a", 7)
    assert of(OpenRound, everyone) == OpenRound(7, 3, ("a", "b", "c"))
    rounds = resumed()
    assert rounds.tick(59) == []
    assert of(OpenRound, rounds.tick(60)) == OpenRound(7, 3, ("b", "c"))
    begins = come(rounds, "b", 60, session="b-2")[-1].event.round_begins
    assert (begins.version, begins.rank) == (2, 1)


def test_a_run_resumed_at_its_last_checkpoint_is_finished() -> None:
    rounds = Rounds(Rules(rounds=2, clients=1, min_clients=1), term=3, table={"a": 0}, rounds_done=2)
    assert kinds(come(rounds, "a")) == ["finished"]


@pytest.mark.parametrize("term", [0, 1])
def test_a_restart_without_a_higher_term_is_illegal_and_changes_nothing(term: int) -> None:
    rounds = training(quorum=1.0)
    rounds.client_failed("a", "NaN")
    before = facts(rounds)
    with pytest.raises(IllegalEvent, match=f"it was 1, got {term}"):
        rounds.restored(term, 1)
    assert facts(rounds) == before


def test_an_evaluation_by_clients_is_not_over_while_one_of_them_owes_it() -> None:
    rounds = in_phase(Phase.EVALUATING)
    rounds.clients_evaluate(("a", "b"))
    rounds.client_evaluated("a")
    with pytest.raises(IllegalEvent, match="b evaluate"):
        rounds.evaluated()
    assert rounds.phase is Phase.EVALUATING and kinds(rounds.client_evaluated("b")) == ["Commit"]


@pytest.mark.parametrize("event", DRIVER_EVENTS)
@pytest.mark.parametrize("phase", Phase)
def test_a_driver_s_event_belongs_to_one_phase_and_elsewhere_changes_nothing(event: str, phase: Phase) -> None:
    rounds = in_phase(phase)
    home, send = DRIVER_EVENTS[event]
    if phase is home:
        send(rounds)
        return
    before = facts(rounds)
    with pytest.raises(IllegalEvent, match=home.name):
        send(rounds)
    assert facts(rounds) == before


@pytest.mark.parametrize("event", ["watch_opened", "beat", "leave"])
def test_an_unknown_session_is_refused_and_changes_nothing(event: str) -> None:
    rounds = training()
    before = facts(rounds)
    with pytest.raises(UnknownSession):
        getattr(rounds, event)("nobody", "why" if event == "leave" else 1)
    assert rounds.watch_lost("nobody", 1) == []
    assert facts(rounds) == before
