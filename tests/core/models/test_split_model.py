"""Seeds, mismatches and trainable names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn

from heron_core.errors import ModelError, TensorError
from heron_core.models import ClientModel, SplitModel, TensorSpec, build_split_model, check_parts
from heron_core.models.tasks.classification import Classification
from heron_core.spec.methods import Part
from heron_core.spec.run_spec import ModelSpec

PARTS: tuple[Part, ...] = ("front", "auxiliary", "back")


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", ["digits_cnn", "mlp"])
def test_a_part_depends_on_its_seed_only_and_not_on_what_was_built_before(name: str) -> None:
    model = build_split_model(ModelSpec(name=name))
    first = {part: model.build(part, 3) for part in PARTS}
    again = {part: model.build(part, 3) for part in reversed(PARTS)}
    assert all(same(first[part], again[part]) for part in PARTS)
    assert not any(same(first[part], model.build(part, 4)) for part in PARTS)


@pytest.mark.parametrize("trainable", ["all", "norm", "last_n_layers", "lora"])
def test_building_leaves_torchs_global_random_state_untouched(trainable: str) -> None:
    before = torch.get_rng_state()
    model = build_split_model(ModelSpec.model_validate({"trainable": trainable}))
    for part in PARTS:
        model.build(part, 0)
    check_parts(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_back_that_does_not_fit_names_both_shapes() -> None:
    model = replace(build_split_model(ModelSpec()), back=lambda: nn.Sequential(nn.Flatten(), nn.Linear(99, 10)))
    with pytest.raises(ModelError, match=r"back does not accept activations \[16, 4, 4\].*2x256 and 99x10"):
        check_parts(model)


def test_a_front_that_breaks_its_promise_names_both_shapes() -> None:
    model = replace(build_split_model(ModelSpec()), activations=(TensorSpec("activations", (16, 8, 8)),))
    with pytest.raises(ModelError, match=r"promises.*\(16, 8, 8\).*gives.*\(16, 4, 4\)"):
        check_parts(model)


def test_a_head_with_other_classes_is_named() -> None:
    with pytest.raises(ModelError, match=r"auxiliary must give \[B, 7\].*gives \[B, 10\]"):
        check_parts(replace(build_split_model(ModelSpec()), task=Classification(7)))


def test_a_front_that_returns_no_tensor_is_named() -> None:
    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": x}

    with pytest.raises(ModelError, match="front must return a tensor or a tuple of tensors, it returned dict"):
        check_parts(replace(build_split_model(ModelSpec()), front=Named))


@pytest.mark.parametrize("part", ["auxiliary", "back"])
@pytest.mark.parametrize(
    "first",
    [nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True), nn.Hardtanh(inplace=True)],
    ids=lambda m: type(m).__name__,
)
def test_a_head_or_back_that_overwrites_its_input_is_named(part: str, first: nn.Module) -> None:
    parts = replace(build_split_model(ModelSpec()), **{part: lambda: nn.Sequential(first, nn.Flatten(), LINEAR)})
    with pytest.raises(ModelError, match=f"{part} overwrites its input activations, .*set inplace=False"):
        check_parts(parts)


def test_layers_in_place_are_welcome_where_they_overwrite_what_is_the_part_s_own() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(256, 10), nn.ReLU(inplace=True))
    check_parts(replace(build_split_model(ModelSpec()), auxiliary=lambda: own))


LINEAR = nn.Linear(256, 10)


@pytest.mark.parametrize("labels", [[0, 10], [-1, 3]])
def test_labels_out_of_range_are_refused(labels: list[int]) -> None:
    with pytest.raises(TensorError, match=r"must lie in 0\.\.9"):
        build_split_model(ModelSpec()).check_labels(torch.tensor(labels))


def client_names(model: SplitModel) -> set[str]:
    client = ClientModel(model.build("front", 0), model.build("auxiliary", 0))
    return {name for name, _ in client.named_parameters() if model.trainable(name)}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_trainable_all_names_every_client_parameter(norm: str) -> None:
    assert client_names(build_split_model(ModelSpec.model_validate({"norm": norm}))) == {
        *(f"front.conv{i}.{rest}" for i in (1, 2) for rest in ("conv.weight", "norm.weight", "norm.bias")),
        "auxiliary.linear.weight",
        "auxiliary.linear.bias",
    }


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_trainable_norm_names_scale_shift_and_the_head(norm: str) -> None:
    spec = ModelSpec.model_validate({"name": "resnet18", "norm": norm, "trainable": "norm"})
    norms = ("stem.norm", "layer1.0.norm1", "layer1.0.norm2")
    assert client_names(build_split_model(spec)) == {
        *(f"front.{norm}.{rest}" for norm in norms for rest in ("weight", "bias")),
        "auxiliary.linear.weight",
        "auxiliary.linear.bias",
    }


def test_trainable_norm_without_normalisation_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a front with normalisation parameters"):
        build_split_model(ModelSpec(name="mlp", trainable="norm"))


class WithBuffers(nn.Module):
    """A learned statistic, a constant that is saved, and a cache that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 6)
        self.register_buffer("statistic", torch.zeros(6))
        self.register_buffer("constant", torch.ones(6))
        self.register_buffer("cache", torch.zeros(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.constant + self.statistic


def test_a_buffer_travels_only_if_it_is_persistent_and_learned() -> None:
    model = replace(tiny.mlp(), front=WithBuffers)
    net = nn.ModuleDict({"front": model.build("front", 0)})
    assert list(model.learned_buffers(net)) == ["front.statistic", "front.constant"]
    chosen = replace(model, learned=lambda name: not name.endswith("constant"))
    assert list(chosen.learned_buffers(net)) == ["front.statistic"]
