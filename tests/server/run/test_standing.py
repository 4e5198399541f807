"""What a client loses that takes too much, and what its calls may go on with."""

from __future__ import annotations

import pytest
from server.driven import PEER, Start, play_round

from heron_core.errors import StaleTerm, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.run.peer import Peer


def test_who_loses_its_place_is_out_of_the_round_and_its_session_and_the_others_go_on(start: Start) -> None:
    server = start(rounds=1)
    a, b = server.clients("ab")
    server.coordinator.standing.loses_place("a", "too much")
    assert a.cut and server.coordinator.clients_present == 1
    with pytest.raises(UnknownSession):
        a.leave()
    play_round([b])
    assert server.coordinator.finished and server.history[0]["dropped_reasons"] == {"a": "too much"}
    server.coordinator.standing.loses_place("a", "once more")  # nobody of this name is here


def test_a_session_is_its_owner_s_alone(start: Start) -> None:
    server = start()
    (client,) = server.clients("a")
    standing = server.coordinator.standing
    assert standing.name_of(PEER, client.session) == "a"
    with pytest.raises(UnknownSession):
        standing.name_of(Peer("driven", "mallory"), client.session)


def test_an_update_is_wanted_of_participants_and_until_its_round_is_over(start: Start) -> None:
    server = start(rounds=2)
    a, b = server.clients("ab")
    header = pb.UpdateHeader(run_id=a.reply.run_id, session_id=a.session, term=a.begins.term, round=1)
    standing = server.coordinator.standing
    assert standing.check_update(PEER, header) == "a" and standing.place == (header.term, 1)
    server.coordinator.client_failed("a", "NaN")
    with pytest.raises(StaleTerm, match="no part in round 1 any more"):
        standing.check_update(PEER, header)
    play_round([b])
    with pytest.raises(StaleTerm, match="the server is at term"):
        standing.check_update(PEER, header)
