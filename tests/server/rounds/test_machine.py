from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron_core.errors import JoinRefused, NameTaken, UnknownSession
from heron_server.rounds.actions import (
    Action,
    Aggregate,
    Commit,
    DropFromRound,
    Evaluate,
    Fence,
    Finish,
    OpenRound,
    Restore,
    SkipEvaluation,
    Tell,
)
from heron_server.rounds.machine import IllegalEvent, Phase, Rounds
from heron_server.rounds.rules import Rules


def machine(**rules: Any) -> Rounds:
    return Rounds(Rules(**{"rounds": 2, "clients": 3, "min_clients": 1, **rules}))


def kinds(actions: list[Action]) -> list[str]:
    """What the actions are, a Tell by its event."""
    return [a.event.WhichOneof("event") if isinstance(a, Tell) else type(a).__name__ for a in actions]


def of(kind: type[Any], actions: list[Action]) -> Any:
    (found,) = [a for a in actions if isinstance(a, kind)]
    return found


def told(session_id: str, actions: list[Action]) -> list[str]:
    return kinds([a for a in actions if isinstance(a, Tell) and a.session_id == session_id])


def come(rounds: Rounds, name: str, now: float = 0.0, key: bytes = b"", session: str = "") -> list[Action]:
    """Joins and opens the event stream."""
    session = session or f"{name}-1"
    actions = rounds.join(name, key or name.encode(), session, now)
    return actions + rounds.watch_opened(session, now)


def training(names: str = "abc", now: float = 0.0, **rules: Any) -> Rounds:
    rounds = machine(clients=len(names), **rules)
    for name in names:
        come(rounds, name, now)
    assert rounds.phase is Phase.TRAINING
    return rounds


def submit_all(rounds: Rounds, now: float = 0.0) -> list[Action]:
    actions: list[Action] = []
    for name in rounds.lineup.participants:
        if rounds.is_active(name):
            actions += rounds.update_received(name)
    return actions


def commit(rounds: Rounds, now: float = 0.0) -> list[Action]:
    """From AGGREGATING to whatever follows the commit."""
    rounds.aggregated(now)
    rounds.evaluated()
    return rounds.committed(now)


def facts(rounds: Rounds) -> Any:
    return copy.deepcopy(rounds.__dict__)


# -- gathering ---------------------------------------------------------------------------------------------------


def test_a_run_starts_once_all_are_here_with_ranks_by_sorted_name() -> None:
    rounds = machine()
    assert kinds(come(rounds, "c")) == ["waiting"]
    assert kinds(rounds.tick(1e6)) != ["OpenRound"]
    rounds = machine()
    for name in "cb":
        come(rounds, name)
    actions = come(rounds, "a")
    assert of(OpenRound, actions) == OpenRound(1, 1, ("a", "b", "c"))
    begins = [a.event.round_begins for a in actions if isinstance(a, Tell)]
    assert [(b.rank, b.clients, b.round, b.version, b.term) for b in begins] == [(i, 3, 1, 0, 1) for i in range(3)]
    assert [a.session_id for a in actions if isinstance(a, Tell)] == ["a-1", "b-1", "c-1"]


def test_a_client_that_joined_but_does_not_listen_yet_is_waited_for() -> None:
    rounds = machine(clients=2)
    come(rounds, "a")
    assert rounds.join("b", b"b", "b-1", 0) == []
    assert rounds.tick(1) == []
    assert "OpenRound" in kinds(rounds.watch_opened("b-1", 2))


def test_start_wait_begins_with_min_clients_and_not_with_fewer() -> None:
    rounds = machine(start_wait_s=10, min_clients=2)
    come(rounds, "a", 0)
    rounds.beat("a-1", 15)
    assert rounds.tick(15) == []
    rounds.beat("a-1", 20)
    assert of(OpenRound, come(rounds, "b", 20)).participants == ("a", "b")
    rounds = machine(start_wait_s=10, min_clients=2)
    come(rounds, "a", 0)
    come(rounds, "b", 0)
    assert rounds.tick(9) == []
    assert of(OpenRound, rounds.tick(10)).participants == ("a", "b")


