"""One upload must not spoil what the server trains, whatever it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from heron_core.arrays import Array
from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import SplitModel
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

SGD: dict[str, Any] = {"name": "sgd", "lr": 0.01}
MOMENTUM, ADAM = {**SGD, "momentum": 0.9}, {"name": "adam", "lr": 0.01}
SERVER_HEAD = {"auxiliary_update": "server"}


def trainer(model: SplitModel | None = None, **tables: Any) -> Trainer:
    return Trainer(tiny.spec(**tables), model or tiny.mlp(), torch.device("cpu"))


def upload(number: int, scale: float = 1.0, shape: tuple[int, ...] = (6,)) -> Upload:
    rng = torch.Generator().manual_seed(number)
    return Upload(number, (torch.randn(4, *shape, generator=rng) * scale,), torch.arange(4) % tiny.CLASSES)


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def everything(made: Trainer) -> dict[str, Array]:
    return {**made.save(), **made.client_state()}


@pytest.mark.parametrize("scale", [1e5, 1e10, 1e19, 1e30])
@pytest.mark.parametrize("method", [{}, {"name": "sflv1"}, {"name": "sflv2"}, SERVER_HEAD], ids=str)
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM], ids=["sgd", "momentum"])
def test_an_upload_that_would_spoil_the_back_is_refused_and_leaves_everything_untouched(
    optimizer: dict[str, Any], method: dict[str, Any], scale: float
) -> None:
    made = trainer(method=method, server_optimizer=optimizer)
    honest = trainer(method=method, server_optimizer=optimizer)
    for number in range(12):
        honest.train("a", 0, 1, upload(number))
        made.train("a", 0, 1, upload(number))
        if number == 4:
            before = everything(made)
            with pytest.raises(TensorError, match=r"client 'h', upload 9: the (gradient|server's)"):
                made.train("h", 0, 1, upload(9, scale))
            assert same(everything(made), before)
    assert same(everything(made), everything(honest))
    assert made.take_mean_loss() == honest.take_mean_loss()


def test_a_gradient_that_is_not_finite_where_the_loss_is_costs_its_sender_the_round() -> None:
    made = trainer(overflowing_gradient(), server_optimizer=SGD)
    before = everything(made)
    with pytest.raises(TensorError, match=r"client 'h', upload 0: the server's gradient must be finite, got (inf|nan)"):
        made.train("h", 0, 1, upload(0, 1e30))
    assert same(everything(made), before)
    made.train("a", 0, 1, upload(1))


def test_a_back_whose_gradient_is_never_finite_is_nobody_s_fault() -> None:
    made = trainer(overflowing_gradient(), server_optimizer=SGD)
    with torch.no_grad():
        next(made.back.parameters()).fill_(1e25)
    with pytest.raises(ModelError, match=r"the server's gradient must be finite.*lower server_optimizer\.lr"):
        made.train("a", 0, 1, upload(0))


class Rooted(torch.autograd.Function):
    """Grows slowly where it has a steep slope: x -> log(1 + x^2), with the gradient of x^2."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.log1p(x.double().square()).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * x * x


def overflowing_gradient() -> SplitModel:
    class Back(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, tiny.CLASSES)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(Rooted.apply(self.layer(z)))

    made = tiny.mlp()
    return SplitModel(made.front, made.auxiliary, Back, made.inputs, made.activations, made.task)


def test_adam_s_moments_do_not_become_infinite_for_good() -> None:
    made = trainer(server_optimizer=ADAM)
    made.train("a", 0, 1, upload(0))
    before = everything(made)
    with pytest.raises(TensorError, match="its optimiser's moments infinite"):
        made.train("h", 0, 1, upload(1, 1e30))
    assert same(everything(made), before)


@pytest.mark.parametrize("kind", ["mlp", "batch"])
def test_a_large_step_that_spoils_nothing_is_taken_with_the_same_bits(kind: str) -> None:
    """Normalised by Adam, or by the back's own layers."""
    model = {"mlp": tiny.mlp(), "batch": tiny.conv("batch")}[kind]
    shape = model.activations[0].shape
    made = trainer(model, server_optimizer=ADAM)
    back = model.build("back", 0).train()
    adam = torch.optim.Adam(back.parameters(), lr=0.01, foreach=False)
    for number, scale in enumerate((1.0, 1e8, 1.0)):
        made.train("a", 0, 1, upload(number, scale, shape))
        adam.zero_grad()
        batch = upload(number, scale, shape)
        torch.nn.functional.cross_entropy(back(*batch.activations), batch.labels_B, reduction="none").mean().backward()
        adam.step()
    assert all(torch.equal(t, made.back.state_dict()[n]) for n, t in back.state_dict().items())


