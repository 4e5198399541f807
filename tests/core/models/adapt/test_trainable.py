"""Which client parameters move, adapters of low rank, and initial weights from an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heron_core.errors import DataError, ModelError
from heron_core.models import SplitModel, build_split_model, check_parts, load_model, save_model
from heron_core.models.adapt.lora import AdaptedConv2d, AdaptedLinear
from heron_core.spec.run_spec import ModelSpec


def build(folder: Path | None = None, **table: Any) -> SplitModel:
    return build_split_model(ModelSpec.model_validate(table), data_folder=folder)


def moving(model: SplitModel) -> list[str]:
    return [name for name, _ in model.build("front", 0).named_parameters() if model.trainable(f"front.{name}")]


def saved(folder: Path, seed: int = 5, **table: Any) -> dict[str, nn.Module]:
    model = build(**table)
    parts = {part: model.build(part, seed) for part in ("front", "back", "auxiliary")}  # type: ignore[arg-type]
    save_model(folder, ModelSpec.model_validate(table), **parts)
    return parts


def fingerprint(folder: Path) -> str:
    return str(json.loads((folder / "model.json").read_text())["state_sha256"])


# -- the last layers ---------------------------------------------------------------------------------------------


def test_last_n_layers_are_the_front_s_last_modules_with_parameters_of_their_own() -> None:
    assert moving(build(trainable="last_n_layers")) == ["conv2.norm.weight", "conv2.norm.bias"]
    two = ["conv2.conv.weight", "conv2.norm.weight", "conv2.norm.bias"]
    assert moving(build(trainable="last_n_layers", last_layers=2)) == two
    assert moving(build(trainable="last_n_layers", last_layers=4)) == moving(build())


def test_more_last_layers_than_there_are_are_refused_with_their_names() -> None:
    with pytest.raises(ModelError, match=r"last_layers = 5, but the front has 4 layers .*conv1\.conv, conv1\.norm"):
        build(trainable="last_n_layers", last_layers=5)


@pytest.mark.parametrize("trainable", ["all", "norm", "last_n_layers", "lora"])
def test_head_and_back_move_whatever_the_front_does(trainable: str) -> None:
    model = build(trainable=trainable)
    assert model.trainable("auxiliary.linear.weight") and model.trainable("back.classifier.linear.weight")


# -- adapters ----------------------------------------------------------------------------------------------------


def test_adapters_keep_every_name_start_as_no_change_and_move_alone() -> None:
    plain, model = build(), build(trainable="lora", lora_rank=2)
    front, before = model.build("front", 3), plain.build("front", 3)
    assert before.state_dict().keys() < front.state_dict().keys()
    assert all(torch.equal(front.state_dict()[name], value) for name, value in before.state_dict().items())
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(front(x), before(x))
    assert moving(model) == [f"conv{i}.conv.lora_{ab}" for i in (1, 2) for ab in "ab"]
    shapes = {name: list(p.shape) for name, p in front.named_parameters() if "lora" in name}
    assert shapes["conv2.conv.lora_a"] == [2, 72] and shapes["conv2.conv.lora_b"] == [16, 2]
    check_parts(model)


def test_an_adapted_convolution_computes_with_w_plus_b_a() -> None:
    front = build(trainable="lora", lora_rank=3).build("front", 0)
    conv = front.get_submodule("conv2.conv")
    assert isinstance(conv, AdaptedConv2d)
    nn.init.normal_(conv.lora_b)
    weight = conv.weight + (conv.lora_b @ conv.lora_a).reshape(16, 8, 3, 3)
    x = torch.rand(2, 8, 8, 8)
    assert torch.equal(conv(x), nn.functional.conv2d(x, weight, None, padding=1))


def test_an_adapted_linear_layer_computes_with_w_plus_b_a_and_its_bias() -> None:
    linear = build(name="mlp", trainable="lora").build("front", 0).get_submodule("hidden1.linear")
    assert isinstance(linear, AdaptedLinear)
    nn.init.normal_(linear.lora_b)
    x = torch.rand(2, 64)
    expected = nn.functional.linear(x, linear.weight + linear.lora_b @ linear.lora_a, linear.bias)
    assert torch.equal(linear(x), expected)


def test_adapters_come_from_the_part_s_own_stream() -> None:
    model = build(trainable="lora")
    first, again, other = (model.build("front", seed).state_dict()["conv1.conv.lora_a"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_model_with_adapters_survives_saving_and_loading(tmp_path: Path) -> None:
    parts = saved(tmp_path, trainable="lora", lora_rank=2)
    nn.init.normal_(parts["front"].get_parameter("conv1.conv.lora_b"))
    save_model(tmp_path, ModelSpec(trainable="lora", lora_rank=2), **parts)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(load_model(tmp_path)(x), parts["back"].eval()(parts["front"].eval()(x)))


def test_a_front_that_takes_no_adapters_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from torch import nn\nfrom heron_core.models import SplitModel, TensorSpec\n"
        "from heron_core.models.tasks.classification import Classification\n"
        "def flat():\n    four = TensorSpec('x', (4,))\n"
        "    return SplitModel(nn.Flatten, lambda: nn.Linear(4, 3), lambda: nn.Linear(4, 3), "
        "(four,), (four,), Classification(3))\n"
    )
    (tmp_path / "flat_front.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"needs a front with nn\.Conv2d or nn\.Linear"):
        build(name="flat_front:flat", trainable="lora")


# -- initial weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_front_begins_with_the_weights_of_an_earlier_run_and_the_rest_by_the_seed(
    tmp_path: Path, norm: str
) -> None:
    parts = saved(tmp_path / "before" / "model", norm=norm)
    model = build(tmp_path, norm=norm, weights="before/model", weights_sha256=fingerprint(tmp_path / "before/model"))
    for name, value in parts["front"].state_dict().items():
        assert torch.equal(model.build("front", 0).state_dict()[name], value), name
    plain = build(norm=norm)
    for part in ("auxiliary", "back"):
        ours, theirs = model.build(part, 0).state_dict(), plain.build(part, 0).state_dict()  # type: ignore[arg-type]
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_adapters_go_beside_the_weights_of_an_earlier_run(tmp_path: Path) -> None:
    parts = saved(tmp_path / "m")
    front = build(tmp_path, weights="m", trainable="lora").build("front", 0)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(front(x), parts["front"](x))


def test_the_folder_is_also_found_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "m")
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    build(weights="m")
    monkeypatch.delenv("HERON_DATA")
    with pytest.raises(DataError, match=r"a data folder and none is named; set data\.folder"):
        build(weights="m")


def test_missing_weights_say_what_to_copy_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model\.safetensors in .*m; copy the model folder .* on every client"):
        build(tmp_path, weights="m")


def test_weights_of_another_fingerprint_are_refused_with_both(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    with pytest.raises(DataError, match=rf"fingerprint {'0' * 64}, those in .*m have {fingerprint(tmp_path / 'm')}"):
        build(tmp_path, weights="m", weights_sha256="0" * 64)


def test_torn_weights_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"model\.weights cannot be used: .*torn"):
        build(tmp_path, weights="m")


def test_weights_of_another_front_are_refused_with_both_shapes(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    with pytest.raises(ModelError, match=r"conv1\.conv\.weight must be float32 \[8, 3, 3, 3\], it is .*\[8, 1, 3, 3\]"):
        build(tmp_path, weights="m", input_shape=(3, 8, 8))
    with pytest.raises(ModelError, match=r"conv3\.conv\.weight must be .*, it is absent"):
        build(tmp_path, weights="m", cut="conv3")


@pytest.mark.parametrize("name", ["../m", "/etc", "a/../b", "a//b", "..", "a/.hidden"])
def test_a_path_out_of_the_data_folder_is_no_name_of_weights(name: str) -> None:
    with pytest.raises(ValueError, match="weights"):
        ModelSpec(weights=name)


def test_a_model_that_began_with_weights_can_be_loaded_without_them(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    spec = ModelSpec(weights="m")
    model = build_split_model(spec, data_folder=tmp_path)
    parts = {part: model.build(part, 0) for part in ("front", "back", "auxiliary")}  # type: ignore[arg-type]
    save_model(tmp_path / "later", spec, **parts)
    load_model(tmp_path / "later")