def test_without_start_wait_the_run_waits_for_all_however_long() -> None:
    rounds = machine(silence_s=1e9)
    come(rounds, "a")
    come(rounds, "b")
    assert rounds.tick(1e6) == []


def test_one_more_than_planned_is_refused_before_and_after_the_start() -> None:
    rounds = machine(clients=1, start_wait_s=0)
    rounds.join("a", b"a", "a-1", 0)
    with pytest.raises(JoinRefused, match=r"1 clients and has them \(a\); 'b'"):
        rounds.join("b", b"b", "b-1", 0)
    rounds.watch_opened("a-1", 0)
    before = facts(rounds)
    with pytest.raises(JoinRefused):
        rounds.join("b", b"b", "b-1", 0)
    assert facts(rounds) == before


def test_places_are_not_promised_twice_when_a_run_began_with_fewer() -> None:
    rounds = machine(start_wait_s=1)
    come(rounds, "a", 0)
    come(rounds, "b", 0)
    rounds.tick(1)
    assert kinds(come(rounds, "x", 1)) == ["waiting"]
    with pytest.raises(JoinRefused):
        come(rounds, "y", 1)
    submit_all(rounds, 1)
    commit(rounds, 1)
    assert rounds.table == {"a": 0, "b": 1, "x": 2}


def test_a_run_with_the_clients_own_data_takes_more_than_planned() -> None:
    rounds = training("ab", open_ended=True)
    come(rounds, "c")
    come(rounds, "d")
    submit_all(rounds)
    assert of(OpenRound, commit(rounds)).participants == ("a", "b", "c", "d")


def test_a_client_that_died_before_the_start_gives_its_place_back() -> None:
    rounds = machine(clients=1, silence_s=30, grace_s=10)
    rounds.join("a", b"a", "a-1", 0)
    rounds.tick(29)
    with pytest.raises(JoinRefused):
        come(rounds, "b", 29)
    assert kinds(rounds.tick(31)) == ["Fence"]
    with pytest.raises(UnknownSession):
        rounds.beat("a-1", 31)
    assert "OpenRound" in kinds(come(rounds, "b", 31))


# -- joining late, again, or twice -------------------------------------------------------------------------------


def test_a_late_joiner_waits_for_the_next_round_and_gets_a_rank() -> None:
    rounds = machine(start_wait_s=1)
    come(rounds, "b", 0)
    come(rounds, "c", 0)
    rounds.tick(1)
    assert kinds(come(rounds, "a", 2)) == ["waiting"]
    assert rounds.lineup.participants == ("b", "c")
    submit_all(rounds, 2)
    actions = commit(rounds, 3)
    assert of(OpenRound, actions).participants == ("b", "c", "a")
    assert rounds.table == {"b": 0, "c": 1, "a": 2}, "ranks already given stay"


def test_a_name_held_by_a_live_client_is_taken() -> None:
    rounds = training()
    before = facts(rounds)
    with pytest.raises(NameTaken, match="'a'"):
        rounds.join("a", b"other", "a-2", 1)
    assert facts(rounds) == before


def test_the_same_key_takes_over_fences_the_old_session_and_keeps_its_part() -> None:
    rounds = training()
    assert rounds.join("a", b"a", "a-2", 1) == [Fence("a-1", taken_over=True)]
    with pytest.raises(UnknownSession):
        rounds.beat("a-1", 1)
    actions = rounds.watch_opened("a-2", 1)
    assert kinds(actions) == ["round_begins"] and told("a-2", actions)
    assert rounds.is_active("a")


