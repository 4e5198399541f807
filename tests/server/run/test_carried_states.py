"""RoundBegins brings the client state to who may lack it, where it is small."""

from __future__ import annotations

import numpy as np
import pytest
from server.driven import PEER, Client, Start, play_round

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import whole_state
from heron_server.run import sessions


def brings(client: Client) -> bool:
    return client.begins.HasField("state")


def test_each_participant_gets_the_state_that_it_would_fetch(start: Start) -> None:
    clients = start(rounds=2).clients("ab")
    for _ in range(2):
        for client in clients:
            assert client.begins.state == whole_state(client.fetch(client.begins.version), 1 << 20)
        if client.begins.round == 1:
            play_round(clients)


def test_who_comes_back_within_a_round_has_its_work_and_is_brought_nothing(start: Start) -> None:
    server = start(rounds=1)
    clients = server.clients("ab")
    clients[0].open()
    server.coordinator.watch_lost(clients[0].session)
    assert not brings(server.client("a")) and brings(clients[1])


def test_of_slopes_who_comes_back_says_what_it_has_and_others_are_brought_them(start: Start) -> None:
    method = {"auxiliary_update": "zo", "zo": {"distribution": "rademacher"}, "local_steps": 1, "upload_period": 1}
    server = start(rounds=2, method=method, codec={"client_state": "seeds"})
    clients = server.clients("ab")
    assert all(map(brings, clients)), "nobody has anything yet"
    for client in clients:
        client.open(steps=1)
        client.push(0)
    clients[0].submit({"seeds.slopes": np.ones((1, 1))})
    server.coordinator.watch_lost(clients[0].session)
    again = server.client("a")
    clients[1].submit({"seeds.slopes": np.ones((1, 1))})
    assert again.begins.round == clients[1].begins.round == 2
    assert not brings(again) and brings(clients[1])
    assert clients[1].begins.state.manifest.tensors[0].name == "seeds.base"


def test_a_round_that_begins_again_brings_it_again(start: Start) -> None:
    server = start(rounds=1, server={"quorum": 1.0})
    clients = server.clients("ab")
    server.coordinator.client_failed("a", "told so")
    assert clients[1].begins.term == 2 and all(map(brings, clients))


@pytest.mark.parametrize(("most_bytes", "brought"), [(2 * 228, True), (2 * 228 - 1, False)])
def test_together_the_participants_states_are_bounded(
    start: Start, monkeypatch: pytest.MonkeyPatch, most_bytes: int, brought: bool
) -> None:
    """57 weights of the tiny model and its head, for two clients."""
    monkeypatch.setattr(sessions, "MOST_CARRIED_BYTES", most_bytes)
    clients = start(rounds=1).clients("ab")
    assert sum(tensor.nbytes for tensor in clients[0].fetch(0).values()) == 228
    assert [brings(client) for client in clients] == [brought, brought]


def test_who_evaluated_the_state_has_it_and_is_not_sent_it_once_more(start: Start) -> None:
    server = start(rounds=2, data={"source": "client"})
    clients = server.clients("ab")
    play_round(clients)
    for client, fetches in zip(clients, (True, False), strict=True):
        client.answers.clear()
        if fetches:
            size = sum(tensor.nbytes for tensor in client.fetch(1).values())
            request = pb.FetchModelRequest(session_id=client.session, version=1)
            server.coordinator.fetched(PEER, request, size)
        client.open(split.PURPOSE_EVALUATE, steps=2)
        client.push(0)
        client.push(1, client.tensors(1, rows=2), rows=2)
    assert [client.begins.round for client in clients] == [2, 2]
    assert [brings(client) for client in clients] == [False, True]
