"""Each broken model is refused in one line that says what was expected, what came and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models import CutModule, SplitModel
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.multi_label import MultiLabel
from heron_core.models.tasks.next_token import NextToken
from heron_core.models.tasks.per_pixel import PerPixel
from heron_core.models.tasks.regression import Regression
from heron_core.testing import check_split_model
from heron_core.testing.split_models.random_state import random_states

SHARED = nn.Linear(6, tiny.CLASSES)


class Front(nn.Linear):
    """A front whose forward a test spoils."""

    def __init__(self, after: Callable[[Front, Tensor], Tensor]) -> None:
        super().__init__(5, 6)
        self.after, self.calls = after, 0
        self.register_buffer("seen", torch.zeros(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.after(self, super().forward(x))


def front(after: Callable[[Front, Tensor], Tensor]) -> Callable[[], SplitModel]:
    return lambda: replace(tiny.mlp(), front=lambda: Front(after))


def counts(module: Front, z: Tensor) -> Tensor:
    module.seen += z.mean(dim=0)
    return z


def grows(module: Front, z: Tensor) -> Tensor:
    module.extra = nn.Parameter(torch.zeros(1))
    return z


def drawn_by_numpy() -> nn.Module:
    made = nn.Linear(6, tiny.CLASSES)
    made.weight.data = torch.from_numpy(np.random.rand(tiny.CLASSES, 6).astype(np.float32))
    return made


def seeded() -> SplitModel:
    torch.manual_seed(3)
    return tiny.mlp()


def drawn_too_early() -> SplitModel:
    """From torch's generator, but before Heron seeds it; and leaves that as it was."""
    with torch.random.fork_rng():
        weight = torch.rand(tiny.CLASSES, 6)

    def head() -> nn.Module:
        made = nn.Linear(6, tiny.CLASSES)
        made.weight.data = weight.clone()
        return made

    return replace(tiny.mlp(), auxiliary=head)


class Squeezed(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).squeeze()


NUMBERS = count()


class Renamed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.name = f"linear{next(NUMBERS)}"
        self.add_module(self.name, nn.Linear(6, tiny.CLASSES))

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = getattr(self, self.name)(z)
        return out


class Argmax(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).detach()


class Task(Classification):
    """A classification that a test spoils."""


class MeanLoss(Task):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels)


class DoubleLoss(Task):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels).double()


class OverTheBatch(Task):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = super().losses(outputs, labels)
        return losses - losses.mean()


class InfiniteLoss(Task):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().losses(outputs, labels) / 0


class NoSuchMetric(Task):
    def measure(self, outputs: Tensor, labels: Tensor) -> Any:
        return {"acc": super().measure(outputs, labels)["accuracy"]}


class PlainNumbers(Task):
    def measure(self, outputs: Tensor, labels: Tensor) -> Any:
        return {"accuracy": (1.0, len(labels))}


class MeanMetric(Task):
    def measure(self, outputs: Tensor, labels: Tensor) -> Any:
        right, total = super().measure(outputs, labels)["accuracy"]
        return {"accuracy": (right / total, np.float64(1))}


class Buggy(Task):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        raise KeyError("a bug of the user's\nin two lines")


def part(name: str, make: Callable[[], nn.Module]) -> Callable[[], SplitModel]:
    return lambda: replace(tiny.mlp(), **{name: make})


def task(kind: Callable[[int], Classification]) -> Callable[[], SplitModel]:
    return lambda: replace(tiny.mlp(), task=kind(tiny.CLASSES))


