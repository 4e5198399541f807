"""Who is late is measured by what it owes, and nobody by what others owe."""

from __future__ import annotations

from math import inf, nan

import pytest
from server.driven import PEER, Client, Start, play_round
from server.run.paced import Paced, beat, play, trickled

from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as split

SILENT_IS_FINE = {"silence_s": 1e9}


def at(server: object, now: float) -> None:
    server.now = now  # type: ignore[attr-defined]
    server.coordinator.tick()  # type: ignore[attr-defined]


def reason(client: Client) -> str:
    """Why it was dropped; empty if it was not."""
    return str(client.heard("dropped")[-1].reason) if client.heard("dropped") else ""


def test_a_client_of_10_s_a_local_step_that_uploads_every_20th_finishes_its_rounds(start: Start) -> None:
    server = start(method={"local_steps": 40, "upload_period": 20})
    clients = [Paced(client, step_s) for client, step_s in zip(server.clients("ab"), (10, 10), strict=True)]
    play(server, clients, lambda: server.coordinator.finished)
    assert [record["dropped"] for record in server.history] == [0, 0]


SLOW = {
    "rounds": 3, "federation": {"clients": 3, "min_clients": 1}, "method": {"local_steps": 8, "upload_period": 4},
}  # fmt: skip


@pytest.mark.parametrize("order", ["canonical", "arrival"])
def test_a_client_ten_times_slower_than_the_rest_finishes_every_round_with_wait(start: Start, order: str) -> None:
    server = start(server={"step_deadline_s": 30, "straggler": "wait", "order": order}, **SLOW)
    clients = [Paced(client, 20 if client.name == "b" else 2) for client in server.clients("abc")]
    play(server, clients, lambda: server.coordinator.finished)
    assert [(r["participants"], r["dropped"]) for r in server.history] == [(3, 0)] * 3


@pytest.mark.parametrize("order", ["canonical", "arrival"])
def test_a_client_ten_times_slower_than_the_rest_is_the_only_one_dropped_with_drop(start: Start, order: str) -> None:
    server = start(server={"step_deadline_s": 30, "straggler": "drop", "order": order}, **SLOW)
    clients = [Paced(client, 20 if client.name == "b" else 2) for client in server.clients("abc")]
    play(server, clients, lambda: server.coordinator.finished)
    assert [list(r["dropped_reasons"]) for r in server.history] == [["b"]] * 3
    assert reason(clients[1].client) == 'late: its turn took more than 30 s (server.straggler = "drop")'


def test_bytes_that_trickle_are_no_progress(start: Start) -> None:
    server = start(rounds=1, server=SILENT_IS_FINE)
    bad, good = server.clients("ab")
    for client in (bad, good):
        client.open()
    bytes_of_it = trickled(bad)
    while not reason(bad):
        next(bytes_of_it)
        at(server, server.now + 2)
        assert server.now < 130
    assert reason(bad).startswith("late: no progress for 120 s while it was its turn") and not reason(good)


def test_at_the_round_s_deadline_only_the_one_whose_turn_it_is_loses_the_round(start: Start) -> None:
    """Its local steps go on and on, and the honest one waits behind it all the time."""
    server = start(
        rounds=1, federation={"clients": 2, "min_clients": 1}, method={"local_steps": 400, "upload_period": 200},
        server=SILENT_IS_FINE,
    )  # fmt: skip
    endless, honest = server.clients("ab")
    for client in (endless, honest):
        client.open(steps=2)
    honest.push(0)
    for step in range(120):
        beat(endless, step)
        at(server, 30.0 * step)
    at(server, 3600)
    assert not reason(endless)
    at(server, 3600.5)
    assert reason(endless) == "late: the round's 3600 s are over, and its turn took more than 120 s"
    assert not reason(honest) and server.coordinator.rounds_done == 0
    at(server, 3700)
    honest.push(1)
    at(server, 3800)
    honest.submit()
    assert server.coordinator.finished and server.history[0]["participants"] == 1


def test_the_clock_of_a_late_turn_does_not_outlive_its_round(start: Start) -> None:
    server = start(rounds=3, federation={"clients": 2, "min_clients": 2}, server={**SILENT_IS_FINE, "quorum": 1.0})
    late, good = server.clients("ab")
    for client in (late, good):
        client.open()
    at(server, 0)
    at(server, 120.25)
    assert reason(late) and late.begins.term == 2, "the round begins anew"
    at(server, 120.5)
    at(server, 240.25)
    assert len(late.heard("dropped")) == 1, "the clock of its turn began with the round"
    at(server, 240.75)
    assert len(late.heard("dropped")) == 2


def test_at_most_one_of_those_late_at_once_is_dropped_where_the_first_ends_the_round(start: Start) -> None:
    server = start(method={"name": "fedavg"}, server={**SILENT_IS_FINE, "quorum": 1.0})
    clients = server.clients("ab")
    at(server, 0)
    at(server, 121)
    assert sorted(len(client.heard("dropped")) for client in clients) == [0, 1]
    assert [client.begins.term for client in clients] == [2, 2]


def test_a_client_that_waits_for_the_others_is_not_measured(start: Start) -> None:
    server = start(rounds=1, method={"local_steps": 8, "upload_period": 4}, server=SILENT_IS_FINE)
    slow, waits = server.clients("ab")
    for client in (slow, waits):
        client.open(steps=2)
    waits.push(0)
    for step in range(4):
        beat(slow, step)
        at(server, 100.0 * step)
    assert not reason(slow) and not reason(waits), "300 s in which nothing came from b"


