"""A session belongs to the peer that joined with it."""

from __future__ import annotations

import pytest
from server.driven import Client, Start

from heron_core.errors import UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.run.peer import Peer, is_same_caller

ALICE, MALLORY = Peer("ipv4:10.0.0.1:1", "alice"), Peer("ipv4:10.0.0.2:1", "mallory")


def test_callers_are_told_apart_by_identity_and_not_by_address() -> None:
    assert is_same_caller(ALICE, Peer("ipv4:10.9.9.9:2", "alice"))
    assert is_same_caller(Peer("ipv4:10.0.0.1:1"), Peer("ipv4:10.0.0.2:2")), "nobody was asked who they are"
    assert not is_same_caller(ALICE, MALLORY)
    assert not is_same_caller(ALICE, Peer(ALICE.address))


def test_another_peer_cannot_speak_in_a_session_that_it_did_not_join(start: Start) -> None:
    server = start(rounds=1, federation={"clients": 1})
    client = Client(server.coordinator, "alice", peer=ALICE)
    heard = len(client.events)
    state = client.state()
    client.peer = MALLORY
    for call in (client.fetch, client.open, lambda: client.submit(state), client.leave):
        with pytest.raises(UnknownSession, match="this session is unknown here"):
            call()
    with pytest.raises(UnknownSession):
        server.coordinator.beat(MALLORY, pb.Beat(session_id=client.session))
    with pytest.raises(UnknownSession):
        server.coordinator.watch(MALLORY, client.session, client.events.append, lambda _: None)
    assert server.coordinator.clients_present == 1 and not client.cut and len(client.events) == heard


def test_a_client_that_comes_from_another_address_goes_on(start: Start) -> None:
    server = start(rounds=1, federation={"clients": 1})
    client = Client(server.coordinator, "alice", peer=ALICE)
    state = client.state()
    client.open()
    client.peer = Peer("ipv4:10.9.9.9:2", "alice")
    for step in range(4):
        client.push(step)
    client.submit(state)
    assert server.coordinator.finished
