from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray

from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import AssembledModel, SplitModel, TensorSpec
from heron_core.streams import seeded_torch
from heron_server.engine import Counts, Engine
from heron_server.staging import Step

OPTIMIZERS = [{"name": "adam"}, {"name": "sgd", "momentum": 0.9}, {"name": "sgd"}]


def engine(model: SplitModel | None = None, **tables: Any) -> Engine:
    return Engine(tiny.spec(**tables), model or tiny.mlp(), torch.device("cpu"))


def step(number: int = 0, rows: int = 4, shape: tuple[int, ...] = (6,)) -> Step:
    rng = torch.Generator().manual_seed(number)
    return Step(number, (torch.randn(rows, *shape, generator=rng),), torch.arange(rows) % tiny.CLASSES)


def bits(made: Engine) -> dict[str, NDArray[Any]]:
    return made.tensors()


def same(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "dropout", "batch"])
def test_training_is_a_plain_torch_step_bit_for_bit(optimizer: dict[str, Any], kind: str) -> None:
    model = {"mlp": tiny.mlp(), "dropout": with_dropout(), "batch": tiny.conv("batch")}[kind]
    shape = model.activations[0].shape
    made = engine(model, server_optimizer={"lr": 0.01, **optimizer})
    back = model.build("back", 0).train()
    parameters = list(back.parameters())
    if optimizer["name"] == "adam":
        plain: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=0.01, foreach=False)
    else:
        plain = torch.optim.SGD(parameters, lr=0.01, momentum=optimizer.get("momentum", 0.0), foreach=False)
    losses = []
    for number in range(3):
        made.train("edge-1", 1, 2, step(number, shape=shape))
        plain.zero_grad()
        batch = step(number, shape=shape)
        with seeded_torch(0, "server", "round", 2, "client", 1, "step", number):
            loss = torch.nn.functional.cross_entropy(
                back(batch.activations[0]), batch.labels_B, reduction="none"
            ).mean()
        loss.backward()
        plain.step()
        losses.append(loss.item())
    assert all(
        torch.equal(a, b) for a, b in zip(made.back.state_dict().values(), back.state_dict().values(), strict=True)
    )
    assert made.take_mean_loss() == np.mean(losses)
    assert made.take_mean_loss() == 0.0


def with_dropout() -> SplitModel:
    made = tiny.mlp()
    return SplitModel(
        made.front, made.auxiliary, lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), made.back()),
        made.input, made.activations, made.classes,
    )  # fmt: skip


def bad_step(harm: str) -> Step:
    made = step()
    if harm == "label too large":
        made.labels_B[1] = tiny.CLASSES
    elif harm == "label negative":
        made.labels_B[1] = -1
    else:
        made.activations[0][2, 3] = float(harm)
    return made


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("label too large", r"labels must lie in 0\.\.2, got 0\.\.3"),
        ("label negative", r"labels must lie in 0\.\.2, got -1\.\.2"),
        ("nan", r"client 'edge-1', step 0: activations must be finite, got 1 NaN or Inf of 24"),
        ("inf", r"activations must be finite"),
        ("-inf", r"activations must be finite"),
    ],
)
def test_unusable_uploads_are_refused_and_leave_the_back_untouched(harm: str, message: str) -> None:
    made = engine()
    made.train("edge-1", 0, 1, step(1))
    before, loss = bits(made), made.take_mean_loss()
    with pytest.raises(TensorError, match=message):
        made.train("edge-1", 0, 1, bad_step(harm))
    assert same(bits(made), before) and loss > 0 and made.take_mean_loss() == 0.0


def test_huge_but_finite_activations_are_not_mistaken_for_inf() -> None:
    big = Step(0, (torch.full((4, 6), 3e38),), torch.zeros(4, dtype=torch.int64))
    engine().check("edge-1", big)


