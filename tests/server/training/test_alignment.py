from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import AlignmentSpec
from heron_server.training.alignment import AlignedHeads, UploadBuffers, align, cut_gradients, squared_distance
from heron_server.uploads.assembly import Upload

SPEC = AlignmentSpec(passes=30, batch_size=4, lr=0.05)


def upload(number: int = 0, rows: int = 4, shape: tuple[int, ...] = (6,)) -> tuple[tuple[Tensor, ...], Tensor]:
    rng = torch.Generator().manual_seed(number)
    return (torch.randn(rows, *shape, generator=rng),), torch.arange(rows) % tiny.CLASSES


def as_upload(number: int, shape: tuple[int, ...] = (6,)) -> Upload:
    cut, labels_B = upload(number, shape=shape)
    return Upload(number, cut, labels_B)


def test_cut_gradients_of_a_linear_head_are_softmax_minus_target_times_its_weight() -> None:
    head = nn.Linear(6, tiny.CLASSES)
    (z_BC,), labels_B = upload()
    (found,) = cut_gradients(tiny.mlp(), head, (z_BC,), labels_B)
    errors_BK = head(z_BC).softmax(1) - nn.functional.one_hot(labels_B, tiny.CLASSES)
    torch.testing.assert_close(found, (errors_BK @ head.weight).detach())


def test_integer_tensors_of_the_cut_have_no_gradient() -> None:
    class Masked(nn.Module):
        def forward(self, z: Tensor, mask: Tensor) -> Tensor:
            return z * mask

    made = tiny.mlp()
    model = SplitModel(made.front, made.auxiliary, made.back, made.inputs, (TensorSpec("z", (3,)),) * 2, made.task)
    cut = (torch.randn(4, 3), torch.ones(4, 3, dtype=torch.int64))
    assert [g.shape for g in cut_gradients(model, Masked(), cut, torch.zeros(4, dtype=torch.int64))] == [(4, 3)]


def distance(model: SplitModel, head: nn.Module, back: nn.Module, uploads: list[Any]) -> float:
    pairs = [
        (cut_gradients(model, head, cut, labels), cut_gradients(model, back, cut, labels)) for cut, labels in uploads
    ]
    return float(torch.stack([squared_distance(e, t) for e, t in pairs]).mean())


def test_alignment_reduces_the_squared_distance_to_the_back_s_gradients() -> None:
    model = tiny.mlp()
    head, back = model.build("auxiliary", 0), model.build("back", 0)
    uploads = [upload(n) for n in range(3)]
    before = distance(model, head, back, uploads)
    align(model, head, back, uploads, SPEC, lambda *path: nullcontext())
    assert distance(model, head, back, uploads) < 0.5 * before


def test_alignment_is_the_written_formula_bit_for_bit() -> None:
    model = tiny.mlp()
    head, back, plain = model.build("auxiliary", 0), model.build("back", 0), model.build("auxiliary", 0)
    uploads = [upload(n) for n in range(3)]
    align(model, head, back, uploads, AlignmentSpec(passes=2, batch_size=5), lambda *path: nullcontext())
    z_all, y_all, goals = torch.cat([c[0] for c, _ in uploads]), torch.cat([y for _, y in uploads]), []
    for (z,), y in uploads:
        z = z.clone().requires_grad_()
        goals.append(torch.autograd.grad(model.task.losses(back(z), y).sum(), z)[0])
    goal = torch.cat(goals)
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3, foreach=False)
    for _ in range(2):
        for a in range(0, 12, 5):
            z, y = z_all[a : a + 5].clone().requires_grad_(), y_all[a : a + 5]
            (estimate,) = torch.autograd.grad(model.task.losses(plain(z), y).sum(), z, create_graph=True)
            loss = ((estimate - goal[a : a + 5]) ** 2).flatten(1).sum(1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), plain.parameters(), strict=True))