def test_a_client_that_has_submitted_and_rejoins_waits() -> None:
    rounds = training()
    rounds.update_received("a")
    rounds.join("a", b"a", "a-2", 2)
    assert kinds(rounds.watch_opened("a-2", 2)) == ["waiting"]


def test_another_key_takes_a_dead_client_s_name_and_costs_it_the_round() -> None:
    rounds = training()
    rounds.watch_lost("a-1", 1)
    actions = rounds.join("a", b"other", "a-2", 2)
    assert kinds(actions)[:2] == ["Fence", "DropFromRound"]
    assert rounds.lineup.dropped == {"a": "restarted as a new instance"}
    assert kinds(rounds.watch_opened("a-2", 2)) == ["waiting"]


def test_another_key_that_comes_after_its_round_was_abandoned_costs_nobody_a_round() -> None:
    rounds = training(quorum=1.0)
    rounds.watch_lost("a-1", 1)
    rounds.client_failed("b", "NaN")
    assert rounds.join("a", b"other", "a-2", 2) == [Fence("a-1", taken_over=True)], "while the checkpoint is loaded"
    assert rounds.restored(2, 3) == []
    rounds.watch_lost("c-1", 4)
    assert rounds.join("c", b"other", "c-2", 5) == [Fence("c-1", taken_over=True)], "while clients gather"
    assert rounds.phase is Phase.GATHERING


def test_a_takeover_that_never_listens_is_lost_after_the_silence() -> None:
    rounds = training(silence_s=30)
    rounds.join("a", b"a", "a-2", 1)
    for name in "bc":
        rounds.beat(f"{name}-1", 31)
    assert rounds.tick(31) == []
    assert "DropFromRound" in kinds(rounds.tick(31.5))


# -- losing clients ----------------------------------------------------------------------------------------------


def test_a_killed_client_is_dropped_after_the_grace_the_round_completes_and_it_comes_back() -> None:
    rounds = training(grace_s=10, quorum=0.5)
    rounds.watch_lost("c-1", 5)
    for name in "ab":
        rounds.beat(f"{name}-1", 15)
    assert rounds.tick(15) == []
    actions = rounds.tick(15.5)
    assert of(DropFromRound, actions).name == "c"
    rounds.update_received("a")
    closing = rounds.update_received("b")
    assert of(Aggregate, closing).names == ("a", "b")
    assert kinds(come(rounds, "c", 17, session="c-2")) == ["waiting"]
    assert of(OpenRound, commit(rounds, 18)) == OpenRound(1, 2, ("a", "b", "c"))


def test_a_client_that_is_back_within_the_grace_keeps_its_place() -> None:
    rounds = training(grace_s=10)
    rounds.watch_lost("c-1", 5)
    actions = come(rounds, "c", 9, session="c-2")
    assert kinds(actions) == ["Fence", "round_begins"]
    for name in "abc":
        rounds.beat("c-2" if name == "c" else f"{name}-1", 20)
    assert rounds.tick(20) == []


def test_silence_cuts_the_session() -> None:
    rounds = training(silence_s=30, grace_s=40)
    for name in "ab":
        rounds.beat(f"{name}-1", 31)
    assert rounds.tick(31) == [Fence("c-1")]
    for name in "ab":
        rounds.beat(f"{name}-1", 41)
    assert of(DropFromRound, rounds.tick(41)).name == "c"


def test_an_update_counts_although_its_client_is_lost_afterwards() -> None:
    rounds = training()
    rounds.update_received("c")
    rounds.watch_lost("c-1", 1)
    for name in "ab":
        rounds.beat(f"{name}-1", 20)
    assert kinds(rounds.tick(20)) == ["Fence"]
    rounds.update_received("a")
    assert of(Aggregate, rounds.update_received("b")).names == ("a", "b", "c")


