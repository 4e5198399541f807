"""A pretrained decoder's front at clients that run graphs: what torch computes, at every length of a batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client.compute.made import backend_of
from integration.worlds import GrpcWorld, Member
from tiny_language import LENGTH, SPEC, VOCABULARY, write_decoder

from heron_client.compute.backend import MicroBatch
from heron_core.graphs.graph_set import GraphSet
from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_server.planning import checks
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from heron_client.compute.backends.onnx_backend import OnnxBackend
from heron_server.graphs.export import export_graphs

CUT = {"objective": "cut_gradient", "local_steps": 2, "batch_size": 4, "micro_batch": 1, "zo": {"mu": 1e-2}}


class World:
    """A tiny Llama cut after its first block, its graphs exported once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_decoder(folder / "tiny")
        self.spec = RunSpec.model_validate({
            "rounds": 1, "model": {**SPEC, "cut": "1"}, "data": {"source": "client", "holdout": 0.25},
            "method": CUT, "federation": {"clients": 2, "min_clients": 2},
        })  # fmt: skip
        self.model: SplitModel = build_split_model(self.spec.model, data_folder=folder)
        self.graphs: GraphSet = export_graphs(self.spec, self.model)

    def member(self, rank: int, backend: str) -> dict[str, Any]:
        data = {"source": "tiny_language:samples", "options": {"part": rank}, "folder": str(self.folder)}
        return {"name": f"c{rank}", "backend": backend, "data": data}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("data"))


def test_the_front_is_torch_s_at_every_length_and_one_session_trains_and_evaluates(world: World) -> None:
    by_torch, backend = backend_of(world.spec, world.model), OnnxBackend(world.graphs, world.spec)
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in by_torch.state().items()}
    for each in (by_torch, backend):
        each.load_state(state)
    for rows, length in ((1, 1), (3, 2), (2, 7), (1, LENGTH)):
        tokens = rng.integers(0, VOCABULARY, (rows, length))
        batch = MicroBatch((tokens,), tokens, ("masks", 0))
        (wanted,), (found,) = (each.cut_activations(batch) for each in (by_torch, backend))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
        (evaluated,) = backend.evaluation_activations((tokens,))
        np.testing.assert_allclose(evaluated, found, rtol=1e-4, atol=1e-5 * np.abs(found).max())
    assert world.graphs.evaluation == world.graphs.training
    assert np.array_equal(backend.cut_activations(batch)[0], found)


def test_what_lies_behind_the_cut_is_no_constant_and_the_backbone_is_no_state(world: World) -> None:
    kinds = {tensor.name: tensor.kind for tensor in world.graphs.manifest.tensors}
    assert kinds["front.lm.model.embed_tokens.weight"] == "frozen"
    assert "front.lm.model.norm.weight" not in kinds
    assert {name for name, kind in kinds.items() if kind == "parameter"} == {n for n in kinds if ".lora_" in n}


def test_clients_with_graphs_train_it_over_grpc_as_in_the_simulator_and_nearly_as_with_torch(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = cache(lambda: world.graphs)
    monkeypatch.setattr(checks, "export_graphs", lambda *_: exported())
    settings = {"data_folder": world.folder}
    own = {kind: [world.member(rank, kind) for rank in range(2)] for kind in ("onnx", "torch")}
    simulated, by_torch = (
        simulate(world.spec, settings=settings, client_settings=own[kind], progress=False).summary for kind in own
    )
    running = GrpcWorld(world.spec, tmp_path / "run", graphs=True, data_folder=world.folder)
    try:
        summary = running.run(*(Member(**tables) for tables in own["onnx"]))
    finally:
        running.close()
    assert not summary["errors"]
    assert summary["model_sha256"] == simulated["model_sha256"] != by_torch["model_sha256"]
    assert summary["metrics"]["token_loss"] == pytest.approx(by_torch["metrics"]["token_loss"], rel=1e-3)
