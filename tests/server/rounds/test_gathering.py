from __future__ import annotations

import pytest
from server.rounds.by_hand import (
    come,
    commit,
    facts,
    kinds,
    machine,
    of,
    submit_all,
    training,
)

from heron_core.errors import JoinRefused, UnknownSession
from heron_server.rounds.actions import (
    OpenRound,
    Tell,
)


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