def test_below_the_quorum_the_round_is_abandoned_and_begins_anew_with_the_term_raised() -> None:
    rounds = training(quorum=0.6, rejoin_s=60)
    rounds.client_failed("a", "NaN")
    actions = rounds.client_failed("b", "NaN too")
    assert rounds.phase is Phase.RESTORING
    assert "a: NaN; b: NaN too" in of(Restore, actions).reason
    ends = [a.event.round_ends for a in actions if isinstance(a, Tell) and a.event.HasField("round_ends")]
    assert [(e.term, e.round) for e in ends] == [(1, 1)] * 3
    actions = rounds.restored(2, 2)
    assert of(OpenRound, actions) == OpenRound(2, 1, ("a", "b", "c")), "all are here, so it begins anew at once"


def test_below_min_clients_the_round_is_abandoned_and_then_waits_for_everyone_it_knows() -> None:
    rounds = training(min_clients=2, quorum=0.1, rejoin_s=60)
    rounds.leave("a-1", "done")
    assert rounds.phase is Phase.TRAINING
    assert "Restore" in kinds(rounds.leave("b-1", "done"))
    assert rounds.restored(2, 2) == []
    rounds.beat("c-1", 30)
    assert kinds(come(rounds, "b", 30, session="b-2")) == ["waiting"]
    for session in ("c-1", "b-2"):
        rounds.beat(session, 62)
    assert rounds.tick(61) == []
    assert of(OpenRound, rounds.tick(62)).participants == ("b", "c")


def test_a_quorum_of_55_percent_of_20_is_11() -> None:
    names = "abcdefghijklmnopqrst"
    rounds = training(names, quorum=0.55)
    for name in names[:9]:
        rounds.client_failed(name, "x")
    assert rounds.phase is Phase.TRAINING
    rounds.client_failed(names[9], "x")
    assert rounds.phase is Phase.RESTORING


def test_the_round_s_deadline_drops_the_late_and_counts_the_rest() -> None:
    rounds = training(round_deadline_s=100, silence_s=1e9)
    rounds.update_received("a")
    rounds.update_received("c")
    assert rounds.tick(100) == []
    actions = rounds.tick(100.5)
    assert of(DropFromRound, actions) == DropFromRound("b", "late: the round's 100 s are over")
    assert of(Aggregate, actions).names == ("a", "c")
    assert told("b-1", actions) == ["dropped"]


def test_a_client_that_leaves_is_out_at_once() -> None:
    rounds = training()
    actions = rounds.leave("b-1", "operator")
    assert actions == [Fence("b-1"), DropFromRound("b", "left: operator")]
    rounds.update_received("a")
    assert of(Aggregate, rounds.update_received("c")).names == ("a", "c")
    with pytest.raises(UnknownSession):
        rounds.leave("b-1", "again")


def test_a_dropped_client_s_late_update_is_illegal_and_the_round_is_unchanged() -> None:
    rounds = training()
    rounds.client_failed("a", "NaN")
    rounds.update_received("b")
    before = facts(rounds)
    for name in ("a", "b", "nobody"):
        with pytest.raises(IllegalEvent):
            rounds.update_received(name)
    assert facts(rounds) == before


# -- evaluation, commit, the end ---------------------------------------------------------------------------------


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


def test_the_deadline_ends_an_evaluation_too() -> None:
    rounds = evaluating(round_deadline_s=100, silence_s=1e9)
    rounds.client_evaluated("a")
    assert kinds(rounds.tick(101)) == ["SkipEvaluation", "SkipEvaluation", "Commit"]


def test_a_client_that_comes_back_in_evaluation_is_asked_again() -> None:
    rounds = evaluating()
    assert kinds(come(rounds, "a", 1, session="a-2")) == ["Fence", "evaluation_begins"]


def test_a_tick_does_not_end_the_server_s_own_evaluation() -> None:
    rounds = training(round_deadline_s=100, silence_s=1e9)
    submit_all(rounds)
    rounds.aggregated(0)
    assert rounds.tick(1e6) == []
    assert rounds.client_evaluated("a") == []
    assert rounds.evaluated() == [Commit()]


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