BROKEN: dict[str, tuple[Any, str]] = {
    "no function": (tiny.mlp(), "expected a function that returns a SplitModel or a CutModule, got a SplitModel; hand"),
    "an nn.Module": (nn.Linear(2, 2), "expected a function .*, got a Linear; hand over the function itself"),
    "makes a module": (lambda: nn.Linear(2, 2), "must return a SplitModel or a CutModule, it returned Linear"),
    "raises": (lambda: {}["weights"], r"expected that the factory makes .*, got KeyError: .weights. \(test_"),

    "does not fit": (part("back", lambda: nn.Linear(7, 3)), "back does not accept activations"),
    "overwrites": (
        part("auxiliary", lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3))),
        "auxiliary overwrites its input activations, .*set inplace=False",
    ),
    "one sample": (part("back", lambda: Squeezed(6, 3)), r"back of one sample must be \[1, 3\], got \[3\]; name"),
    "numpy": (part("auxiliary", drawn_by_numpy), r"must leave .* as it was, it moves that of numpy\.random; draw"),
    "seeds": (seeded, "must leave .* as it was, it moves that of torch; .* seed nothing"),
    "too early": (drawn_too_early, r"auxiliary.weight must have the same bits .* seed 0, got at \[0, 0\]: .*; draw it"),
    "shared": (part("back", lambda: SHARED), "factory of back must build a new module at each call"),
    "another name": (part("back", Renamed), "back must have the same names .*, got another linear.*; mend its factory"),
    "training noise": (
        front(lambda module, z: z + module.calls), r"same batch in training, with the same .*, got at \[0, 0\]"
    ),
    "evaluation noise": (
        front(lambda module, z: z + torch.rand(1)), "same batch in evaluation, got .*draw nothing where self.training"
    ),
    "not finite": (front(lambda module, z: z / 0), "activations must be finite for inputs around 0, got NaN or Inf in"),
    "grows": (front(grows), r"front.extra must stay what .* absent, got float32 \[1\] after a forward"),
    "lost buffer": (front(counts), "front.seen must be persistent, because training changes it"),
    "a bug": (task(Buggy), r"expected that losses .* got KeyError: .*a bug .* \(test_.*\.py:\d+ in losses\); mend it"),
    "mean loss": (task(MeanLoss), r"losses of the auxiliary's outputs must be float32 \[4\], .* got float32 \[\]; use"),
    "double loss": (task(DoubleLoss), r"must be float32 \[4\], one for each sample, got float64 \[4\]"),
    "infinite loss": (task(InfiniteLoss), "the losses .* must be finite, got"),
    "loss over the batch": (task(OverTheBatch), "must not depend on the others in its batch, got .* among 4"),
    "no such metric": (task(NoSuchMetric), r"metrics, \['accuracy'\], at least one, got \['acc'\]; name them alike"),
    "plain numbers": (task(PlainNumbers), r"both sums of accuracy must be finite float64 arrays, got 1\.0; make"),
    "mean metric": (task(MeanMetric), "both sums of accuracy must add up over batches, got .* let measure return sums"),
    "no gradient": (part("back", lambda: Argmax(6, 3)), "loss of the back's outputs must have a gradient, it has none"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_the_contract_is_one_clear_line(case: str) -> None:
    factory, says = BROKEN[case]
    with pytest.raises(ModelError, match=says) as caught:
        check_split_model(factory)
    assert "\n" not in str(caught.value)


class Sequences(nn.Module):
    """[B, T] tokens to [B, T, width], or [B, T, width] to [B, T, V]."""

    def __init__(self, layer: nn.Module, fixed: int = 0) -> None:
        super().__init__()
        self.layer, self.fixed = layer, fixed

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return torch.cat([out, out.new_zeros(len(out), self.fixed - out.shape[1], 7)], 1) if self.fixed else out


def tokens(fixed: int = 0) -> SplitModel:
    return SplitModel(
        front=lambda: nn.Embedding(7, 4),
        auxiliary=lambda: Sequences(nn.Linear(4, 7)),
        back=lambda: Sequences(nn.Linear(4, 7), fixed),
        inputs=(TensorSpec("tokens", (6,), "int64", variable=True, count=7),),
        activations=(TensorSpec("activations", (6, 4), variable=True),),
        task=NextToken(7, 6),
    )


def images(batch_norm: bool = True) -> SplitModel:
    layer = nn.BatchNorm2d if batch_norm else nn.Identity
    return SplitModel(
        front=lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), layer(4), nn.Dropout(0.5)),
        auxiliary=lambda: nn.Conv2d(4, 3, 1),
        back=lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), layer(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1)),
        inputs=(TensorSpec("input", (1, 5, 6)),),
        activations=(TensorSpec("activations", (4, 5, 6)),),
        task=PerPixel(3, 5, 6),
        channels_last=True,
    )


@pytest.mark.parametrize(
    "model",
    [
        tiny.mlp, lambda: tiny.mlp(dropout=0.5), lambda: tiny.conv("batch"), lambda: tiny.conv("group"), tokens, images,
        lambda: replace(tiny.mlp(), task=Regression(3)), lambda: replace(tiny.mlp(), task=MultiLabel(3)),
        lambda: CutModule(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), "1", (5,), 3),
    ],
)  # fmt: skip
def test_models_of_every_task_pass_and_leave_random_state_alone(model: Callable[[], object]) -> None:
    before = random_states()
    report = check_split_model(model)
    assert random_states() == before
    assert "a second build from the same seed has the same bits" in report.passed
    assert str(report).count("\n  ok  ") == len(report.passed)


def test_sequences_that_are_shorter_than_the_longest_are_tried() -> None:
    with pytest.raises(ModelError, match=r"shorter sequences .* are taken, got RuntimeError: Expected target"):
        check_split_model(lambda: tokens(fixed=6))


def test_a_model_is_found_by_its_name_and_gets_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kit_model.py").write_text(
        "from torch import nn\n"
        "from heron_core.models import CutModule\n"
        "def make(width):\n"
        "    return CutModule(lambda: nn.Sequential(nn.Linear(5, width), nn.Linear(width, 3)), '0', (5,), 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kit_model", raising=False)
    assert check_split_model("kit_model:make", options={"width": 4}).subject == "kit_model:make"
    with pytest.raises(ModelError, match=r"^kit_model:make: failed with model\.options = \{\}: TypeError: .*'width'"):
        check_split_model("kit_model:make")
    assert check_split_model("mlp").passed == check_split_model("digits_cnn").passed