def test_alignment_moves_only_what_is_trainable_of_the_head() -> None:
    uploads = [upload(n) for n in range(3)]
    for trainable in ({"auxiliary.weight"}, set[str]()):
        model = tiny.mlp(trainable=lambda name, names=trainable: name in names)
        head, before = model.build("auxiliary", 0), model.build("auxiliary", 0)
        align(model, head, model.build("back", 0), uploads, SPEC, lambda *path: nullcontext())
        assert torch.equal(head.bias, before.bias) and head.bias.grad is None
        assert torch.equal(head.weight, before.weight) == (not trainable)


def test_alignment_leaves_the_back_as_it_was() -> None:
    model = tiny.conv("batch")
    back = model.build("back", 0).train()
    before = {n: t.clone() for n, t in back.state_dict().items()}
    uploads = [upload(n, shape=(4, 6, 6)) for n in range(2)]
    align(model, model.build("auxiliary", 0), back, uploads, SPEC, lambda *path: nullcontext())
    assert all(torch.equal(t, before[n]) for n, t in back.state_dict().items())
    assert all(p.grad is None for p in back.parameters())


@pytest.mark.parametrize(("samples", "kept"), [(1000, 5), (8, 2), (11, 2), (1, 1)])
def test_a_buffer_keeps_the_newest_whole_uploads_and_at_least_one(samples: int, kept: int) -> None:
    buffers = UploadBuffers(tiny.mlp().uploaded, 4, samples)
    uploads = [as_upload(number) for number in range(5)]
    for upload in uploads:
        buffers.keep(1, upload)
    held = buffers.of(1)
    assert buffers.ranks() == [1] and len(held) == kept
    for (cut, labels_B), upload in zip(held, uploads[-kept:], strict=True):
        assert torch.equal(cut[0], upload.activations[0]) and torch.equal(labels_B, upload.labels_B)
        assert cut[0].data_ptr() != upload.activations[0].data_ptr(), "the upload's memory is used again"


def test_buffers_come_back_from_their_tensors() -> None:
    first, second = (UploadBuffers(tiny.mlp().uploaded, 4, 8) for _ in range(2))
    for rank in (2, 11):
        for number in range(3):
            first.keep(rank, as_upload(number + rank))
    saved = {n: t.numpy() for n, t in first.tensors().items()}
    assert sorted(saved)[:2] == ["buffers.11.0.activations", "buffers.11.0.labels"]
    second.keep(5, as_upload(0))
    second.load(saved)
    again = second.tensors()
    assert list(again) == list(saved) and all(np.array_equal(again[n].numpy(), t) for n, t in saved.items())


def test_each_client_has_a_head_of_its_own() -> None:
    method = {"name": "fsl_sage", "alignment": {"every_rounds": 3, "passes": 5, "lr": 0.1}}
    model = tiny.mlp()
    heads = AlignedHeads(tiny.spec(method=method).method, model, 0, torch.device("cpu"))
    back, start = model.build("back", 0), model.build("auxiliary", 0).state_dict()
    state = {f"auxiliary.{n}": t.numpy() for n, t in start.items()}
    for rank in (1, 0):
        heads.buffers.keep(rank, as_upload(rank))
    assert [heads.ranks_due(r) for r in (1, 2, 3, 6)] == [[], [], [0, 1], [0, 1]]
    first, second, again = (heads.align(rank, 3, back, state) for rank in (0, 1, 0))
    assert first.keys() == state.keys()
    assert all(not np.array_equal(first[n], second[n]) and np.array_equal(first[n], again[n]) for n in first)


def test_an_aligned_head_that_is_not_finite_goes_down_to_nobody() -> None:
    model = tiny.mlp()
    heads = AlignedHeads(tiny.spec(method={"name": "fsl_sage"}).method, model, 0, torch.device("cpu"))
    state = {f"auxiliary.{n}": t.numpy() for n, t in model.build("auxiliary", 0).state_dict().items()}
    heads.buffers.keep(1, Upload(0, (torch.full((4, 6), 3e38),), torch.zeros(4, dtype=torch.int64)))
    with pytest.raises(ModelError, match="the aligned head of the client of rank 1 must be finite"):
        heads.align(1, 10, model.build("back", 0), state)
