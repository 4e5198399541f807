"""The built-in families against plain functional networks over the same weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models import BUILT_IN, AssembledModel, SplitModel, build_split_model, lean
from heron_core.models.families import resnet, stages
from heron_core.models.registry import CAUSAL_LM
from heron_core.spec.run_spec import ModelSpec
from heron_core.testing import check_split_model

NORMS = ("batch", "group")
RESNET18_CUTS = ("stem", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)), *(f"layer{i}" for i in (1, 2, 3, 4)))
STEMS = {"small": (3, 16, 16), "imagenet": (3, 40, 40)}
Norm = Callable[[str, Tensor], Tensor]


@pytest.fixture
def small_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a batch of five runs in pieces; narrow layers keep the tests quick."""
    monkeypatch.setattr(resnet, "WIDTHS", (8, 16, 32, 64))
    monkeypatch.setattr(lean, "PIECE_BYTES", 1 << 14)
    monkeypatch.setattr(stages, "FEWEST_ROWS", 3)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(model: SplitModel, seed: int = 0) -> AssembledModel:
    return AssembledModel(model.build("front", seed), model.build("back", seed))


def whole_state(model: AssembledModel) -> dict[str, Tensor]:
    return {**model.front.state_dict(), **model.back.state_dict()}


def plain_norm(state: dict[str, Tensor], training: bool) -> Norm:
    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        if f"{name}.running_mean" in state:
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            return F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training)
        return F.group_norm(x, min(32, x.shape[1] // 2), weight, bias)

    return norm


def plain_resnet(state: dict[str, Tensor], x: Tensor, stem: str, training: bool) -> Tensor:
    """He et al. 2015 in functional calls: stride on the 3x3 convolution."""
    norm = plain_norm(state, training)
    x = F.conv2d(x, state["stem.conv.weight"], stride=1 if stem == "small" else 2, padding=1 if stem == "small" else 3)
    x = F.relu(norm("stem.norm", x))
    x = x if stem == "small" else F.max_pool2d(x, 3, 2, 1)
    blocks = sorted(
        {name.split(".conv")[0] for name in state if ".conv1." in name},
        key=lambda n: [int(i) for i in n[5:].split(".")],
    )
    for block in blocks:
        stride = 2 if block.endswith(".0") and block != "layer1.0" else 1
        convs = [i for i in (1, 2, 3) if f"{block}.conv{i}.weight" in state]
        strided = 2 if len(convs) == 3 else 1
        h = x
        for i in convs:
            weight = state[f"{block}.conv{i}.weight"]
            h = F.conv2d(h, weight, stride=stride if i == strided else 1, padding=weight.shape[-1] // 2)
            h = norm(f"{block}.norm{i}", h)
            h = F.relu(h) if i < len(convs) else h
        if f"{block}.shortcut.conv.weight" in state:
            x = norm(f"{block}.shortcut.norm", F.conv2d(x, state[f"{block}.shortcut.conv.weight"], stride=stride))
        x = F.relu(h + x)
    return F.linear(x.mean((2, 3)), state["classifier.fc.weight"], state["classifier.fc.bias"])


def assert_equals_plain_resnet(spec: ModelSpec) -> None:
    model = make(build_split_model(spec))
    x = torch.randn(5, *spec.input_shape, generator=torch.Generator().manual_seed(1))
    for training in (True, False):
        model.train(training)
        expected = plain_resnet(whole_state(model), x, spec.stem, training)
        with torch.inference_mode():
            lean_pass = model(x)
        torch.testing.assert_close(lean_pass, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_and_in_pieces")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cut", RESNET18_CUTS)
def test_resnet18_cut_anywhere_equals_the_uncut_network(cut: str, norm: str) -> None:
    spec = ModelSpec.model_validate({"name": "resnet18", "cut": cut, "norm": norm, "input_shape": (3, 16, 16)})
    assert_equals_plain_resnet(spec)


@pytest.mark.usefixtures("small_and_in_pieces")
@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
@pytest.mark.parametrize("stem", STEMS)
def test_deeper_resnets_equal_the_uncut_network(name: str, stem: str) -> None:
    table = {"name": name, "cut": "layer2.0", "norm": "batch", "stem": stem, "input_shape": STEMS[stem]}
    assert_equals_plain_resnet(ModelSpec.model_validate(table))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cut", ["conv1", "conv2", "conv3"])
def test_digits_cnn_cut_anywhere_equals_the_uncut_network(cut: str, norm: str) -> None:
    model = make(build_split_model(ModelSpec.model_validate({"cut": cut, "norm": norm})))
    state = whole_state(model)
    expected = x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for i in (1, 2, 3):
        expected = F.conv2d(expected, state[f"conv{i}.conv.weight"], padding=1)
        expected = F.relu(plain_norm(state, training=True)(f"conv{i}.norm", expected))
        expected = F.max_pool2d(expected, 2) if i > 1 else expected
    expected = F.linear(expected.flatten(1), state["classifier.linear.weight"], state["classifier.linear.bias"])
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cut", ["conv1", "conv2", "conv3"])
def test_series_cnn_cut_anywhere_equals_the_uncut_network(cut: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "PIECE_BYTES", 1 << 12)
    spec = ModelSpec.model_validate({"name": "series_cnn", "cut": cut, "norm": norm, "input_shape": (2, 27)})
    model = make(build_split_model(spec))
    state = whole_state(model)
    expected = x = torch.rand(6, 2, 27, generator=torch.Generator().manual_seed(0))
    for i in (1, 2, 3):
        expected = F.conv1d(expected, state[f"conv{i}.conv.weight"], padding=2)
        expected = F.max_pool1d(F.relu(plain_norm(state, training=True)(f"conv{i}.norm", expected)), 2)
    expected = F.linear(expected.flatten(1), state["classifier.linear.weight"], state["classifier.linear.bias"])
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut", ["hidden1", "hidden2", "hidden3"])
def test_mlp_cut_anywhere_equals_the_uncut_network(cut: str) -> None:
    model = make(build_split_model(ModelSpec(name="mlp", cut=cut, input_shape=(2, 3))))
    state = whole_state(model)
    expected = x = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = expected.flatten(1)
    for i in (1, 2, 3):
        expected = F.relu(F.linear(expected, state[f"hidden{i}.linear.weight"], state[f"hidden{i}.linear.bias"]))
    expected = F.linear(expected, state["classifier.weight"], state["classifier.bias"])
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_the_papers_front_and_heads_have_the_papers_sizes(norm: str) -> None:
    heads = {"flatten_linear": 655_370, "gap_linear": 650, "conv_gap_linear": 64 * 64 * 9 + 64 + 650}
    for head, size in heads.items():
        model = build_split_model(ModelSpec.model_validate({"name": "resnet18", "norm": norm, "auxiliary": head}))
        assert model.activations[0].shape == (64, 32, 32)
        assert parameters(model.build("front", 0)) == 75_840
        assert parameters(model.build("auxiliary", 0)) == size


@pytest.mark.parametrize(
    ("name", "stem", "classes", "size"),
    [
        ("resnet18", "small", 10, 11_173_962),
        ("resnet18", "imagenet", 1000, 11_689_512),
        ("resnet34", "imagenet", 1000, 21_797_672),
        ("resnet50", "imagenet", 1000, 25_557_032),
    ],
)
def test_whole_resnets_have_the_published_sizes(name: str, stem: str, classes: int, size: int) -> None:
    table = {"name": name, "stem": stem, "classes": classes, "norm": "batch"}
    model = build_split_model(ModelSpec.model_validate(table))
    with torch.device("meta"):
        assert parameters(model.front()) + parameters(model.back()) == size


def test_digits_cnn_is_small_and_its_client_part_smaller() -> None:
    model = build_split_model(ModelSpec())
    sizes = [parameters(model.build(part, 0)) for part in ("front", "auxiliary", "back")]
    assert sizes == [1272, 170, 5962]


CUTS = {
    "resnet18": RESNET18_CUTS,
    "resnet34": ("layer1", "layer3.5"),
    "resnet50": ("layer1", "layer2.0"),
    "digits_cnn": ("conv1", "conv2", "conv3"),
    "cifar_cnn": ("conv1", "conv2", "conv3"),
    "series_cnn": ("conv1", "conv2", "conv3"),
    "mlp": ("hidden1", "hidden2", "hidden3"),
}
"""Of each built-in family; of the deeper ResNets, which share their code with the first, two."""


@pytest.mark.usefixtures("small_and_in_pieces")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name, cuts in CUTS.items() for cut in cuts])
def test_every_family_cut_and_norm_keeps_the_contract_of_a_split_model(name: str, cut: str, norm: str) -> None:
    shape = {"digits_cnn": (1, 8, 8), "mlp": (1, 8, 8), "series_cnn": (3, 21)}.get(name, (3, 15, 17))
    table = {"name": name, "cut": cut, "norm": norm, "input_shape": shape, "classes": 4}
    check_split_model(lambda: build_split_model(ModelSpec.model_validate(table)))


def test_every_built_in_family_is_among_them() -> None:
    assert set(CUTS) | {CAUSAL_LM} == set(BUILT_IN)


@pytest.mark.parametrize("auxiliary", ["gap_linear", "flatten_linear", "conv_gap_linear"])
@pytest.mark.parametrize(
    "table",
    [
        {"name": "digits_cnn"},
        {"name": "digits_cnn", "cut": "conv1", "input_shape": (3, 9, 11), "classes": 4},
        {"name": "mlp", "input_shape": (5, 7), "classes": 3},
        {"name": "mlp", "task": "regression"},
        {"name": "digits_cnn", "task": "multi_label", "classes": 3},
        {"name": "resnet18", "input_shape": (3, 15, 17)},
        {"name": "resnet50", "cut": "layer1", "stem": "imagenet", "input_shape": (3, 33, 47), "norm": "batch"},
    ],
)
def test_every_head_keeps_the_contract_or_is_refused(table: dict[str, object], auxiliary: str) -> None:
    spec = ModelSpec.model_validate({**table, "auxiliary": auxiliary})
    if spec.name == "mlp" and auxiliary == "conv_gap_linear":
        with pytest.raises(ModelError, match=r"needs activations \[C, H, W\], this cut gives \[64\]"):
            build_split_model(spec)
    else:
        check_split_model(lambda: build_split_model(spec))


@pytest.mark.parametrize("trainable", ["norm", "last_n_layers", "lora"])
def test_what_trains_a_part_of_the_front_keeps_the_contract(trainable: str) -> None:
    spec = ModelSpec.model_validate({"name": "digits_cnn", "norm": "batch", "trainable": trainable})
    check_split_model(lambda: build_split_model(spec))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"name": "resnet18", "cut": "layer1.2"}, r"has no 'layer1.2' \(did you mean 'layer1\.\d'"),
        ({"name": "resnet18", "cut": "classifier"}, "has no 'classifier'"),
        ({"name": "digits_cnn", "cut": "conv9"}, "it has conv1, conv2, conv3"),
        ({"name": "digits_cnn", "input_shape": (64,)}, r"needs model.input_shape \[C, H, W\]"),
        ({"name": "series_cnn", "input_shape": (6, 7)}, r"needs model.input_shape \[C, L\] with L of 8 or more, got"),
        ({"name": "resnet18", "input_shape": (64,)}, r"needs model.input_shape \[C, H, W\], got \[64\]"),
        ({"name": "digits_cnn", "options": {"depth": 3}}, "takes none, got 'depth'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_right(table: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build_split_model(ModelSpec.model_validate(table))


def test_model_code_does_not_know_the_memory_format() -> None:
    model = make(build_split_model(ModelSpec(name="resnet18", input_shape=(3, 8, 8)))).eval()
    x = torch.rand(3, 3, 8, 8)
    expected = model(x)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        found = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
