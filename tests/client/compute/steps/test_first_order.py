from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import plain
import pytest
import tiny
import torch
from client.compute.made import same

from heron_client.compute.backends import torch_backprop
from heron_core.errors import DataError
from heron_core.wire import window

OPTIMIZERS = [{"name": "adam", "lr": 0.01}, {"name": "sgd", "lr": 0.1, "momentum": 0.9}, {"name": "sgd", "lr": 0.1}]
METHODS = [
    ("cse_fsl", ("front", "auxiliary"), ("front", "auxiliary")),
    ("fsl_sage", ("front", "auxiliary"), ("front",)),
    ("fedavg", ("front", "back"), ("front", "back")),
]


def both(name: str, parts: Any, moved: Any, model: Any, **method: Any) -> tuple[Any, Any, Any, Any]:
    spec = tiny.spec(method={"name": name, **method})
    backend, local = plain.local_round(spec, model)
    rival = plain.PlainClient(spec, model, parts, moved)
    uploads = plain.drive(local)
    rival.run()
    return backend, local, rival, uploads


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("name", "parts", "moved"), METHODS)
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_round_gives_plain_torch_s_bits(name: str, parts: Any, moved: Any, norm: str, optimizer: Any) -> None:
    backend, local, rival, uploads = both(name, parts, moved, tiny.conv(norm), optimizer=optimizer)
    assert same(backend.state(), rival.state())
    assert local.figures.losses == rival.losses
    assert local.figures.forward_passes == 4
    assert len(uploads) == (0 if name == "fedavg" else 4)
    for upload, sent in zip(uploads, rival.sent, strict=False):
        assert np.array_equal(upload.tensors["activations"], sent) and not upload.wants_gradients


@pytest.mark.parametrize(("name", "parts", "moved"), METHODS)
def test_micro_batches_add_up_to_plain_torch_s_bits_with_their_own_masks(
    name: str, parts: Any, moved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "TOGETHER_BYTES", 0)
    backend, local, rival, uploads = both(name, parts, moved, tiny.mlp(dropout=0.5), micro_batch=2)
    assert same(backend.state(), rival.state())
    assert local.figures.losses == rival.losses
    assert [(u.sequence, u.step, u.row_start) for u in uploads] == [
        (2 * step + piece, step, 2 * piece) for step in range(4 if uploads else 0) for piece in range(2)
    ]


def test_the_head_that_the_server_aligns_stays_as_it_came() -> None:
    spec = tiny.spec(method={"name": "fsl_sage"})
    backend, local = plain.local_round(spec, tiny.mlp())
    before = backend.state()
    plain.drive(local)
    after = backend.state()
    assert np.array_equal(before["auxiliary.weight"], after["auxiliary.weight"])
    assert not np.array_equal(before["front.0.weight"], after["front.0.weight"])
    assert list(local.update()) == ["front.0.weight", "front.0.bias"]


def test_a_fedavg_client_pauses_after_each_step_and_sends_nothing() -> None:
    _, local = plain.local_round(tiny.spec(method={"name": "fedavg"}), tiny.mlp())
    done = [local.steps_done for upload in local.uploads() if upload is None]
    assert done == [1, 2, 3, 4]


def test_no_graph_is_alive_while_an_upload_waits() -> None:
    """Everything that autograd packed for the backward pass is gone once the activations are handed out."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        alive.append(weakref.ref(copy))
        return copy

    _, local = plain.local_round(tiny.spec(method={"name": "cse_fsl", "micro_batch": 2}), tiny.conv("group"))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        for _ in local.uploads():
            assert alive and not [ref for ref in alive if ref() is not None]


def test_activations_are_made_ready_to_send_only_once_the_graph_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels-last maps are copied for the wire: next to a whole graph that would raise the peak."""
    alive: list[weakref.ref[torch.Tensor]] = []
    found: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        alive.append(weakref.ref(copy))
        return copy

    def row_major(tensor: torch.Tensor) -> Any:
        found.append(sum(ref() is not None for ref in alive))
        return tensor.contiguous().numpy()

    monkeypatch.setattr(torch_backprop, "row_major", row_major)
    _, local = plain.local_round(tiny.spec(method={"name": "cse_fsl"}), tiny.conv("batch"))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        plain.drive(local)
    assert alive and found == [0] * 4


def test_a_suspended_step_does_not_hold_what_it_sent() -> None:
    _, local = plain.local_round(tiny.spec(method={"name": "cse_fsl"}), tiny.conv("group"))
    uploads = local.uploads()
    upload = next(uploads)
    sent = weakref.ref(upload.tensors["activations"])
    del upload
    assert sent() is None


def test_a_loss_that_is_not_finite_is_a_data_error_naming_round_and_step() -> None:
    spec, model = tiny.spec(method={"name": "cse_fsl"}), tiny.mlp()
    state = plain.local_round(spec, model)[0].state()
    state["auxiliary.bias"][:] = np.nan
    backend, local = plain.local_round(spec, model, state)
    with pytest.raises(DataError, match=r"round 1, step 0: the auxiliary loss must be finite, got nan"):
        plain.drive(local)
    assert same(backend.state() | {"auxiliary.bias": state["auxiliary.bias"]}, state), "nothing has moved"
