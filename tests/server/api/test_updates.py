"""A small update is the last frame of the stream of uploads: checked, charged and counted as by SubmitUpdate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from server.driven import HELD_OUT, Client, Start

from heron_core.errors import PeerError, StaleTerm, TensorError, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire import bulk
from heron_core.wire.frames import Bulk
from heron_server.api.updates import take_whole


def pushed(client: Client) -> None:
    client.open()
    for step in range(4):
        client.push(step)


def update(client: Client, state: dict[str, Any] | None = None, **header: Any) -> Bulk[split.ActivationFrame]:
    """As the client makes it, but for the changes."""
    place = {"term": client.begins.term, "round": client.begins.round, "session_id": client.session}
    fields = {"run_id": client.reply.run_id, "num_samples": 10, "held_out_samples": HELD_OUT, **place, **header}
    frame = bulk.whole_update(pb.UpdateHeader(**fields), state if state is not None else client.state())
    assert frame is not None
    return frame


def taken(client: Client) -> int:
    return sum(answer.WhichOneof("event") == "update_taken" for answer in client.answers)


def test_it_counts_once_and_one_that_is_here_already_is_forgotten(start: Start) -> None:
    server = start(rounds=1)
    first, second = server.clients("ab")
    for client in (first, second):
        pushed(client)
    frame, states = update(first), [first.state(), second.state()]
    before = server.coordinator.ledger.client_state_up
    take_whole(server.coordinator, first.pushing, frame)
    assert server.coordinator.ledger.client_state_up - before == frame.payload_bytes > 0
    take_whole(server.coordinator, first.pushing, update(first, {n: 9 * t for n, t in first.state().items()}))
    assert taken(first) == 2 and not server.coordinator.finished
    take_whole(server.coordinator, second.pushing, update(second))
    assert server.coordinator.finished and server.history[0]["participants"] == 2
    made = server.coordinator.states.common(1)
    assert all(np.allclose(made[n], (states[0][n] + states[1][n]) / 2) for n in states[0])


def not_finite(client: Client) -> Bulk[split.ActivationFrame]:
    return update(client, {name: np.full_like(tensor, np.nan) for name, tensor in client.state().items()})


def short(client: Client) -> Bulk[split.ActivationFrame]:
    return Bulk(update(client).rest, (bytes(4),))


def long(client: Client) -> Bulk[split.ActivationFrame]:
    frame = update(client)
    return Bulk(frame.rest, (*frame.parts, bytes(4)))


def of_another_model(client: Client) -> Bulk[split.ActivationFrame]:
    return update(client, {"front.other": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (not_finite, TensorError, "must be finite"),
        (short, TensorError, "the update ended before"),
        (long, TensorError, "bytes were announced"),
        (of_another_model, TensorError, "update of round 1"),
        (lambda c: update(c, num_samples=0), TensorError, "num_samples must be 1 to"),
        (lambda c: update(c, term=c.begins.term + 1), StaleTerm, "the update is of"),
        (lambda c: update(c, round=2), StaleTerm, "the update is of"),
        (lambda c: update(c, session_id="nobody's"), UnknownSession, "of the stream's own session"),
    ],
)
def test_what_cannot_be_that_client_s_update_is_refused(
    start: Start, make: Any, error: type[PeerError], words: str
) -> None:
    server = start(rounds=1)
    bad, good = server.clients("ab")
    pushed(bad)
    with pytest.raises(error, match=words):
        take_whole(server.coordinator, bad.pushing, make(bad))
    assert not taken(bad)
    pushed(good)
    take_whole(server.coordinator, good.pushing, update(good))
    assert taken(good) and (server.coordinator.finished or server.coordinator._phases.has_update("b"))


def test_an_update_in_the_session_of_another_is_refused(start: Start) -> None:
    server = start(rounds=1)
    robber, victim = server.clients("ab")
    pushed(robber)
    pushed(victim)
    with pytest.raises(UnknownSession):
        take_whole(server.coordinator, robber.pushing, update(victim))
    assert not server.coordinator._phases.has_update("b")


def test_an_update_on_a_stream_of_an_evaluation_is_stale(start: Start) -> None:
    server = start(rounds=1, data={"source": "client"})
    clients = server.clients("ab")
    for client in clients:
        pushed(client)
        take_whole(server.coordinator, client.pushing, update(client))
    late = update(clients[0])
    clients[0].open(split.PURPOSE_EVALUATE, steps=2)
    clients[0].answers.clear()
    take_whole(server.coordinator, clients[0].pushing, late)  # it is here already: forgotten
    assert taken(clients[0]) == 1 and not server.coordinator.finished