DRIVER_EVENTS = {
    "update_received": (Phase.TRAINING, lambda r: r.update_received("a")),
    "restored": (Phase.RESTORING, lambda r: r.restored(2, 1)),
    "aggregated": (Phase.AGGREGATING, lambda r: r.aggregated(1)),
    "clients_evaluate": (Phase.EVALUATING, lambda r: r.clients_evaluate(("a",))),
    "client_evaluated": (Phase.EVALUATING, lambda r: r.client_evaluated("a")),
    "evaluated": (Phase.EVALUATING, lambda r: r.evaluated()),
    "committed": (Phase.COMMITTING, lambda r: r.committed(1)),
}


@pytest.mark.parametrize("event", DRIVER_EVENTS)
@pytest.mark.parametrize("phase", Phase)
def test_a_driver_s_event_belongs_to_one_phase_and_elsewhere_changes_nothing(event: str, phase: Phase) -> None:
    rounds = training()
    rounds.phase = phase
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


# -- clients drawn for each round --------------------------------------------------------------------------------


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


# -- any sequence ------------------------------------------------------------------------------------------------

NAMES = "abcd"
NAME = st.sampled_from(NAMES)
STEP = st.one_of(
    st.tuples(st.sampled_from(["come", "come", "join", "watch", "lost", "leave", "fail", "beat"]), NAME),
    st.tuples(st.just("update"), NAME),
    st.tuples(st.just("tick"), st.sampled_from([0.1, 5.0, 20.0, 200.0])),
    st.tuples(st.sampled_from(["perform", "perform", "perform", "wrong", "drain"]), st.integers(0, 6)),
)