def test_integer_activations_are_not_checked_for_nan() -> None:
    made = tiny.mlp()
    model = SplitModel(made.front, made.auxiliary, made.back, made.input, (TensorSpec("ids", (2,), "int64"),), 3)
    engine(model).check("edge-1", Step(0, (torch.ones(4, 2, dtype=torch.int64),), torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", [tiny.mlp(), tiny.conv("batch")], ids=["mlp", "batch"])
def test_tensors_round_trip_bit_for_bit_and_training_goes_on_as_if_never_stopped(
    optimizer: dict[str, Any], model: SplitModel
) -> None:
    shape, tables = model.activations[0].shape, {"server_optimizer": {"lr": 0.05, **optimizer}}
    first = engine(model, **tables)
    for number in range(2):
        first.train("a", 0, 1, step(number, shape=shape))
    saved = bits(first)
    first.train("a", 0, 1, step(2, shape=shape))
    second = engine(model, **tables)
    second.train("a", 0, 1, step(9, shape=shape))
    second.load_tensors(saved)
    assert same(bits(second), saved)
    second.train("a", 0, 1, step(2, shape=shape))
    assert same(bits(second), bits(first))


def test_loading_a_fresh_boundary_forgets_the_optimiser() -> None:
    first, second = engine(), engine()
    fresh = bits(first)
    first.train("a", 0, 1, step(0))
    first.load_tensors(fresh)
    first.train("a", 0, 1, step(1))
    second.train("a", 0, 1, step(1))
    assert same(bits(first), bits(second))
    assert first.take_mean_loss() == second.take_mean_loss()


def test_saved_tensors_are_copies() -> None:
    made = engine()
    saved = bits(made)
    kept = {n: a.copy() for n, a in saved.items()}
    state = made.client_state()
    made.train("a", 0, 1, step(0))
    made.load_client_state({n: a + 1 for n, a in state.items()})
    assert same(saved, kept) and not same(bits(made), saved)
    assert not np.array_equal(made.client_state()["front.0.weight"], state["front.0.weight"])


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    made = engine()
    made.train("a", 0, 1, Step(0, (torch.full((4, 6), 3e38),), torch.zeros(4, dtype=torch.int64)))
    with pytest.raises(ModelError, match="the server's loss must be finite"):
        made.take_mean_loss()


def test_evaluation_counts_the_assembled_model_and_touches_nothing() -> None:
    model = tiny.conv("batch")
    made, test = engine(model), tiny.source(model, samples=23)
    before, state = bits(made), made.client_state()
    counts = made.evaluate(test, batch_rows=5)
    x, labels = test.batch(np.arange(23))
    whole = AssembledModel(model.build("front", 0), model.build("back", 0)).eval()
    with torch.inference_mode():
        logits = whole(torch.from_numpy(x))
    assert counts.samples == 23
    assert counts.correct == int((logits.argmax(1).numpy() == labels).sum())
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    assert counts.loss_sum == pytest.approx(float(expected), rel=1e-5)
    assert counts.class_counts == np.bincount(labels, minlength=3).tolist()
    assert same(bits(made), before) and same(made.client_state(), state)
    assert made.back.training and not made.client.training


def test_an_evaluation_refuses_labels_out_of_range() -> None:
    counts = Counts()
    with pytest.raises(TensorError, match="labels must lie in"):
        engine().count(bad_step("label too large"), counts)
    assert counts == Counts()


def test_a_back_without_parameters_trains_on_nothing() -> None:
    made = tiny.mlp()
    model = SplitModel(made.front, made.auxiliary, lambda: torch.nn.Flatten(), made.input, (TensorSpec("z", (3,)),), 3)
    server = engine(model)
    server.train("a", 0, 1, step(0, shape=(3,)))
    assert server.take_mean_loss() > 0


def test_global_random_state_is_untouched() -> None:
    state = torch.get_rng_state()
    made = engine(with_dropout())
    made.train("a", 0, 1, step(0))
    made.evaluate(tiny.source(tiny.mlp()))
    assert torch.equal(torch.get_rng_state(), state)
