"""A client without torch: its graphs are exported, it computes what torch does, and it is the same in each process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from client.compute.made import backend_of

from heron_client.compute.backend import Backend, MicroBatch
from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.local_round import LocalRound
from heron_client.testing.backends import check_backend
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.errors import BadReply, ConfigError, ModelError
from heron_core.graphs.graph_set import GraphSet
from heron_core.models.digest import state_sha256
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_server.graphs.compare import compare
from heron_simulator.notebook.simulation import Simulation
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from heron_client.compute.backends import onnx_backend
from heron_client.compute.backends.onnx_backend import OnnxBackend
from heron_client.compute.backends.onnx_session import OnnxOptions
from heron_server.graphs.export import export_graphs

LOSSES, UPDATES = 1e-5, 1e-2
"""Shares of a loss, and of a parameter's largest change in the round: a slope is a difference of losses over mu."""
MU = {"zo": {"mu": 0.01}}


class World:
    """A model whose graphs are exported once, with the state that its clients begin with."""

    def __init__(self, model: SplitModel, **method: Any) -> None:
        self.model, self.spec = model, tiny.spec(method={**MU, **method})
        self.graphs: GraphSet = export_graphs(self.spec, model)
        self.by_torch = backend_of(self.spec, model)
        self.state = self.by_torch.state()

    def backend(self) -> OnnxBackend:
        return OnnxBackend(self.graphs, self.spec)

    def round_of(self, backend: Backend) -> LocalRound:
        return local_round(self.spec, backend, tiny.source(self.model), self.state)


def local_round(spec: RunSpec, backend: Backend, source: Any, state: Mapping[str, Array]) -> LocalRound:
    """Run to its end, nothing sent."""
    client_state = ClientState(backend, spec.method)
    client_state.load(state)
    order = BatchOrder(spec.seed, 0, len(source), spec.method.batch_size)
    done = LocalRound(spec.method, spec.seed, client_state, Batches(source, order, spec.method, 1, 0, spec.rounds))
    for _ in done.uploads():
        pass
    return done


@pytest.fixture(scope="module")
def normalised() -> World:
    """BatchNorm, the head by its exact gradient, class shares."""
    return World(tiny.conv("batch"), logit_adjustment=1.0)


@pytest.fixture(scope="module")
def dropping() -> World:
    """Dropout; no head on the client."""
    return World(tiny.mlp(0.5), objective="cut_gradient")


def test_the_backend_keeps_the_contract(normalised: World) -> None:
    backend = normalised.backend()
    backend.load_state(normalised.state)
    assert "a probe at the base point gives the base point's losses" in check_backend(backend).passed
    for name in ("inputs", "labels", "activations", "state_tensors", "moved"):
        assert getattr(backend, name) == getattr(normalised.by_torch, name), name


def test_a_local_round_is_what_torch_computes_and_is_repeated_bit_for_bit(normalised: World) -> None:
    prior = np.log(np.array([0.2, 0.3, 0.5], dtype=np.float32))
    normalised.by_torch.set_log_prior(prior)
    backend = normalised.backend()
    backend.set_log_prior(prior)
    wanted, found = normalised.round_of(normalised.by_torch), normalised.round_of(backend)
    np.testing.assert_allclose(found.figures.losses, wanted.figures.losses, rtol=LOSSES)
    update = found.update()
    for name, array in wanted.update().items():
        moved = np.abs(array - normalised.state[name]).max()
        assert np.abs(update[name] - array).max() <= UPDATES * moved, name
    again = normalised.round_of(backend)
    assert again.figures.losses == found.figures.losses
    assert all(np.array_equal(array, update[name]) for name, array in again.update().items())


def test_parameters_as_constants_of_a_session_for_each_point_are_torch_s_too(
    normalised: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_backend, "FIXED_FROM", 1)
    backend = normalised.backend()
    backend.load_state(normalised.state)
    assert "a probe at the base point gives the base point's losses" in check_backend(backend).passed
    normalised.by_torch.set_log_prior(np.zeros(3, np.float32))
    wanted, found, again = (normalised.round_of(each) for each in (normalised.by_torch, backend, normalised.backend()))
    np.testing.assert_allclose(found.figures.losses, wanted.figures.losses, rtol=LOSSES)
    assert again.figures.losses == found.figures.losses


def test_evaluation_is_torch_s(normalised: World) -> None:
    backend = normalised.backend()
    for each in (backend, normalised.by_torch):
        each.load_state(normalised.state)
    inputs, _ = tiny.source(normalised.model).batch(np.arange(3))
    (found,), (wanted,) = (b.evaluation_activations(inputs) for b in (backend, normalised.by_torch))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_dropout_drops_as_often_as_it_says_and_the_same_in_each_pass(dropping: World) -> None:
    backend = dropping.backend()
    backend.load_state(dropping.state)
    inputs, labels = tiny.source(dropping.model, 400).batch(np.arange(400))
    batch, other = (MicroBatch(inputs, labels, ("masks", number)) for number in (0, 1))
    (first,), (again,), (another,) = (backend.cut_activations(b) for b in (batch, batch, other))
    assert np.array_equal(first, again) and not np.array_equal(first, another)
    assert abs((first == 0).mean() - 0.5) < 0.05
    (kept,) = backend.evaluation_activations(inputs)
    np.testing.assert_allclose(first[first != 0], 2 * kept[first != 0], rtol=1e-5)


