"""Which parameters may differ from sample to sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.models import build_split_model
from heron_core.models.adapt.per_sample import per_sample_obstacle
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification
from heron_core.spec.run_spec import ModelSpec

FAMILIES = [("digits_cnn", (1, 8, 8)), ("resnet18", (3, 8, 8)), ("resnet50", (3, 8, 8))]


def family(name: str, shape: tuple[int, ...], **settings: Any) -> SplitModel:
    return build_split_model(ModelSpec.model_validate({"name": name, "input_shape": shape, **settings}))


def of(front: Callable[[], nn.Module], shape: tuple[int, ...], **options: Any) -> SplitModel:
    return SplitModel(
        front=front, auxiliary=nn.Identity, back=nn.Identity, inputs=(TensorSpec("input", shape),),
        activations=(TensorSpec("activations", shape),), task=Classification(2), **options,
    )  # fmt: skip


def obstacle_of(model: SplitModel) -> str | None:
    return per_sample_obstacle(model, model.build("front", 0), 0)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("name", "shape"), FAMILIES)
def test_normalisation_alone_may_differ_and_a_convolution_s_weight_may_not(
    name: str, shape: tuple[int, ...], norm: str
) -> None:
    assert obstacle_of(family(name, shape, norm=norm, trainable="norm")) is None
    first = {"digits_cnn": "front.conv1.conv.weight"}.get(name, "front.stem.conv.weight")
    assert obstacle_of(family(name, shape, norm=norm)) == first


@pytest.mark.parametrize(
    ("trainable", "obstacle"),
    [("bias", None), ("weight", "front.hidden1.linear.weight"), ("", "front.hidden1.linear.weight")],
)
def test_a_linear_layer_s_bias_may_differ(trainable: str, obstacle: str | None) -> None:
    model = family("mlp", (1, 8, 8))
    chosen = of(model.front, (1, 8, 8), trainable=lambda name: name.endswith(trainable))
    assert obstacle_of(chosen) == obstacle


def test_nothing_trainable_is_no_obstacle() -> None:
    assert obstacle_of(of(lambda: nn.Linear(4, 4), (4,), trainable=lambda name: False)) is None


class Functional(nn.Module):
    """Uses its layer's parameters without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, (4,), self.norm.weight, self.norm.bias)


class Folded(nn.Module):
    """Calls its layer with samples and places in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x_BTC: Tensor) -> Tensor:
        folded: Tensor = self.norm(x_BTC.flatten(0, 1))
        return folded.reshape(x_BTC.shape)


class Twice(nn.Module):
    """Two layers with one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other = nn.LayerNorm(4), nn.LayerNorm(4)
        self.other.bias = self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.other(self.norm(x))
        return out


class OwnForward(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("front", "obstacle"),
    [
        (Functional, "front.norm.weight"),
        (Folded, "front.norm.weight"),
        (Twice, "front.norm.bias"),
        (lambda: nn.Sequential(OwnForward(1, 5)), "front.0.weight"),
        (lambda: nn.Sequential(nn.LayerNorm(4), nn.PReLU()), "front.1.weight"),
    ],
)
def test_a_parameter_that_does_not_pass_through_its_layer_s_output_is_named(
    front: Callable[[], nn.Module], obstacle: str
) -> None:
    chosen = of(front, (5, 4), trainable=lambda name: not name.endswith("other.weight"))
    assert obstacle_of(chosen) == obstacle


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    obstacle_of(of(lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), (4,)))
    assert torch.equal(torch.get_rng_state(), before)