class Driver:
    """Performs actions as the coordinator does, whenever the sequence says so, and checks what must always hold."""

    def __init__(self, rules: Rules) -> None:
        self.rounds, self.now, self.serial = Rounds(rules), 0.0, 0
        self.sessions: dict[str, str] = {}
        self.open: OpenRound | None = None
        self.counted: tuple[str, ...] = ()
        self.gone: set[str] = set()

    def step(self, what: str, arg: Any) -> list[Action]:
        rounds, now = self.rounds, self.now
        session = self.sessions.get(str(arg), "none")
        match what:
            case "come" | "join":
                self.serial += 1
                session = f"{arg}-{self.serial}"
                key = arg.encode() if self.serial % 4 else b"other"
                actions = rounds.join(arg, key, session, now)
                self.sessions[arg] = session
                return actions + (rounds.watch_opened(session, now) if what == "come" else [])
            case "watch":
                return rounds.watch_opened(session, now)
            case "lost":
                return rounds.watch_lost(session, now)
            case "leave":
                return rounds.leave(session, "bye")
            case "fail":
                return rounds.client_failed(arg, "NaN")
            case "beat":
                rounds.beat(session, now)
                return []
            case "update":
                return rounds.update_received(arg)
            case "tick":
                self.now += arg
                return rounds.tick(self.now)
            case "drain":
                return rounds.drain("stop")
            case "wrong":
                return list(DRIVER_EVENTS.values())[arg][1](rounds)
        return self.perform(arg)

    def perform(self, choice: int) -> list[Action]:
        rounds, now = self.rounds, self.now
        match rounds.phase:
            case Phase.AGGREGATING:
                return rounds.aggregated(now)
            case Phase.EVALUATING if rounds.lineup.evaluating:
                waited_for = sorted(rounds.lineup.evaluating)
                return rounds.client_evaluated(waited_for[choice % len(waited_for)])
            case Phase.EVALUATING:
                return rounds.evaluated() if choice % 2 else rounds.clients_evaluate(self.counted)
            case Phase.COMMITTING:
                return rounds.committed(now)
            case Phase.RESTORING:
                return rounds.restored(rounds.term + 1, now)
        return []

    def check(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case OpenRound(term, number, participants):
                    assert (term, number) == (self.rounds.term, self.rounds.rounds_done + 1)
                    assert len(participants) >= self.rounds.rules.min_clients
                    assert len(set(participants)) == len(participants)
                    assert len(participants) <= (self.rounds.rules.per_round or len(participants))
                    ranks = [self.rounds.table[n] for n in participants]
                    assert ranks == sorted(ranks) and all(r < self.rounds.rules.clients for r in ranks)
                    self.open, self.gone = action, set()
                case DropFromRound(name):
                    assert self.open is not None and name in self.open.participants
                    assert name not in self.gone, "dropped once only"
                    self.gone.add(name)
                case Aggregate(names):
                    assert self.open is not None and names, "an average of nobody"
                    assert set(names) == set(self.open.participants) - self.gone
                    assert len(names) >= self.rounds.lineup.needed(self.rounds.rules)
                    self.counted = names
                case Evaluate(names):
                    assert set(names) <= set(self.counted)
                case Tell(session_id):
                    assert isinstance(session_id, str)


@settings(max_examples=300)
@given(
    st.lists(STEP, max_size=60),
    st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 10.0]), st.sampled_from([0.3, 0.5, 1.0]),
    st.integers(0, 3),
)  # fmt: skip
def test_any_sequence_of_events_keeps_the_invariants(
    steps: list[tuple[str, Any]], clients: int, min_clients: int, start_wait_s: float, quorum: float, per_round: int
) -> None:
    rules = Rules(
        3, clients, min(clients, min_clients, per_round or clients), per_round=min(clients, per_round),
        quorum=quorum, start_wait_s=start_wait_s, round_deadline_s=100,
    )  # fmt: skip
    driver = Driver(rules)
    for what, arg in steps:
        rounds, before = driver.rounds, facts(driver.rounds)
        try:
            actions = driver.step(what, arg)
        except (IllegalEvent, NameTaken, JoinRefused, UnknownSession):
            assert facts(rounds) == before, f"{what} was refused and left a trace"
            continue
        driver.check(actions)
        restarted = before["phase"] is Phase.RESTORING and rounds.phase is not Phase.RESTORING
        assert rounds.term == before["term"] + restarted
        committed = before["phase"] is Phase.COMMITTING and rounds.rounds_done == before["rounds_done"] + 1
        assert committed or rounds.rounds_done == before["rounds_done"]
        lineup = rounds.lineup
        assert not lineup.submitted & lineup.dropped.keys()
        assert lineup.submitted | lineup.dropped.keys() <= set(lineup.participants)
        assert sorted(rounds.table.values()) == list(range(len(rounds.table)))
        assert before["table"].items() <= rounds.table.items(), "a rank once given stays"
        assert len({m.session_id for m in rounds.members}) == len({m.name for m in rounds.members})
        if before["phase"] is Phase.FINISHED:
            assert rounds.phase is Phase.FINISHED


@given(st.lists(STEP, max_size=40), st.integers(1, 4))
def test_a_run_can_always_be_brought_to_its_end(steps: list[tuple[str, Any]], clients: int) -> None:
    driver = Driver(Rules(3, clients, 1))
    for what, arg in steps:
        try:
            driver.check(driver.step(what, arg))
        except (IllegalEvent, NameTaken, JoinRefused, UnknownSession):
            continue
    rounds = driver.rounds
    for _ in range(20):
        driver.now += 400  # everyone who does not beat is lost
        driver.check(rounds.tick(driver.now))
        known = sorted(rounds.table) + [n for n in NAMES if n not in rounds.table]
        for name in known[:clients]:
            if name not in rounds.members:
                driver.check(driver.step("come", name))
        for _ in range(12):
            driver.check(submit_all(rounds, driver.now) if rounds.phase is Phase.TRAINING else driver.perform(1))
        if rounds.phase is Phase.FINISHED:
            return
    raise AssertionError(f"stuck in {rounds.phase}")
