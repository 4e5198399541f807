from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import plain
import pytest
import tiny
import torch
from client.compute.made import backend_of, round_of, same

from heron_client.compute.backend import MicroBatch
from heron_core.arrays import TensorSpec
from heron_core.data.source import ArraySource
from heron_core.models.tasks.regression import Regression
from heron_core.spec.run_spec import RunSpec


def spec_of(name: str = "sflv2", **method: Any) -> RunSpec:
    return tiny.spec(method={"name": name, **method})


@pytest.mark.parametrize("name", ["sflv1", "sflv2"])
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "sgd", "lr": 0.1, "momentum": 0.5}])
def test_a_round_gives_plain_torch_s_bits(name: str, norm: str, optimizer: Any) -> None:
    spec, model = spec_of(name, optimizer=optimizer), tiny.conv(norm)
    backend, local = plain.local_round(spec, model)
    rival, back = plain.PlainClient(spec, model, ("front",), ("front",)), plain.Back(spec, model)
    uploads = plain.drive(local, back)
    rival.run(back)
    assert same(backend.state(), rival.state())
    assert local.figures.losses == rival.losses and local.figures.forward_passes == 4
    assert all(np.array_equal(u.tensors["activations"], z) for u, z in zip(uploads, rival.sent, strict=True))


def test_each_upload_wants_its_gradients() -> None:
    spec, model = spec_of(), tiny.mlp()
    _, local = plain.local_round(spec, model)
    uploads = plain.drive(local, plain.Back(spec, model))
    assert [(u.step, u.gradients) for u in uploads] == [(m, [("activations", "float32", (4, 6))]) for m in range(4)]


class HiddenAndCode(torch.nn.Module):
    """Input [5] to a hidden vector [6], and the place of its largest value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(5, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden: torch.Tensor = self.linear(x)
        return hidden, hidden.argmax(1)


def test_gradients_are_wanted_for_the_cut_s_floats_alone_not_for_labels_that_are_floats_too() -> None:
    activations = (TensorSpec("hidden", (6,)), TensorSpec("codes", (), "int64"))
    model = replace(tiny.mlp(), front=HiddenAndCode, activations=activations, task=Regression(2))
    source = ArraySource(np.ones((8, 5), np.float32), np.ones((8, 2), np.float32))
    first = next(round_of(spec_of(), backend_of(spec_of(), model), source=source).uploads())
    assert first is not None and {name: a.dtype.name for name, a in first.tensors.items()} == {
        "hidden": "float32", "codes": "int64", "labels": "float32",
    }  # fmt: skip
    assert first.gradients == [("hidden", "float32", (4, 6))]


def test_dropout_masks_are_the_step_s_own() -> None:
    spec, model = spec_of(), tiny.mlp(dropout=0.5)
    backend, local = plain.local_round(spec, model)
    rival, back = plain.PlainClient(spec, model, ("front",), ("front",)), plain.Back(spec, model)
    plain.drive(local, back)
    rival.run(back)
    assert same(backend.state(), rival.state())


def test_gradients_of_a_cut_of_two_tensors_meet_in_the_front() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(5, 6)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            z = self.one(x)
            return z, z.detach().argmax(1), z * 2

    backend, _ = plain.local_round(spec_of(), _with_front(Two))
    (x,), labels = tiny.source(tiny.mlp()).batch(np.arange(4))
    cut = backend.cut_pass(MicroBatch((x,), labels, ("a", "b")))
    first, _, second = cut.activations()
    gradients = [np.ones_like(first), np.full_like(second, 3)]
    gradient_D = cut.backward(gradients)
    expected = torch.cat([torch.full((6, 5), 7.0).mul(torch.from_numpy(x).sum(0)).reshape(-1), torch.full((6,), 28.0)])
    torch.testing.assert_close(torch.from_numpy(gradient_D), expected)
    assert gradients == []


def _with_front(front: Any) -> Any:
    return replace(tiny.mlp(), front=front)


def test_the_graph_lives_until_the_answer_and_not_into_the_next_step() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        alive.append(weakref.ref(copy))
        return copy

    spec, model = spec_of(), tiny.conv("group")
    _, local = plain.local_round(spec, model)
    back, uploads, answer = plain.Back(spec, model), local.uploads(), None
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        for _ in range(spec.method.local_steps):
            begun = len(alive)
            upload = uploads.send(answer)
            assert upload is not None
            assert not [ref for ref in alive[:begun] if ref() is not None], "of the step before"
            assert [ref for ref in alive[begun:] if ref() is not None], "of this step"
            with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                answer = back.answer(upload.tensors["activations"], upload.tensors["labels"])
            assert next(uploads) is None, "it waits"
            del upload


def test_the_gradients_are_let_go_once_they_are_used() -> None:
    spec, model = spec_of(), tiny.mlp()
    _, local = plain.local_round(spec, model)
    back, uploads = plain.Back(spec, model), local.uploads()
    upload = next(uploads)
    assert upload is not None
    answer = back.answer(upload.tensors["activations"], upload.tensors["labels"])
    held = weakref.ref(answer[1][0])
    next(uploads)
    uploads.send(answer)
    gc.collect()
    assert held() is None and answer[1] == []
