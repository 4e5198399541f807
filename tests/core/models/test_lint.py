"""What is wrong with a model though it runs, and which line of a user's it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn

from heron_core.errors import ModelError
from heron_core.models import CutModule, SplitModel
from heron_core.models.lint.lint import Findings, lint
from heron_core.models.registry import as_split_model
from heron_core.models.split_model import movable
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.multi_label import MultiLabel
from heron_core.models.tasks.regression import Regression
from heron_core.spec.methods import PARTS
from heron_core.spec.run_spec import ModelSpec

ONE = Classification(1)
OWN = ModelSpec(name="net:own")


def found(model: SplitModel) -> Findings:
    return lint(model, {part: model.build(part, 0) for part in PARTS}, 0)


def ending(end: nn.Module, zero: bool = False) -> SplitModel:
    """A model whose back ends so; with `zero`, its last layer begins at zero, as in many networks."""

    def back() -> nn.Module:
        last = nn.Linear(6, tiny.CLASSES)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return nn.Sequential(last, end)

    return replace(tiny.mlp(), back=back)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("model", "end"),
    [
        (ending(nn.Softmax(1)), "softmax"),
        (ending(nn.Sigmoid()), "sigmoid"),
        (replace(ending(nn.Sigmoid()), task=MultiLabel(tiny.CLASSES)), "sigmoid"),
    ],
    ids=["softmax", "sigmoid", "multi-label"],
)
def test_outputs_that_are_probabilities_are_refused(model: SplitModel, end: str, zero: bool) -> None:
    if zero:
        model = replace(ending(nn.Softmax(1) if end == "softmax" else nn.Sigmoid(), zero=True), task=model.task)
    with pytest.raises(ModelError, match=f"back ends in a {end}: .* leave the {end} out of the forward"):
        found(model)


def test_a_log_softmax_changes_nothing_and_is_a_warning() -> None:
    assert found(ending(nn.LogSoftmax(1))).warnings == (
        "back ends in a log_softmax, which its loss takes anyway: it changes nothing, and may go",
    )


@pytest.mark.parametrize(
    "model",
    [
        tiny.mlp(), ending(nn.Identity(), zero=True), ending(nn.ReLU()),
        replace(ending(nn.Sigmoid()), task=Regression(tiny.CLASSES)),
        replace(ending(nn.Identity(), zero=True), task=MultiLabel(tiny.CLASSES)),
    ],
    ids=["plain", "zero", "relu", "regression in 0..1", "labels, zero"],
)  # fmt: skip
def test_logits_pass_also_where_they_begin_small_or_positive(model: SplitModel) -> None:
    assert found(model) == Findings({}, ())


class CentredByHand(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0) if self.training else x


FRONTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm": (lambda: nn.BatchNorm1d(6), "front.1"),
    "by hand": (CentredByHand, "its forward"),
    "group norm": (lambda: nn.GroupNorm(2, 6), ""),
    "dropout": (lambda: nn.Dropout(0.5), ""),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), ""),
}


@pytest.mark.parametrize("case", FRONTS)
def test_what_normalises_across_the_batch_is_found_in_the_module(case: str) -> None:
    layer, where = FRONTS[case]
    model = replace(tiny.mlp(), front=lambda: nn.Sequential(nn.Linear(5, 6), layer()))
    assert found(model).across_batch.get("front", "") == where


def test_a_sample_that_depends_on_its_batch_in_evaluation_is_refused() -> None:
    def untracked() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, track_running_stats=False))

    with pytest.raises(ModelError, match=r"front mixes the samples .*; take track_running_stats=False from 1$"):
        found(replace(tiny.mlp(), front=untracked))

    class OverTheBatch(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).cumsum(0).flip(0)

    with pytest.raises(ModelError, match=r"back mixes the samples of a batch: .* batch_first=True"):
        found(replace(tiny.mlp(), back=lambda: OverTheBatch(6, tiny.CLASSES)))


def test_a_weight_that_moves_is_float32_and_a_frozen_one_what_it_likes() -> None:
    class Half(nn.Module):
        def __init__(self, frozen: bool) -> None:
            super().__init__()
            self.inner = nn.Linear(5, 6, dtype=torch.bfloat16).requires_grad_(not frozen)
            self.outer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.outer(self.inner(x.bfloat16()).float())
            return out

    with pytest.raises(ModelError, match=r"front\.inner\.weight is bfloat16, .* must be float32; .* freeze"):
        found(replace(tiny.mlp(), front=lambda: Half(frozen=False)))
    assert found(replace(tiny.mlp(), front=lambda: Half(frozen=True))) == Findings({}, ())


def test_one_class_is_no_classification() -> None:
    with pytest.raises(ModelError, match=r"one class has nothing to learn; .*Regression"):
        found(replace(tiny.mlp(), auxiliary=lambda: nn.Linear(6, 1), back=lambda: nn.Linear(6, 1), task=ONE))
    with pytest.raises(ModelError, match=r"needs two classes or more, got classes = 1; .*task=Regression\(\)"):
        as_split_model(CutModule(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1)), "0", (5,), 1), OWN)


# -- one module for all --------------------------------------------------------------------------------------------


def test_a_factory_that_gives_the_same_module_twice_is_refused_before_it_is_trained() -> None:
    shared = nn.Linear(6, tiny.CLASSES)
    model, _ = as_split_model(replace(tiny.mlp(), back=lambda: shared), OWN)
    with pytest.raises(ModelError, match=r"the factory of back must build a new module at each call, .*same weight"):
        found(model)
    whole = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, tiny.CLASSES))
    cut, _ = as_split_model(CutModule(lambda: whole, "0", (5,), tiny.CLASSES), OWN)
    with pytest.raises(ModelError, match=r"module_factory must build a new module at each call, .* same 0\.weight"):
        found(cut)


def test_a_frozen_part_may_be_shared() -> None:
    backbone = nn.Linear(5, 6).requires_grad_(False)
    model = replace(tiny.mlp(), front=lambda: nn.Sequential(backbone, nn.Linear(6, 6)))
    assert found(as_split_model(model, OWN)[0]) == Findings({}, ())


# -- lazy layers ---------------------------------------------------------------------------------------------------


def test_lazy_layers_get_their_sizes_when_the_part_is_built_and_the_same_bits_each_time() -> None:
    model = replace(tiny.mlp(), front=lambda: nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Tanh()))
    first, again = model.build("front", 3), model.build("front", 3)
    assert torch.equal(first.state_dict()["0.weight"], again.state_dict()["0.weight"])
    assert list(movable(first)) == ["0.weight", "0.bias", "1.weight", "1.bias"] and first.training
    assert torch.equal(first.state_dict()["1.running_mean"], torch.zeros(6))
    assert not first.get_parameter("0.weight").is_inference()


def test_a_lazy_layer_that_is_never_called_is_named() -> None:
    class Idle(nn.Linear):
        def __init__(self) -> None:
            super().__init__(5, 6)
            self.idle = nn.LazyLinear(3)

    with pytest.raises(ModelError, match=r"front\.idle\.weight waits for its first call to learn its size, and the"):
        replace(tiny.mlp(), front=Idle).build("front", 0)
