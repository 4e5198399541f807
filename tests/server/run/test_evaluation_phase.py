from __future__ import annotations

import contextlib

import numpy as np
import pytest
from server.driven import BAD_UPLOADS, HELD_OUT, PEER, Client, Server, Start, play_round

from heron_core.errors import (
    TensorError,
)
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import state_chunks
from heron_server.metrics.charges import Charges


def evaluating(start: Start) -> tuple[Server, list[Client]]:
    server = start(rounds=1, data={"source": "client"})
    clients = server.clients("ab")
    play_round(clients)
    for client in clients:
        assert client.heard("evaluation_begins")[0].version == 1
        client.answers.clear()
        client.open(split.PURPOSE_EVALUATE, steps=2)
    return server, clients


def test_clients_evaluate_on_their_held_out_samples(start: Start) -> None:
    server, clients = evaluating(start)
    before = server.trainer.save()
    for client in clients:
        client.push(0)
        client.push(1, client.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished
    assert server.coordinator._phases.counts.samples == 2 * HELD_OUT
    assert server.history[0]["accuracy"] is not None and server.coordinator.ledger.evaluation_up > 0
    assert all(np.array_equal(a, before[n]) for n, a in server.trainer.save().items())


@pytest.mark.parametrize("harm", ["NaN", "a label out of range", "a wrong shape"])
def test_an_unusable_evaluation_is_skipped_and_the_round_commits(start: Start, harm: str) -> None:
    server, (bad, good) = evaluating(start)
    spoiled, _ = BAD_UPLOADS[harm]
    with contextlib.suppress(TensorError):
        bad.push(0, spoiled(bad.tensors(0)))
    good.push(0)
    assert not server.coordinator.finished
    good.push(1, good.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished and server.history[0]["participants"] == 2
    assert server.coordinator._phases.counts.samples == HELD_OUT
    assert np.isfinite(server.history[0]["loss"])


def test_a_client_that_leaves_while_it_evaluates_is_skipped(start: Start) -> None:
    server, (leaver, good) = evaluating(start)
    leaver.leave()
    good.push(0)
    good.push(1, good.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished


def test_a_state_whose_fetch_breaks_off_is_charged_as_far_as_it_came(start: Start) -> None:
    """The ledger took away the whole state from what had come down, and went negative."""
    server, (broken, good) = evaluating(start)
    broken.fetch(1)  # asked for, and nothing of it was sent
    assert min(server.coordinator.ledger.as_dict().values()) == 0
    charges = Charges(server.coordinator.ledger)
    chunks = list(state_chunks(good.fetch(1)))
    call = charges.call("FetchModel")
    for chunk in chunks:
        call.down(chunk)
    size = sum(chunk.payload_bytes for chunk in chunks)
    server.coordinator.fetched(PEER, pb.FetchModelRequest(session_id=good.session, version=1), size)
    ledger = server.coordinator.ledger
    assert (ledger.evaluation_down, ledger.client_state_down) == (size, 0)
