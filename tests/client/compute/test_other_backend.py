"""A backend of nothing but NumPy forward passes: it takes part in heron, and is refused where more is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tiny
from client.compute.made import backend_of

from heron_client.compute.backend import Backend, Forward, MicroBatch, StateTensor, Vector
from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.local_round import LocalRound
from heron_client.testing import check_backend
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.errors import ConfigError
from heron_core.spec.methods import moves
from heron_core.spec.run_spec import RunSpec


class NumpyBackend:
    """tiny.mlp: a linear layer, tanh, and a linear head with cross-entropy."""

    def __init__(self, spec: RunSpec, state: Mapping[str, Array]) -> None:
        model = tiny.mlp()
        self.inputs, self.labels, self.activations = model.inputs, model.task.labels, model.activations
        self._state = {name: array.copy() for name, array in state.items()}
        self.state_tensors = [StateTensor(n, a.dtype.name, a.shape, False) for n, a in state.items()]
        self.moved = [(n, a.size) for n, a in state.items() if moves(spec.method, n)]

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        self._state = {name: arrays[name].copy() for name in self._state}

    def state(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._state.items()}

    def theta(self) -> Vector:
        return np.concatenate([self._state[name].reshape(-1) for name, _ in self.moved])

    def set_theta(self, theta_D: Vector, start: int = 0) -> None:
        at = -start
        for name, count in self.moved:
            if 0 <= at < theta_D.size:
                self._state[name] = theta_D[at : at + count].reshape(self._state[name].shape).copy()
            at += count

    def buffers(self) -> dict[str, Array]:
        return {}

    def restore_buffers(self, saved: Mapping[str, Array]) -> None:
        assert not saved

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        (activations,) = self.evaluation_activations(batch.inputs)
        logits = activations @ self._state["auxiliary.weight"].T + self._state["auxiliary.bias"]
        log_sum = np.log(np.exp(logits).sum(1))
        losses_B = log_sum - logits[np.arange(batch.rows), batch.labels]
        return Forward(losses_B, [activations] if keep_activations else [])

    def head_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        losses_B, (z,) = self.forward(batch, keep_activations=True)
        logits = z @ self._state["auxiliary.weight"].T + self._state["auxiliary.bias"]
        pull = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        pull[np.arange(batch.rows), batch.labels] -= 1
        pull /= np.float32(share_of)
        gradient_H = np.concatenate([(pull.T @ z).reshape(-1), pull.sum(0)])
        return Forward(losses_B, [z] if keep_activations else []), gradient_H

    def cut_activations(self, batch: MicroBatch) -> list[Array]:
        return self.evaluation_activations(batch.inputs)

    def evaluation_activations(self, inputs: tuple[Array, ...]) -> list[Array]:
        return [np.tanh(inputs[0] @ self._state["front.0.weight"].T + self._state["front.0.bias"])]


def spec_of(**method: Any) -> RunSpec:
    return tiny.spec(method={"local_steps": 6, "zo": {"mu": 1e-2}, **method})


def numpy_backend(spec: RunSpec) -> Backend:
    return NumpyBackend(spec, backend_of(spec, tiny.mlp()).state())


def round_over(backend: Backend, spec: RunSpec) -> LocalRound:
    source = tiny.source(tiny.mlp())
    order = BatchOrder(spec.seed, 0, len(source), spec.method.batch_size)
    state = ClientState(backend, spec.method)
    return LocalRound(spec.method, spec.seed, state, Batches(source, order, spec.method, 1, 0, spec.rounds))


def test_it_keeps_the_contract() -> None:
    assert check_backend(numpy_backend(spec_of())).subject == "NumpyBackend"


@pytest.mark.parametrize("head", ["first_order", "zo", "server"])
@pytest.mark.parametrize("zo", [{"scope": "batch"}, {"scope": "micro_batch", "difference": "central"}])
@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "sgd", "lr": 0.1}])
def test_its_round_is_torch_s_but_for_rounding(head: str, zo: dict[str, Any], optimizer: dict[str, Any]) -> None:
    spec = spec_of(auxiliary_update=head, micro_batch=2, zo={"mu": 1e-2, **zo}, optimizer=optimizer)
    updates, uploads = [], []
    for backend in (numpy_backend(spec), backend_of(spec, tiny.mlp())):
        local = round_over(backend, spec)
        uploads.append([each for each in local.uploads() if each is not None])
        updates.append(local.update())
    for ours, theirs in zip(*uploads, strict=True):
        assert (ours.sequence, ours.step, list(ours.tensors)) == (theirs.sequence, theirs.step, list(theirs.tensors))
    assert updates[0].keys() == updates[1].keys()
    for name, array in updates[0].items():
        np.testing.assert_allclose(array, updates[1][name], atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ({"name": "cse_fsl"}, 'method.name = "cse_fsl"'),
        ({"name": "sflv2"}, 'method.name = "sflv2"'),
        ({"zo": {"block_wise": True}}, "method.zo.block_wise = true"),
        ({"zo": {"exact_stages": 1}}, "method.zo.exact_stages = 1"),
        ({"zo": {"scope": "sample"}}, 'method.zo.scope = "sample"'),
    ],
)
def test_what_it_cannot_do_is_refused_by_the_setting_s_name(method: dict[str, Any], setting: str) -> None:
    spec = spec_of(**method)
    with pytest.raises(ConfigError, match=f"^{setting} needs a client that can .*, NumpyBackend cannot; set it other"):
        list(round_over(numpy_backend(spec), spec).uploads())
