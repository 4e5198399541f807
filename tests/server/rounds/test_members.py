from __future__ import annotations

from typing import Any

import pytest
from server.rounds.by_hand import (
    come,
    commit,
    facts,
    kinds,
    machine,
    of,
    submit_all,
    told,
    training,
)

from heron_core.errors import NameTaken, UnknownSession, Unreachable
from heron_server.rounds.actions import (
    Fence,
    OpenRound,
)
from heron_server.rounds.gathering import Owners
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import Phase


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


def test_a_name_is_not_to_be_had_while_its_owner_is_away_for_a_moment() -> None:
    rounds = training(grace_s=10)
    rounds.watch_lost("a-1", 1)
    for now in (1.0, 1.009, 11.0):
        with pytest.raises(Unreachable, match="the name 'a' is kept for the client that has it"):
            rounds.join("a", b"other", "a-2", now)
    assert rounds.members.find("a-1") is not None and rounds.is_active("a")
    assert rounds.join("a", b"a", "a-3", 2) == [Fence("a-1", taken_over=True)], "its own key"


def test_a_name_is_not_to_be_had_between_join_and_the_event_stream() -> None:
    rounds = machine(silence_s=30)
    rounds.join("a", b"a", "a-1", 0)
    with pytest.raises(Unreachable, match="loads its data"):
        rounds.join("a", b"other", "a-2", 30)
    rounds.tick(30.5)
    assert rounds.join("a", b"other", "a-2", 31) == [], "lost: the name is free"


def resumed(now: float = 100.0, **rules: Any) -> Rounds:
    """A server that goes on with a, b and c, whose clients it knows by what it saved of their keys."""
    before = training(**rules)
    rounds = Rounds(before.rules, 7, dict(before.table), Owners(dict(before.owners.keys)), rounds_done=1)
    rounds.tick(now)
    return rounds


def test_a_server_that_goes_on_keeps_each_name_for_its_owner_until_it_is_given_up() -> None:
    rounds = resumed(rejoin_s=60)
    for now in (100.0, 159.0):
        rounds.tick(now)
        with pytest.raises(Unreachable, match="'a' is kept for the client that has it, which was there before"):
            rounds.join("a", b"other", "x", now)
        assert rounds.phase is Phase.GATHERING and not rounds.members.names
    assert kinds(come(rounds, "b", 159)) == ["waiting"], "its own key"
    assert rounds.join("c", b"other", "c-2", 159, proved=True) == []
    rounds.watch_lost("b-1", 159)
    with pytest.raises(Unreachable, match="away for a moment"):
        rounds.join("b", b"other", "x", 159.5)
    rounds.tick(160)
    assert rounds.join("a", b"other", "a-2", 160) == [], "given up"


def test_nobody_is_let_in_by_another_name_s_key_before_the_first_tick_either() -> None:
    before = training()
    rounds = Rounds(before.rules, 7, dict(before.table), Owners(dict(before.owners.keys)), rounds_done=1)
    with pytest.raises(Unreachable):
        rounds.join("a", b"b", "x", 0)


def test_while_a_round_is_being_taken_back_names_are_their_owners() -> None:
    rounds = training(quorum=1.0)
    rounds.watch_lost("a-1", 1)
    rounds.client_failed("b", "NaN")
    assert rounds.phase is Phase.RESTORING
    for name, error in (("a", Unreachable), ("b", NameTaken)):
        with pytest.raises(error):
            rounds.join(name, b"other", "x", 2)
    rounds.restored(2, 3)
    with pytest.raises(Unreachable):
        rounds.join("a", b"other", "x", 4)


def test_a_proof_gives_a_client_that_lost_its_key_its_name_back_but_not_from_another_that_is_here() -> None:
    rounds = training()
    with pytest.raises(NameTaken, match="another live client holds the name 'a'"):
        rounds.join("a", b"other", "a-2", 1, proved=True)
    rounds.watch_lost("a-1", 1)
    assert kinds(rounds.join("a", b"other", "a-2", 2, proved=True))[0] == "Fence"


def test_another_key_takes_a_dead_client_s_name_and_costs_it_the_round() -> None:
    rounds = training()
    rounds.watch_lost("a-1", 1)
    actions = rounds.join("a", b"other", "a-2", 2, proved=True)
    assert kinds(actions)[:2] == ["Fence", "DropFromRound"]
    assert rounds.lineup.dropped == {"a": "restarted as a new instance"}
    assert kinds(rounds.watch_opened("a-2", 2)) == ["waiting"]


def test_another_key_that_comes_after_its_round_was_abandoned_costs_nobody_a_round() -> None:
    rounds = training(quorum=1.0)
    rounds.watch_lost("a-1", 1)
    rounds.client_failed("b", "NaN")
    assert rounds.join("a", b"other", "a-2", 2, True) == [Fence("a-1", taken_over=True)], "while restoring"
    assert rounds.restored(2, 3) == []
    rounds.watch_lost("c-1", 4)
    assert rounds.join("c", b"other", "c-2", 5, True) == [Fence("c-1", taken_over=True)], "while clients gather"
    assert rounds.phase is Phase.GATHERING


def test_a_takeover_that_never_listens_is_lost_after_the_silence() -> None:
    rounds = training(silence_s=30)
    rounds.join("a", b"a", "a-2", 1)
    for name in "bc":
        rounds.beat(f"{name}-1", 31)
    assert rounds.tick(31) == []
    assert "DropFromRound" in kinds(rounds.tick(31.5))