def test_a_graph_that_computes_something_else_is_refused_with_tensor_and_difference(dropping: World) -> None:
    held = {name: torch.from_numpy(array) for name, array in dropping.state.items()}
    given = {**held, "inputs.input": torch.ones(2, 5)}
    with pytest.raises(ModelError, match=r"activations.activations differs from torch's by 1\b, allowed is"):
        compare("evaluation.onnx", dropping.graphs.evaluation, lambda named: _other(dropping, named), given)


def _other(world: World, named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    front = world.model.build("front", world.spec.seed).eval()
    return {"activations.activations": front(named["inputs.input"]).detach() + 1}


def test_graphs_of_another_run_and_no_graphs_are_refused(dropping: World) -> None:
    with pytest.raises(BadReply, match="for another model or method than this run's"):
        OnnxBackend(dropping.graphs, tiny.spec(method=MU))
    broken = GraphSet(dropping.graphs.manifest, b"no graph", b"", dropping.graphs.constants)
    with pytest.raises(ModelError, match=r"cannot run the server's training.onnx"):
        OnnxBackend(broken, dropping.spec)


def test_a_provider_whose_libraries_are_missing_is_refused_and_not_replaced(
    dropping: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda graph, given, providers: real(graph, given))
    with pytest.raises(ConfigError, match=r'cannot start its CUDAExecutionProvider .*execution_provider = "cpu"'):
        OnnxBackend(dropping.graphs, dropping.spec, OnnxOptions(provider="CUDAExecutionProvider"))


def simulated(*backends: str, **method: Any) -> Simulation:
    """Two clients in one process, by what the settings of each say."""
    model = tiny.mlp()
    data = [tiny.source(model, seed=seed).batch(np.arange(24)) for seed in (1, 2)]
    own = [{"name": f"client-{i}", "backend": backend} for i, backend in enumerate(backends)]
    return simulate(
        {"rounds": 2, "method": {"local_steps": 4, "batch_size": 4, **method}},
        model=model, data=[(x[0], y) for x, y in data], client_settings=own, settings={"graphs": True}, progress=False,
    )  # fmt: skip


def test_clients_with_torch_and_with_graphs_train_together_on_the_cut_gradient() -> None:
    mixed, by_torch = (simulated(backend, "torch", objective="cut_gradient", **MU) for backend in ("onnx", "torch"))
    assert mixed.summary["rounds_done"] == 2
    assert [own["backend"] for own in mixed.summary["per_client"].values()] == ["onnx", "cpu"]
    assert mixed.summary["model_sha256"] != by_torch.summary["model_sha256"], "other sums, other last bits"
    assert mixed.summary["history"][-1]["loss"] == pytest.approx(by_torch.summary["history"][-1]["loss"], rel=1e-3)


def test_a_method_beside_a_run_with_graphs_is_simulated_with_torch() -> None:
    assert simulated("torch", "torch", name="cse_fsl").summary["rounds_done"] == 2


WITHOUT_TORCH = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript", "heron_server"):
            raise ImportError(f"{name} is not installed on this client")

sys.meta_path.insert(0, Refuse())
from pathlib import Path
import numpy as np
from heron_client import check, daemon  # all that a client loads
from heron_client.compute.backends.onnx_backend import OnnxBackend
from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.local_round import LocalRound
from heron_core.data.batches import BatchOrder
from heron_core.data.source import ArraySource
from heron_core.graphs.graph_set import read_graphs
from heron_core.models.digest import state_sha256
from heron_core.spec.run_spec import RunSpec

home, spec, given = Path(sys.argv[1]), RunSpec.model_validate_json(sys.argv[2]), np.load(sys.argv[3])
state = ClientState(OnnxBackend(read_graphs(home), spec), spec.method)
state.load({name.removeprefix("state."): given[name] for name in given if name.startswith("state.")})
source = ArraySource(given["inputs"], given["labels"])
order = BatchOrder(spec.seed, 0, len(source), spec.method.batch_size)
done = LocalRound(spec.method, spec.seed, state, Batches(source, order, spec.method, 1, 0, spec.rounds))
for _ in done.uploads():
    pass
assert "torch" not in sys.modules
print(json.dumps([done.figures.losses, state_sha256(done.update())]))
"""


def test_a_process_that_has_no_torch_runs_the_same_round_to_the_same_bits(normalised: World, tmp_path: Path) -> None:
    inputs, labels = tiny.source(normalised.model).batch(np.arange(24))
    state = {f"state.{name}": array for name, array in normalised.state.items()}
    np.savez(tmp_path / "given.npz", inputs=inputs[0], labels=labels, **state)  # type: ignore[arg-type]
    home = normalised.graphs.write(tmp_path / "graphs")
    arguments = [str(home), normalised.spec.model_dump_json(), str(tmp_path / "given.npz")]
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    backend = normalised.backend()
    expected = normalised.round_of(backend)
    assert json.loads(done.stdout) == [expected.figures.losses, state_sha256(expected.update())]
