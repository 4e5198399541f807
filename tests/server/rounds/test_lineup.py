from __future__ import annotations

from typing import Any

import pytest
from server.rounds.by_hand import (
    come,
    commit,
    kinds,
    machine,
    of,
    submit_all,
    training,
)

from heron_server.rounds.actions import (
    Action,
    OpenRound,
    Tell,
)
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import IllegalEvent, Phase


def drawing(names: str = "abcd", per_round: int = 2, **rules: Any) -> Rounds:
    """Round r begins its order at rank r - 1: 0123, 1230, 2301."""
    turn = lambda number, ranks: [(number - 1 + i) % ranks for i in range(ranks)]
    return training(names, per_round=per_round, order=turn, rounds=9, **rules)


def reason_told(session_id: str, actions: list[Action]) -> str:
    (tell,) = [a for a in actions if isinstance(a, Tell) and a.session_id == session_id]
    return str(tell.event.waiting.reason)


def test_a_round_takes_the_first_of_its_order_and_tells_the_others_that_they_wait() -> None:
    rounds = machine(clients=3, per_round=2, order=lambda number, ranks: [2, 0, 1])
    for name in "ab":
        come(rounds, name)
    actions = come(rounds, "c")
    assert of(OpenRound, actions).participants == ("a", "c"), "in rank order"
    assert [kind for kind in kinds(actions) if kind != "OpenRound"] == ["round_begins", "round_begins", "waiting"]
    assert reason_told("b-1", actions) == "not drawn for round 1; you may be in the next"
    assert rounds.table == {"a": 0, "b": 1, "c": 2}, "who is not drawn has a rank all the same"


def test_every_round_is_drawn_anew_over_all_ranks() -> None:
    rounds = drawing()
    drawn = [rounds.lineup.participants]
    for now in range(3):
        submit_all(rounds, now)
        drawn.append(of(OpenRound, commit(rounds, now)).participants)
    assert drawn == [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]


def test_a_resumed_run_draws_what_the_undisturbed_one_drew() -> None:
    rounds = drawing()
    submit_all(rounds)
    drawn = of(OpenRound, commit(rounds)).participants
    resumed = Rounds(rounds.rules, table=dict(rounds.table), rounds_done=1, term=7)
    for name in "dcb":
        come(resumed, name)
    assert of(OpenRound, come(resumed, "a")) == OpenRound(7, 2, drawn)


def test_the_place_of_an_absent_client_goes_to_the_next_in_the_order() -> None:
    rounds = drawing(grace_s=0)
    submit_all(rounds, 1)
    rounds.watch_lost("b-1", 1)
    rounds.tick(2)
    assert of(OpenRound, commit(rounds, 2)).participants == ("c", "d")


def test_fewer_present_than_wanted_all_take_part() -> None:
    assert training("ab", per_round=2).lineup.participants == ("a", "b")
    rounds = machine(clients=3, per_round=2, start_wait_s=1)
    come(rounds, "a")
    assert of(OpenRound, rounds.tick(2)).participants == ("a",)


def test_the_quorum_counts_over_the_drawn_and_a_drawn_client_that_is_lost_is_dropped() -> None:
    rounds = drawing("abcdefgh", per_round=4, quorum=0.5)
    assert kinds(rounds.leave("a-1", "bye"))[:2] == ["Fence", "DropFromRound"]
    rounds.leave("b-1", "bye")
    assert rounds.phase is Phase.TRAINING
    assert "Restore" in kinds(rounds.leave("c-1", "bye"))


def test_who_is_not_drawn_may_come_and_go_without_touching_the_round() -> None:
    rounds = drawing()
    assert kinds(rounds.leave("d-1", "bye")) == ["Fence"]
    assert rounds.phase is Phase.TRAINING and rounds.lineup.dropped == {}
    assert reason_told("d-2", come(rounds, "d", 2, session="d-2")) == "not drawn for round 1; you may be in the next"


def test_who_comes_back_in_mid_round_is_told_its_own_case() -> None:
    rounds = drawing(grace_s=10)
    assert kinds(come(rounds, "a", 1, session="a-2"))[-1] == "round_begins", "drawn and still in it"
    rounds.update_received("a")
    back = come(rounds, "a", 3, session="a-3")
    assert reason_told("a-3", back) == "round 1 is under way; you may be drawn for the next"
    with pytest.raises(IllegalEvent, match="'d' has no update to give"):
        rounds.update_received("d")
