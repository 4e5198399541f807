from __future__ import annotations

import pytest
from server.rounds.by_hand import (
    come,
    commit,
    facts,
    kinds,
    of,
    submit_all,
    told,
    training,
)

from heron_core.errors import UnknownSession
from heron_server.rounds.actions import (
    Aggregate,
    DropFromRound,
    Fence,
    OpenRound,
    Restore,
    Tell,
)
from heron_server.rounds.phase import IllegalEvent, Phase


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


def test_silence_cuts_the_session_and_then_the_grace_begins() -> None:
    rounds = training(silence_s=30, grace_s=10)
    for name in "ab":
        rounds.beat(f"{name}-1", 31)
    assert rounds.tick(31) == [Fence("c-1")]
    for name in "ab":
        rounds.beat(f"{name}-1", 41)
    assert rounds.tick(41) == []
    assert of(DropFromRound, rounds.tick(41.5)).name == "c"


def test_a_frozen_client_that_thaws_within_its_grace_keeps_its_place() -> None:
    rounds = training(silence_s=30, grace_s=10)
    for name in "ab":
        rounds.beat(f"{name}-1", 35)
    assert rounds.tick(35) == [Fence("c-1")]
    assert told("c-2", come(rounds, "c", 40, session="c-2")) == ["round_begins"]
    assert rounds.is_active("c")


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


def test_a_round_that_is_abandoned_again_and_again_waits_twice_as_long_each_time_and_says_whose_doing_it_is() -> None:
    rounds = training(min_clients=3, abandoned_pause_s=1.0, silence_s=1e9)
    now, pauses, said = 0.0, [], []
    for term in range(2, 11):
        said.append(of(Restore, rounds.client_failed("b", "NaN")).reason)
        actions = rounds.restored(term, now)
        assert [told(f"{name}-1", actions) for name in "abc"] == [["waiting"]] * 3
        restored, actions = now, []
        while not actions:
            now += 0.25
            actions = rounds.tick(now)
        pauses.append(now - restored)
        assert of(OpenRound, actions).participants == ("a", "b", "c")
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert said[0].endswith("left: b: NaN; it begins again after 1 s")
    assert said[2].endswith("it begins again after 4 s; abandoned 3 times in a row, dropped most often: b 3 times")


def test_a_committed_round_ends_the_back_off_and_who_comes_during_a_pause_hears_of_it() -> None:
    rounds = training(min_clients=3, abandoned_pause_s=1.0, rounds=3)
    rounds.client_failed("b", "NaN")
    rounds.restored(2, 0)
    rounds.watch_lost("c-1", 0.25)
    (wait,) = [a.event.waiting.reason for a in come(rounds, "c", 0.5, session="c-2") if isinstance(a, Tell)]
    assert wait.startswith("round 1 was abandoned; it begins again") and "after 1 s at the earliest" in wait
    assert kinds(rounds.tick(1))[0] == "OpenRound"
    submit_all(rounds)
    assert of(OpenRound, commit(rounds, 2)).round == 2
    rounds.client_failed("a", "NaN")
    rounds.restored(3, 3)
    assert rounds.tick(3.75) == [] and kinds(rounds.tick(4))[0] == "OpenRound"