def test_a_client_whose_own_uploads_spoil_its_aligned_head_keeps_the_old_one_and_stops_nobody() -> None:
    made = trainer(method={"name": "fsl_sage"})
    heads = {rank: {n: t for n, t in made.client_state().items() if n.startswith("auxiliary.")} for rank in (0, 1)}
    assert made._alignment is not None
    made._alignment.buffers.keep(0, upload(0))
    made._alignment.buffers.keep(1, Upload(0, (torch.full((4, 6), 3e38),), torch.zeros(4, dtype=torch.int64)))
    assert list(made.align(10, heads)) == [0]
    with pytest.raises(ModelError, match="rank 1 must be finite"):
        made.align(20, {1: heads[1]})


# -- the clip ------------------------------------------------------------------------------------------------------


def test_a_gradient_longer_than_the_bound_is_scaled_down_to_it_and_a_shorter_one_is_left_alone() -> None:
    start = trainer(server_optimizer=SGD).back_tensors()
    moved = {}
    for bound in (0.0, 1e-2, 1e6):
        made = trainer(server_optimizer=SGD, guard={"clip_gradient": bound})
        made.train("a", 0, 1, upload(0))
        moved[bound] = np.concatenate([(t - start[n]).ravel() for n, t in made.back_tensors().items()])
    assert np.array_equal(moved[0.0], moved[1e6])
    assert np.linalg.norm(moved[1e-2]) == pytest.approx(SGD["lr"] * 1e-2, rel=1e-3)
    cosine = moved[0.0] @ moved[1e-2] / np.linalg.norm(moved[0.0]) / np.linalg.norm(moved[1e-2])
    assert cosine == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("method", [{}, SERVER_HEAD, {"name": "sflv2"}], ids=str)
def test_with_the_clip_a_huge_upload_moves_the_back_no_further_than_any_other(method: dict[str, Any]) -> None:
    made = trainer(method=method, server_optimizer=SGD, guard={"clip_gradient": 1.0})
    before = everything(made)
    made.train("h", 0, 1, upload(0, 1e10))
    moved = {n: float(np.linalg.norm(t.astype(np.float64) - before[n])) for n, t in everything(made).items()}
    assert 0 < max(moved.values()) <= SGD["lr"] * (1 + 1e-4)
    made.train("a", 0, 1, upload(1))
    loss = made.take_mean_loss()
    assert loss is not None and np.isfinite(loss)


# -- loss outliers -------------------------------------------------------------------------------------------------

JUDGED = {"guard": {"loss_outlier": 6.0}, "server_optimizer": SGD}


def others(made: Trainer, uploads: int = 8) -> None:
    for number in range(uploads):
        made.train("ab"[number % 2], number % 2, 1, upload(number))


@pytest.mark.parametrize("method", [{}, SERVER_HEAD, {"name": "sflv2"}, {"name": "fsl_sage"}], ids=str)
def test_an_upload_whose_loss_is_an_outlier_among_the_others_is_not_trained_on_and_is_counted(
    method: dict[str, Any]
) -> None:
    made = trainer(tiny.conv("batch"), method=method, **JUDGED)
    honest = trainer(tiny.conv("batch"), method=method, **JUDGED)
    for server in (made, honest):
        for number in range(8):
            server.train("ab"[number % 2], number % 2, 1, upload(number, shape=(4, 6, 6)))
    with torch.no_grad():
        for server in (made, honest):
            list(server.back.parameters())[-1][0] = -40.0  # of the last bias: class 0 has an outrageous loss now
    bad = Upload(8, upload(8, shape=(4, 6, 6)).activations, torch.zeros(4, dtype=torch.int64))
    returned = made.train("h", 2, 1, bad)
    assert (returned is not None) == (method.get("name") == "sflv2"), "the client goes on"
    kept = {n: t for n, t in everything(made).items() if n != "losses.2"}
    assert same(kept, everything(honest))
    assert made.end_round(1, {}, {0: 1.0}).quarantined == {"h": 1}
    assert made.end_round(2, {}, {0: 1.0}).quarantined == {}


def test_nobody_is_judged_without_enough_uploads_of_others_or_by_its_own() -> None:
    made = trainer(**JUDGED)
    for number in range(20):
        made.train("h", 2, 1, upload(number, 50.0))
    others(made, 5)
    made.train("h", 2, 1, upload(30, 50.0))
    assert made.end_round(1, {}, {0: 1.0}).quarantined == {}
    others(made, 2)
    made.train("h", 2, 1, upload(31, 50.0))
    assert made.end_round(2, {}, {0: 1.0}).quarantined == {"h": 1}


def test_the_losses_that_are_remembered_are_in_the_checkpoint() -> None:
    made, again = trainer(**JUDGED), trainer(**JUDGED)
    others(made)
    saved = made.save()
    assert {"losses.0", "losses.1"} <= saved.keys() and not again.mismatches(saved)
    again.load(made.client_state(), saved)
    assert same(again.save(), saved)
    for server in (made, again):
        server.train("h", 2, 1, upload(9, 50.0))
    assert same(again.save(), made.save())
    assert again.end_round(1, {}, {0: 1.0}).quarantined == {"h": 1}
    assert not any(name.startswith("losses.") for name in trainer().save()), "nothing where nobody is judged"
