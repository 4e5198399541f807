"""A local step of a decoder: what passes on, and how many logits are there at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
import torch
from client.compute.made import backend_of, round_of
from tiny_language import SPEC, VOCABULARY, write_decoder
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.data.source import ArraySource
from heron_core.models import build_split_model
from heron_core.models.tasks import token_logits
from heron_core.spec.run_spec import RunSpec

pytest.importorskip("transformers")
pytest.importorskip("peft")
BATCH, LENGTH, SLICE = 4, 11, 5
WAYS: dict[str, dict[str, Any]] = {
    "front and head perturbed": {"auxiliary_update": "zo"},
    "the head's exact gradient": {"auxiliary_update": "first_order"},
    "the server's head": {"auxiliary_update": "server"},
    "one direction for each sequence": {"auxiliary_update": "server", "zo": {"scope": "sample", "mu": 1e-2}},
    "on the cut gradient": {"objective": "cut_gradient"},
    "first order": {"name": "cse_fsl"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    write_decoder(data / "tiny")
    return data


class Logits(TorchDispatchMode):
    """Counts the positions whose logits are held at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self._held = 0, dict[int, tuple[StorageWeakRef, int]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.shape[-1:] == (VOCABULARY,) and not _is_view_of_weight(found):
            storage = found.untyped_storage()
            self._held[storage._cdata] = (StorageWeakRef(storage), found.numel() // VOCABULARY)
        self._held = {key: kept for key, kept in self._held.items() if not kept[0].expired()}
        self.most = max(self.most, sum(rows for _, rows in self._held.values()))
        return found


class Back(plain.Back):
    """Its own graph is no part of the client's."""

    def answer(self, activations: Array, labels: Array) -> CutGradients:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            return super().answer(activations, labels)


def _is_view_of_weight(found: Tensor) -> bool:
    """Of the unembedding, that is, which is transposed for its product."""
    return found.dim() == 2 and found.stride(0) == 1 and found.shape[0] > 1


@pytest.mark.parametrize("way", WAYS)
def test_a_step_holds_a_slice_of_logits_and_only_backpropagation_builds_a_graph_of_the_front(
    way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method: Mapping[str, Any] = {"name": "heron", "zo": {"mu": 1e-2}, **WAYS[way]}
    method = {key: value for key, value in method.items() if method["name"] == "heron" or key != "zo"}
    sizes = {"local_steps": 2, "batch_size": BATCH}
    spec = RunSpec.model_validate({"model": SPEC, "method": {**method, **sizes}, "data": {"source": "client"}})
    monkeypatch.setattr(token_logits, "SLICE_BYTES", 4 * VOCABULARY * SLICE)
    both = np.random.default_rng(0).integers(3, VOCABULARY, (2 * BATCH, LENGTH + 1))
    backend = backend_of(spec, build_split_model(spec.model, data_folder=folder))
    local = round_of(spec, backend, source=ArraySource(both[:, :-1].copy(), both[:, 1:].copy()))

    graphs, packed = list[bool](), list[Tensor]()
    for layer in backend.modules.front.modules():
        layer.register_forward_hook(lambda _m, _i, out: graphs.append(torch.is_grad_enabled()))
    back = Back(spec, backend.modules.model) if "objective" in method else None
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t), Logits() as logits:
        plain.drive(local, back)
    backpropagates, exact_head = way == "first order", way == "the head's exact gradient"
    assert set(graphs) == {backpropagates}
    assert bool(packed) == (backpropagates or exact_head)
    of_a_graph = 4 if backpropagates or exact_head else 1  # a slice's product, its exponents and their gradients
    if "objective" not in method:
        assert 0 < logits.most <= of_a_graph * SLICE < BATCH * LENGTH
