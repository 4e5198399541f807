from __future__ import annotations

from typing import Any

import pytest
from server.driven import PEER, Client, Start, play_round

from heron_core.errors import (
    ConfigError,
    HeronError,
    NameTaken,
    StaleTerm,
    UnknownSession,
    VersionMismatch,
)
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"protocol_version": 99}, VersionMismatch, rf"speaks protocol version {PROTOCOL_VERSION}, the client 99"),
        ({"client_name": "../etc"}, ConfigError, "a client name is"),
        ({"client_name": "x" * 65}, ConfigError, "a client name is"),
        ({"client_name": "a\n"}, ConfigError, "a client name is"),
        ({"instance_key": b"short"}, ConfigError, "instance key is 16 bytes; got .* and 5 bytes"),
    ],
)
def test_a_join_that_makes_no_sense_is_refused(
    start: Start, fields: dict[str, Any], error: type[HeronError], message: str
) -> None:
    server = start()
    good = {"protocol_version": PROTOCOL_VERSION, "client_name": "a", "instance_key": b"k" * 16}
    with pytest.raises(error, match=message):
        server.coordinator.join(PEER, pb.JoinRequest(**{**good, **fields}))
    assert server.coordinator.clients_present == 0


def test_a_takeover_cuts_the_old_session_and_goes_on_from_its_position(start: Start) -> None:
    server = start(rounds=1)
    old, other = server.clients("ab")
    other.open()
    old.open()
    old.push(0)
    with pytest.raises(NameTaken):
        Client(server.coordinator, "a", key=b"x" * 16)
    new = server.client("a")
    assert old.cut and not new.cut
    for call in (lambda: old.push(1), old.submit, old.open, old.leave):
        with pytest.raises(UnknownSession):
            call()
    new.open()
    assert new.answers[0].position.sequence == 1
    server.coordinator.push_closed(old.pushing)
    for step in range(4):
        if step:
            new.push(step)
        other.push(step)
    new.submit()
    other.submit()
    assert server.coordinator.finished


def test_only_the_present_client_state_can_be_fetched(start: Start) -> None:
    server = start()
    (client, _) = server.clients("ab")
    for version in (1, 99):
        with pytest.raises(StaleTerm, match=f"client state {version} is not the current one"):
            server.coordinator.model(PEER, pb.FetchModelRequest(session_id=client.session, version=version))
    with pytest.raises(UnknownSession):
        server.coordinator.model(PEER, pb.FetchModelRequest(session_id="nobody", version=0))


def test_the_silent_client_whose_turn_it_is_is_dropped_at_the_step_deadline(start: Start) -> None:
    server = start(rounds=1, server={"step_deadline_s": 5, "silence_s": 1000})
    silent, good = server.clients("ab")
    for client in (silent, good):
        client.open()
    for step in range(2):
        good.push(step)
    for now in (0.0, 4.0, 5.0):
        server.now = now
        server.coordinator.tick()
    assert not silent.heard("dropped")
    server.now = 5.5
    server.coordinator.tick()
    assert "late: no progress for 5 s" in silent.heard("dropped")[0].reason
    for step in (2, 3):
        good.push(step)
    good.submit()
    assert server.coordinator.finished


def test_a_client_lost_in_a_round_is_dropped_and_plays_the_next(start: Start) -> None:
    server = start(server={"grace_s": 10, "silence_s": 1000})
    lost, good = server.clients("ab")
    for client in (lost, good):
        client.open()
    lost.push(0)
    good.push(0)
    server.coordinator.push_closed(lost.pushing)
    server.coordinator.watch_lost(lost.session)
    server.now = 11
    server.coordinator.tick()
    back = server.client("a")
    assert back.heard("waiting") and not back.heard("round_begins")
    for step in (1, 2, 3):
        good.push(step)
    good.submit()
    assert server.coordinator.rounds_done == 1 and server.history[0]["dropped"] == 1
    play_round([back, good])
    assert server.coordinator.finished and server.history[1]["dropped"] == 0


def test_draining_is_told(start: Start) -> None:
    server = start()
    clients = server.clients("ab")
    server.coordinator.drain("stopped")
    assert [c.heard("draining")[0].reason for c in clients] == ["stopped"] * 2
