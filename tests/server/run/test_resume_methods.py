"""Every method goes on from a checkpoint with the same bits, and an abandoned round leaves no trace of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from server.driven import ALIGNED, Start, play_round

from heron_core.errors import CheckpointError
from heron_server.storage.checkpoint import Checkpoint

METHODS: dict[str, dict[str, Any]] = {
    "heron": {},
    "heron, kept moments": {"moments": "kept"},
    "heron, averaged moments": {"moments": "averaged"},
    "heron, joint head": {"auxiliary_update": "zo"},
    "heron, server's head": {"auxiliary_update": "server", "moments": "kept"},
    "heron, aligned heads": {"auxiliary_update": "aligned", "alignment": ALIGNED},
    "heron, cut gradients": {"objective": "cut_gradient", "moments": "averaged", "mixing": True},
    "cse_fsl": {"name": "cse_fsl"},
    "fsl_sage": {"name": "fsl_sage", "alignment": ALIGNED, "moments": "kept"},
    "sflv1": {"name": "sflv1"},
    "sflv2": {"name": "sflv2", "moments": "kept", "optimizer": {"name": "sgd", "momentum": 0.9}},
    "sflv2, mixed": {"name": "sflv2", "mixing": True},
    "fedavg": {"name": "fedavg"},
    "frozen": {"name": "frozen"},
}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@EVERY
def test_a_killed_server_resumes_every_method_with_the_same_bits(start: Start, method: dict[str, Any]) -> None:
    resumes_with_the_same_bits(start, method=method)


@pytest.mark.parametrize("method", ["heron, averaged moments", "heron, server's head", "sflv1"])
def test_learning_rates_go_on_where_they_were(start: Start, method: str) -> None:
    moving = {"schedule": "cosine", "warm_up": 2}
    resumes_with_the_same_bits(start, method={**METHODS[method], "optimizer": moving}, server_optimizer=moving)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_moments_of_the_servers_own_step_go_on_where_they_were(start: Start, name: str) -> None:
    tensors = resumes_with_the_same_bits(start, federation={"clients": 2, "server_average": {"name": name}})
    assert np.any(tensors["server_average.first.front.0.weight"])
    assert ("server_average.second.front.0.weight" in tensors) == (name != "fedavgm")


def resumes_with_the_same_bits(start: Start, **tables: Any) -> dict[str, Any]:
    """The last checkpoint's tensors."""
    undisturbed = start("undisturbed", rounds=3, **tables)
    clients = undisturbed.clients("ab")
    for _ in range(3):
        play_round(clients)
    first = start("killed", rounds=3, **tables)
    clients = first.clients("ab")
    for _ in range(2):
        play_round(clients)
    if first.coordinator.spec.method.name != "fedavg":
        clients[0].open()
        clients[0].push(0)  # lost with the server
    first.close()
    second = start("killed", resume=True, rounds=3, **tables)
    clients = second.clients("ab")
    assert second.coordinator.rounds_done == 2
    play_round(clients)
    assert second.coordinator.finished and undisturbed.coordinator.finished
    assert second.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    expected, found = undisturbed.tensors, second.tensors
    assert expected.keys() == found.keys()
    assert all(np.array_equal(t, found[n]) and t.dtype == found[n].dtype for n, t in expected.items())
    return found


@EVERY
def test_an_abandoned_round_leaves_no_trace_in_any_method(start: Start, method: dict[str, Any]) -> None:
    server = start(method=method, server={"quorum": 1.0}, rounds=3)
    clients = server.clients("ab")
    play_round(clients)
    before, fetched = server.tensors, [client.fetch() for client in clients]
    if server.coordinator.spec.method.name != "fedavg":
        for client in clients:
            client.open()
            client.push(0)
    server.coordinator.client_failed("a", "told so")
    after = server.tensors
    assert clients[1].begins.term == 2 and server.coordinator.failure is None
    assert before.keys() == after.keys() and all(np.array_equal(t, after[n]) for n, t in before.items())
    for client, old in zip(clients, fetched, strict=True):
        assert all(np.array_equal(t, old[n]) for n, t in client.fetch().items())


@pytest.mark.parametrize(
    "harm", ["buffers.0.0.activations", "buffers.1.0.labels", "clients.0.moments.first", "clients.1.auxiliary.weight"]
)
def test_a_checkpoint_whose_buffers_or_clients_do_not_fit_the_model_is_not_resumed(start: Start, harm: str) -> None:
    server = start(rounds=4, method=METHODS["fsl_sage"])
    clients = server.clients("ab")
    play_round(clients)
    play_round(clients)
    checkpoint = server.directory.last()
    assert harm in checkpoint.tensors
    spoiled = {**checkpoint.tensors, harm: np.zeros((5, 5), np.float32)}
    server.directory.save(Checkpoint(checkpoint.facts, spoiled))
    server.close()
    with pytest.raises(CheckpointError, match=rf"does not fit the model.*\({harm}\)"):
        start(resume=True, rounds=4, method=METHODS["fsl_sage"])


def test_a_checkpoint_names_whose_tensors_they_are(start: Start) -> None:
    sage = start("sage", method={"name": "fsl_sage", "alignment": ALIGNED, "moments": "kept"})
    sflv1 = start("sflv1", method={"name": "sflv1"})
    for server in (sage, sflv1):
        clients = server.clients("ab")
        for _ in range(2):
            play_round(clients)
    names = set(sage.tensors)
    assert {"clients.1.auxiliary.weight", "clients.0.moments.first", "buffers.1.1.labels", "back.0.weight",
            "buffers.0.0.activations", "optimizer.0.exp_avg", "client.front.0.weight"} <= names  # fmt: skip
    assert not any(name.startswith("client.auxiliary") for name in names)
    assert {"optimizers.0.0.exp_avg", "optimizers.1.3.step"} <= set(sflv1.tensors)
