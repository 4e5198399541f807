"""A pretrained decoder at clients that run graphs, its front alone or with a head: what torch computes."""

from __future__ import annotations

from dataclasses import replace
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
from heron_core.graphs.manifest import made_for
from heron_core.labels import IGNORED
from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks import token_logits
from heron_core.spec.run_spec import RunSpec
from heron_server.planning import checks
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from heron_client.compute.backends.onnx_backend import OnnxBackend
from heron_client.compute.backends.torch_backend import TorchBackend
from heron_server.graphs.export import export_graphs

pytestmark = pytest.mark.timeout(600)
"""An export takes half a minute of an idle processor."""
STEPS = {"local_steps": 2, "batch_size": 4, "micro_batch": 1, "zo": {"mu": 1e-2}}
CUT = {**STEPS, "objective": "cut_gradient"}
HEADS = {update: {**STEPS, "auxiliary_update": update} for update in ("server", "zo")}
TOKENS_A_SLICE = 5


class World:
    """A tiny Llama cut after its first block, its graphs exported once."""

    def __init__(self, folder: Path, method: dict[str, Any], **language: Any) -> None:
        self.folder = folder
        self.spec = RunSpec.model_validate({
            "rounds": 1, "model": {**SPEC, "cut": "1", "language": {**SPEC["language"], **language}},
            "data": {"source": "client", "holdout": 0.25}, "method": method,
            "federation": {"clients": 2, "min_clients": 2},
        })  # fmt: skip
        self.model: SplitModel = build_split_model(self.spec.model, data_folder=folder)
        self.graphs: GraphSet = export_graphs(self.spec, self.model)

    def member(self, rank: int, backend: str) -> dict[str, Any]:
        data = {"source": "tiny_language:samples", "options": {"part": rank}, "folder": str(self.folder)}
        return {"name": f"c{rank}", "backend": backend, "data": data}

    def kinds(self) -> dict[str, str]:
        return {tensor.name: tensor.kind for tensor in self.graphs.manifest.tensors}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("data") / "tiny").parent


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World(folder, CUT)


@pytest.fixture(scope="module")
def in_8_bits(folder: Path) -> World:
    return World(folder, CUT, front_weights="int8")


@pytest.fixture(scope="module")
def in_4_bits(folder: Path) -> World:
    return World(folder, CUT, front_weights="int4")


@pytest.fixture(scope="module")
def with_embedding(folder: Path) -> World:
    return World(folder, CUT, client_adapter="embedding")


@pytest.fixture(scope="module")
def with_head(folder: Path) -> World:
    """Its client's loss is that of a copied block, the map, and the unembedding over several slices of a text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_logits, "SLICE_BYTES", 4 * VOCABULARY * TOKENS_A_SLICE)
        return World(folder, HEADS["server"], auxiliary_blocks=1)


def in_one_state(world: World, rng: np.random.Generator) -> tuple[TorchBackend, OnnxBackend]:
    """The world's two backends, with the same random adapters."""
    by_torch, backend = backend_of(world.spec, world.model), OnnxBackend(world.graphs, world.spec)
    state = {name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in by_torch.state().items()}
    for each in (by_torch, backend):
        each.load_state(state)
    return by_torch, backend