def test_an_update_that_is_wanted_has_a_clock_too(start: Start) -> None:
    server = start(rounds=1, server=SILENT_IS_FINE)
    late, good = server.clients("ab")
    play_but_for_updates([late, good])
    good.submit()
    at(server, 0)
    at(server, 120)
    assert not server.coordinator.finished
    at(server, 120.5)
    assert reason(late).startswith("late: no progress for 120 s") and server.coordinator.finished


def play_but_for_updates(clients: list[Client]) -> None:
    for client in clients:
        client.open()
    for step in range(4):
        for client in clients:
            client.push(step)


def test_each_mib_of_an_update_on_its_way_is_progress_and_a_trickle_is_none(start: Start) -> None:
    server = start(rounds=1, server=SILENT_IS_FINE)
    coming, trickling = clients = server.clients("ab")
    play_but_for_updates(clients)
    for now in range(0, 361, 60):
        server.coordinator.moved(PEER, coming.session, "update up", (1 + now // 60) << 20)
        server.coordinator.moved(PEER, trickling.session, "update up", 1 + now // 60)
        at(server, now)
    assert reason(trickling) and not reason(coming)


def test_what_its_steps_took_in_the_last_round_counts_in_the_next(start: Start) -> None:
    server = start(server=SILENT_IS_FINE)
    slow, other = clients = server.clients("ab")
    play_but_for_updates(clients)
    slow.submit(step_seconds=100.0)
    other.submit()
    assert slow.begins.round == 2
    at(server, 0)
    at(server, 400)
    assert not reason(slow)
    at(server, 400.5)
    assert reason(slow).startswith("late: no progress for 400 s") and not reason(other)


@pytest.mark.parametrize("step_seconds", [nan, -1.0, inf])
def test_an_update_whose_steps_took_an_impossible_time_is_refused(start: Start, step_seconds: float) -> None:
    client, _ = clients = start(server=SILENT_IS_FINE).clients("ab")
    play_but_for_updates(clients)
    with pytest.raises(TensorError, match="step_seconds_median must be 0 or more"):
        client.submit(step_seconds=step_seconds)


def test_a_beat_of_another_term_says_nothing(start: Start) -> None:
    server = start(rounds=1, server=SILENT_IS_FINE)
    client, _ = server.clients("ab")
    at(server, 0)
    server.now = 100
    beat(client, 3, term=client.begins.term + 1)
    assert server.heard.of("progress") == []
    at(server, 120.5)
    assert reason(client)


def test_beats_of_steps_that_there_are_not_renew_nothing(start: Start) -> None:
    server = start(rounds=1, server=SILENT_IS_FINE)
    client, _ = server.clients("ab")
    at(server, 0)
    for step in range(200):
        server.now = float(step)
        beat(client, step)
    at(server, 124)
    assert not reason(client)
    at(server, 124.5)
    assert reason(client), "of its 4 local steps the last was done at 4 s"


def test_a_long_replay_is_progress_and_one_longer_than_what_was_sent_is_none(start: Start) -> None:
    seeds = {"method": {"zo": {"distribution": "rademacher"}}, "codec": {"client_state": "seeds"}}
    server = start(rounds=1, server=SILENT_IS_FINE, **seeds)
    client, _ = server.clients("ab")
    server.coordinator.states.most_replayed = 30
    at(server, 0)
    for done in range(1, 200):
        server.now = 10.0 * done
        beat(client, 0, replayed=done)
        server.coordinator.tick()
        if reason(client):
            break
    assert server.now == 430, "the last of 30 was done at 300 s"


def test_a_client_that_does_not_go_on_with_its_evaluation_is_skipped(start: Start) -> None:
    server = start(rounds=1, data={"source": "client"}, server=SILENT_IS_FINE)
    late, good = clients = server.clients("ab")
    play_round(clients)
    at(server, 0)
    for client in clients:
        client.answers.clear()
        client.open(split.PURPOSE_EVALUATE, steps=2)
    good.push(0)
    good.push(1, good.tensors(1, rows=2), rows=2)
    at(server, 120)
    assert not server.coordinator.finished
    at(server, 120.5)
    assert server.coordinator.finished and not late.heard("dropped")


@pytest.mark.parametrize("method", [{"name": "sflv2"}, {"objective": "cut_gradient"}], ids=str)
def test_at_a_deadline_whoever_is_missing_in_a_pool_loses_the_round_and_the_others_are_mixed(
    start: Start, method: dict[str, str]
) -> None:
    server = start(rounds=1, federation={"clients": 3}, method={**method, "mixing": True}, server=SILENT_IS_FINE)
    clients = server.clients("abc")
    a, absent, c = clients
    for client in clients:
        client.open()
    for step in range(4):
        for client in (a, c):
            client.push(step)
        assert step or not server.coordinator.records.history
        if step == 0:
            at(server, 0.0)
            assert not any(e.WhichOneof("event") == "cut_gradients" for e in a.answers), "the pool waits for b"
            at(server, 121.0)
            assert reason(absent).startswith("late: ") and not reason(a) and not reason(c)
        returned = [e.cut_gradients.step for e in a.answers if e.WhichOneof("event") == "cut_gradients"]
        assert returned == list(range(step + 1))
    for client in (a, c):
        client.submit()
    assert server.coordinator.finished and server.history[0]["dropped"] == 1
