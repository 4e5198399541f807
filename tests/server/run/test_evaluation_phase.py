from __future__ import annotations

import contextlib

import numpy as np
import pytest
from server.driven import BAD_UPLOADS, HELD_OUT, Client, Server, Start, play_round

from heron_core.errors import (
    TensorError,
)
from heron_core.pb.v1 import split_pb2 as split


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
