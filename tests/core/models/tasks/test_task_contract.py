"""What every task does alike, and each one's loss and metrics against a plain formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heron_core.labels import IGNORED
from heron_core.measures import Measured, added
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.multi_label import MultiLabel
from heron_core.models.tasks.next_token import NextToken
from heron_core.models.tasks.per_pixel import PerPixel
from heron_core.models.tasks.regression import Regression
from heron_core.models.tasks.task import TakesPrior, Task

B = 7
TASKS: dict[str, Task] = {
    "classification": Classification(4),
    "regression": Regression(3),
    "regression by absolute error": Regression(3, loss="mae"),
    "multi-label": MultiLabel(5),
    "per-pixel": PerPixel(3, 2, 4),
    "next-token": NextToken(6, 5),
}
MASKABLE = [name for name, task in TASKS.items() if task.labels.maskable]


def batch(task: Task, rows: int = B, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and labels; where the task allows it, some positions do not count."""
    rng = np.random.default_rng(seed)
    outputs = torch.from_numpy(rng.standard_normal((rows, *task.output_shape)).astype(np.float32))
    spec = task.labels
    if spec.dtype == "float32":
        return outputs, torch.from_numpy(rng.standard_normal((rows, *spec.shape)).astype(np.float32))
    labels = rng.integers(0, spec.count, (rows, *spec.shape))
    if spec.maskable:
        labels[rng.random(labels.shape) < 0.3] = IGNORED
    return outputs, torch.from_numpy(labels)


def log_softmax(row: Any) -> Any:
    return row - math.log(sum(math.exp(value) for value in row))


def cross_entropy(logits: Any, label: int) -> float:
    return -float(log_softmax(logits)[label])


def counted_mean(pairs: list[tuple[Any, int]]) -> float:
    """Mean cross-entropy over the positions that count; 0 where none does."""
    losses = [cross_entropy(logits, label) for logits, label in pairs if label != IGNORED]
    return sum(losses) / max(1, len(losses))


def pixels(o: Any, y: Any) -> list[tuple[Any, int]]:
    return [(o[:, h, w], int(y[h, w])) for h in range(y.shape[0]) for w in range(y.shape[1])]


def tokens(o: Any, y: Any) -> list[tuple[Any, int]]:
    return [(o[t], int(y[t])) for t in range(len(y))]


def binary(logit: float, label: int) -> float:
    return math.log(1 + math.exp(-logit if label else logit))


FORMULAS: dict[str, Callable[[Any, Any], float]] = {
    "classification": lambda o, y: cross_entropy(o, int(y)),
    "regression": lambda o, y: sum((a - b) ** 2 for a, b in zip(o, y, strict=True)) / 3,
    "regression by absolute error": lambda o, y: sum(abs(a - b) for a, b in zip(o, y, strict=True)) / 3,
    "multi-label": lambda o, y: sum(binary(a, b) for a, b in zip(o, y, strict=True)) / 5,
    "per-pixel": lambda o, y: counted_mean(pixels(o, y)),
    "next-token": lambda o, y: counted_mean(tokens(o, y)),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_of_each_sample_is_the_plain_formulas(name: str) -> None:
    outputs, labels = batch(TASKS[name])
    losses_B = TASKS[name].losses(outputs, labels)
    assert (losses_B.dtype, losses_B.shape) == (torch.float32, (B,))
    expected = [FORMULAS[name](o, y) for o, y in zip(outputs.double().numpy(), labels.numpy(), strict=True)]
    assert losses_B.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_samples_loss_does_not_depend_on_its_batch(name: str) -> None:
    outputs, labels = batch(TASKS[name])
    alone = [float(TASKS[name].losses(outputs[i : i + 1], labels[i : i + 1])) for i in range(B)]
    assert TASKS[name].losses(outputs, labels).tolist() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    outputs, labels = batch(TASKS[name], rows=2)
    wide = outputs.double().requires_grad_()
    truth = labels.double() if labels.is_floating_point() else labels
    assert torch.autograd.gradcheck(lambda o: TASKS[name].losses(o, truth), (wide,))


def test_only_classes_have_a_prior_and_their_loss_takes_it_into_the_logits() -> None:
    assert [name for name, task in TASKS.items() if isinstance(task, TakesPrior)] == ["classification"]
    task = Classification(4)
    outputs, labels = batch(task)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    shares = outputs.softmax(dim=1) * prior.exp()
    expected = -(shares / shares.sum(dim=1, keepdim=True)).log()[torch.arange(B), labels]
    torch.testing.assert_close(task.losses_with_prior(outputs, labels, prior), expected)


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_what_the_task_says(name: str) -> None:
    task = TASKS[name]
    _, labels = batch(task)
    assert task.labels.problem(labels.numpy()) is None
    assert task.labels.problem(labels.numpy()[:, None]) is not None
    other = labels.numpy().astype(np.int64 if labels.is_floating_point() else np.float32)
    assert task.labels.problem(other) is not None


# -- metrics -------------------------------------------------------------------------------------------------------


def values(task: Task, measured: Measured) -> dict[str, float | None]:
    return {metric.name: metric.value(*measured[metric.name]) for metric in task.metrics}


@pytest.mark.parametrize("name", TASKS)
def test_the_metrics_are_those_that_are_announced_and_the_loss_leads_nowhere_else(name: str) -> None:
    task = TASKS[name]
    assert set(task.measure(*batch(task))) == {metric.name for metric in task.metrics}


@pytest.mark.parametrize("name", TASKS)
def test_metrics_over_batches_add_up_to_those_of_all_samples(name: str) -> None:
    task = TASKS[name]
    outputs, labels = batch(task, rows=23)
    total: Measured = {}
    for start, stop in ((0, 10), (10, 11), (11, 23)):
        total = added(total, task.measure(outputs[start:stop], labels[start:stop]))
    whole = values(task, task.measure(outputs, labels))
    assert values(task, total) == pytest.approx(whole, rel=1e-6)


def test_accuracy_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = TASKS["classification"]
    outputs, labels = batch(task, rows=50)
    expected = metrics.accuracy_score(labels, outputs.argmax(1))
    assert values(task, task.measure(outputs, labels)) == {"accuracy": pytest.approx(expected)}
    assert 0 < expected < 1


def test_errors_of_a_regression_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = TASKS["regression"]
    outputs, labels = batch(task, rows=50)
    found = values(task, task.measure(outputs, labels))
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(labels, outputs))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(labels, outputs))


