"""A pool of one upload of each client: mixed for the server's steps, and each client measured by its own rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from heron_core.errors import TensorError
from heron_core.models.split_model import SplitModel
from heron_server.training.commands import Pooled
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload
from heron_server.uploads.cut_gradients import CutGradients

NAMES = "abc"


def trainer(model: SplitModel | None = None, *, method: dict[str, Any] | None = None, **tables: Any) -> Trainer:
    made = tiny.spec(method={"mixing": True, **(method or {})}, **tables)
    return Trainer(made, model or tiny.mlp(), torch.device("cpu"))


def pool(*scales: float, number: int = 0) -> list[Pooled]:
    """One upload of each client, as large as its scale says."""
    rng = torch.Generator().manual_seed(number)
    cuts = [torch.randn(4, 6, generator=rng) * scale for scale in scales]
    uploads = [Upload(number, (cut,), torch.arange(4) % tiny.CLASSES) for cut in cuts]
    return [Pooled(NAMES[rank], rank, upload) for rank, upload in enumerate(uploads)]


def same_back(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.back.parameters(), b.back.parameters(), strict=True))


@pytest.mark.parametrize("method", [{}, {"name": "sflv2"}, {"auxiliary_update": "server"}], ids=str)
@pytest.mark.parametrize("guard", [{}, {"clip_gradient": 1.0}], ids=str)
def test_an_upload_that_is_not_finite_is_left_out_and_the_others_train_as_without_it(
    guard: dict[str, Any], method: dict[str, Any]
) -> None:
    made, honest = trainer(method=method, guard=guard), trainer(method=method, guard=guard)
    found = made.train_mixed(1, pool(1.0, 1.0, float("inf")))
    assert isinstance(found[2], TensorError) and "client 'c', upload 0" in str(found[2])
    honest.train_mixed(1, pool(1.0, 1.0, 1.0)[:2])
    assert same_back(made, honest) and made.take_mean_loss() == honest.take_mean_loss()


@pytest.mark.parametrize("scale", [1e10, 1e30])
@pytest.mark.parametrize("method", [{}, {"name": "sflv2"}, {"auxiliary_update": "server"}], ids=str)
def test_whose_rows_would_spoil_a_mixed_batch_loses_the_round_and_nobody_else(
    method: dict[str, Any], scale: float
) -> None:
    made = trainer(method=method, server_optimizer={"name": "sgd", "lr": 0.01})
    found = made.train_mixed(1, pool(1.0, scale, 1.0))
    assert [isinstance(each, TensorError) for each in found] == [False, True, False]
    assert str(found[1]).startswith("client 'b', upload 0: ")
    assert all(p.isfinite().all() and p.abs().max() < 10 for p in made.back.parameters())
    loss = made.take_mean_loss()
    assert loss is not None and loss < 10


def test_a_client_s_gradient_is_no_longer_than_the_bound_whatever_batches_its_rows_are_in() -> None:
    bound, lr = 1e-3, 1.0
    made = trainer(guard={"clip_gradient": bound}, server_optimizer={"name": "sgd", "lr": lr})
    before = [p.detach().clone() for p in made.back.parameters()]
    assert made.train_mixed(1, pool(1.0, 1e3, 1.0)) == [None] * 3
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(made.back.parameters(), before, strict=True)])
    assert 0 < float(moved.norm()) < 3 * 3 * bound * lr


def test_an_outlier_is_left_out_is_counted_and_gets_the_gradients_of_its_own_upload() -> None:
    made = trainer(method={"name": "sflv2"}, guard={"loss_outlier": 6.0})
    for number in range(4):
        made.train_mixed(1, pool(1.0, 1.0, 1.0, number=number))
    with torch.no_grad():
        list(made.back.parameters())[-1][0] = -40.0  # of the last bias: class 0 has an outrageous loss now
    uploads = pool(1.0, 1.0, 1.0, number=4)
    mild = [Pooled(p.client, p.rank, Upload(4, p.upload.activations, torch.tensor([1, 2, 1, 2]))) for p in uploads[:2]]
    zeros = Pooled("c", 2, Upload(4, uploads[2].upload.activations, torch.zeros(4, dtype=torch.int64)))
    found = made.train_mixed(1, [*mild, zeros])
    assert all(isinstance(each, CutGradients) for each in found)
    bad = found[2]
    assert isinstance(bad, CutGradients) and bad.loss > 10
    assert np.any(next(iter(bad.tensors.values())))
    assert made.end_round(1, {}, {0: 1.0}).quarantined == {"c": 1}


def test_each_client_s_loss_and_gradients_are_of_its_own_rows() -> None:
    """The server stands still, so that mixing changes nothing but who is beside whom in a batch."""
    still = {"server_optimizer": {"name": "sgd", "lr": 1e-30}, "method": {"name": "sflv2"}}
    uploads = pool(1.0, 2.0, 3.0)
    mixed = trainer(**still).train_mixed(1, uploads)
    plain = Trainer(tiny.spec(**still), tiny.mlp(), torch.device("cpu"))
    for each, found in zip(uploads, mixed, strict=True):
        alone = plain.train(each.client, each.rank, 1, each.upload)
        assert isinstance(found, CutGradients) and alone is not None
        assert found.number == alone.number and found.loss == pytest.approx(alone.loss, rel=1e-5)
        for name, gradient in alone.tensors.items():
            np.testing.assert_allclose(found.tensors[name], gradient, rtol=1e-4, atol=1e-7)