@pytest.mark.parametrize("weights", ["world", "in_8_bits", "in_4_bits"])
def test_the_front_is_torch_s_at_every_length_and_one_session_trains_and_evaluates(
    weights: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(weights)
    rng = np.random.default_rng(0)
    by_torch, backend = in_one_state(world, rng)
    for rows, length in ((1, 1), (3, 2), (2, 7), (1, LENGTH)):
        tokens = rng.integers(0, VOCABULARY, (rows, length))
        batch = MicroBatch((tokens,), tokens, ("masks", 0))
        (wanted,), (found,) = (each.cut_activations(batch) for each in (by_torch, backend))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
        (evaluated,) = backend.evaluation_activations((tokens,))
        np.testing.assert_allclose(evaluated, found, rtol=1e-4, atol=1e-5 * np.abs(found).max())
    assert world.graphs.evaluation == world.graphs.training
    assert np.array_equal(backend.cut_activations(batch)[0], found)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> World:
    """GPT-2 drops out a tenth: of embeddings, of attention, and of what each block adds."""
    folder = tmp_path_factory.mktemp("dropping")
    write_decoder(folder / "tiny", "gpt2")
    return World(folder, CUT)


def test_a_decoder_s_dropout_has_masks_as_long_as_its_sequences_the_same_in_each_pass(dropping: World) -> None:
    masks, width, heads = dropping.graphs.manifest.masks, (0, 16), (2, 0, 0)
    assert [(mask.shape, mask.drops) for mask in masks] == [(s, 0.1) for s in (width, heads, width, width)]
    backend = OnnxBackend(dropping.graphs, dropping.spec)
    for rows, length in ((1, 1), (2, 7), (1, LENGTH)):
        tokens = np.random.default_rng(0).integers(0, VOCABULARY, (rows, length))
        one, again, other = (
            backend.cut_activations(MicroBatch((tokens,), tokens, ("masks", step)))[0] for step in (0, 0, 1)
        )
        assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_what_lies_behind_the_cut_is_no_constant_and_the_backbone_is_no_state(world: World) -> None:
    kinds = world.kinds()
    assert kinds["front.lm.model.embed_tokens.weight"] == "frozen"
    assert "front.lm.model.norm.weight" not in kinds
    assert {name for name, kind in kinds.items() if kind == "parameter"} == {n for n in kinds if ".lora_" in n}


def test_with_an_embedding_s_map_that_alone_trains(with_embedding: World) -> None:
    moving = {name for name, kind in with_embedding.kinds().items() if kind == "parameter"}
    assert moving == {"front.embedding.down.weight", "front.embedding.up.weight"}


def test_the_head_s_losses_are_torch_s_and_the_tied_unembedding_is_held_once(with_head: World) -> None:
    held = {name for name in with_head.kinds() if "embed_tokens" in name or "lm_head" in name}
    assert held == {"front.lm.model.embed_tokens.weight"}
    assert b"Scan" in with_head.graphs.training, "slices one after another"
    rng = np.random.default_rng(0)
    by_torch, backend = in_one_state(with_head, rng)
    for rows, length in ((1, 1), (3, 2), (2, 7), (1, LENGTH)):
        tokens, labels = rng.integers(0, VOCABULARY, (2, rows, length))
        labels[rng.random((rows, length)) < 0.3] = IGNORED
        batch = MicroBatch((tokens,), labels, ("masks", 0))
        wanted, found = (each.forward(batch, keep_activations=True) for each in (by_torch, backend))
        np.testing.assert_allclose(found.losses_B, wanted.losses_B, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.activations[0], wanted.activations[0], rtol=1e-4, atol=1e-4)


def trained(
    world: World, spec: RunSpec, run: Path, monkeypatch: pytest.MonkeyPatch, *, alike: bool = True
) -> None:
    """Over gRPC as in the simulator, and where both have the same masks nearly as with torch."""
    graphs = replace(world.graphs, manifest=world.graphs.manifest.model_copy(update={"made_for": made_for(spec)}))
    exported = cache(lambda: graphs)
    monkeypatch.setattr(checks, "export_graphs", lambda *_: exported())
    settings = {"data_folder": world.folder}
    own = {kind: [world.member(rank, kind) for rank in range(2)] for kind in ("onnx", "torch")}

    def simulated(kind: str) -> dict[str, Any]:
        return dict(simulate(spec, settings=settings, client_settings=own[kind], progress=False).summary)

    running = GrpcWorld(spec, run, graphs=True, data_folder=world.folder)
    try:
        summary = running.run(*(Member(**tables) for tables in own["onnx"]))
    finally:
        running.close()
    assert not summary["errors"]
    assert summary["model_sha256"] == simulated("onnx")["model_sha256"]
    if alike:
        by_torch = simulated("torch")
        assert summary["model_sha256"] != by_torch["model_sha256"]
        assert summary["metrics"]["token_loss"] == pytest.approx(by_torch["metrics"]["token_loss"], rel=1e-3)


def test_of_rounded_weights_no_float_is_a_constant(in_8_bits: World) -> None:
    kinds = in_8_bits.kinds()
    assert kinds["front.lm.model.embed_tokens.rounded"] == "frozen"
    assert not {n for n, kind in kinds.items() if kind == "frozen" and n.endswith("weight") and "layernorm" not in n}
    assert {name for name, kind in kinds.items() if kind == "parameter"} == {n for n in kinds if ".lora_" in n}


@pytest.mark.parametrize("adapter", ["world", "with_embedding", "in_8_bits", "in_4_bits"])
def test_clients_with_graphs_train_it_on_the_cut_gradient(
    adapter: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: World = request.getfixturevalue(adapter)
    trained(world, world.spec, tmp_path / "run", monkeypatch)


@pytest.mark.parametrize("update", HEADS)
def test_clients_with_graphs_train_it_on_the_loss_of_a_head_of_their_own(
    update: str, with_head: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = type(with_head.spec.method).model_validate(HEADS[update])
    trained(with_head, with_head.spec.model_copy(update={"method": method}), tmp_path / "run", monkeypatch)


def test_clients_with_graphs_train_a_decoder_that_drops_out(
    dropping: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(dropping, dropping.spec, tmp_path / "run", monkeypatch, alike=False)