def test_f1_is_scikit_learns_macro_average() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = TASKS["multi-label"]
    outputs, labels = batch(task, rows=50)
    expected = metrics.f1_score(labels, (outputs > 0).int(), average="macro")
    assert values(task, task.measure(outputs, labels)) == {"f1": pytest.approx(expected)}


def test_a_label_that_is_never_there_nor_predicted_is_left_out_of_the_mean() -> None:
    task = MultiLabel(2)
    outputs, labels = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[1, 0], [0, 0]])
    assert values(task, task.measure(outputs, labels)) == {"f1": pytest.approx(2 / 3)}


def test_mean_iou_is_scikit_learns_jaccard_over_the_pixels_that_count() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = TASKS["per-pixel"]
    outputs, labels = batch(task, rows=30)
    counted = labels != IGNORED
    truth, called = labels[counted], outputs.argmax(1)[counted]
    found = values(task, task.measure(outputs, labels))
    assert found["mean_iou"] == pytest.approx(metrics.jaccard_score(truth, called, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(truth, called))


def test_the_loss_of_a_token_weighs_every_token_alike_however_long_its_sentence() -> None:
    task = TASKS["next-token"]
    outputs, labels = batch(task, rows=9)
    pairs = [pair for o, y in zip(outputs.double().numpy(), labels.numpy(), strict=True) for pair in tokens(o, y)]
    losses = [cross_entropy(logits, label) for logits, label in pairs if label != IGNORED]
    right = [int(np.argmax(logits)) == label for logits, label in pairs if label != IGNORED]
    found = values(task, task.measure(outputs, labels))
    assert found["token_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-6)
    assert found["token_accuracy"] == pytest.approx(sum(right) / len(right))


DIRECTIONS = {
    "classification": [("accuracy", True)],
    "regression": [("mse", False), ("mae", False)],
    "regression by absolute error": [("mae", False), ("mse", False)],
    "multi-label": [("f1", True)],
    "per-pixel": [("mean_iou", True), ("pixel_accuracy", True)],
    "next-token": [("token_loss", False), ("perplexity", False), ("token_accuracy", True)],
}


@pytest.mark.parametrize("name", TASKS)
def test_each_metric_has_a_direction_and_the_first_judges_the_run(name: str) -> None:
    assert [(metric.name, metric.higher_is_better) for metric in TASKS[name].metrics] == DIRECTIONS[name]


# -- positions that do not count -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKABLE)
def test_a_position_that_does_not_count_changes_no_loss_no_metric_and_gets_no_gradient(name: str) -> None:
    task = TASKS[name]
    outputs, labels = batch(task)
    ignored = (labels == IGNORED).unsqueeze(1 if name == "per-pixel" else 2)
    other = torch.where(ignored, torch.full_like(outputs, 5.0), outputs).requires_grad_()
    assert torch.equal(task.losses(other, labels), task.losses(outputs, labels))
    assert values(task, task.measure(other.detach(), labels)) == values(task, task.measure(outputs, labels))
    task.losses(other, labels).sum().backward()  # type: ignore[no-untyped-call]
    assert other.grad is not None and bool(ignored.any())
    assert not other.grad.masked_select(ignored).any()


@pytest.mark.parametrize("name", MASKABLE)
def test_a_sample_without_a_position_that_counts_has_loss_0(name: str) -> None:
    task = TASKS[name]
    outputs, labels = batch(task)
    labels[0] = IGNORED
    losses_B = task.losses(outputs, labels)
    assert float(losses_B[0]) == 0 and bool(torch.isfinite(losses_B).all())
    assert values(task, task.measure(outputs[:1], labels[:1])) == dict.fromkeys(task.measure(outputs, labels))


def test_a_shorter_batch_is_a_batch_too() -> None:
    task = TASKS["next-token"]
    outputs, labels = batch(task)
    longer = torch.cat([labels[:, :3], torch.full((B, 2), IGNORED)], dim=1)
    assert task.labels.problem(labels[:, :3].numpy()) is None
    short = task.losses(outputs[:, :3], labels[:, :3])
    assert short.tolist() == pytest.approx(task.losses(outputs, longer).tolist(), rel=1e-6)
