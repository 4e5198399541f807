"""The final model on disk, and its fingerprint."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.errors import CheckpointError, ModelError
from heron_core.models import build_split_model, load_model, save_model, state_sha256
from heron_core.spec.run_spec import ModelSpec


def save(folder: Path, spec: ModelSpec, **extra: object) -> dict[str, nn.Module]:
    model = build_split_model(spec)
    parts = {"front": model.build("front", 1), "back": model.build("back", 1), "auxiliary": model.build("auxiliary", 1)}
    save_model(folder, spec, parts["front"], parts["back"], parts["auxiliary"], extra)
    return parts


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", ModelSpec(norm="batch"), accuracy=0.9)
    return tmp_path / "model"


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_loaded_model_gives_the_same_bits_in_eval_mode(tmp_path: Path, norm: str) -> None:
    spec = ModelSpec.model_validate({"norm": norm})
    parts = save(tmp_path, spec)
    x = torch.rand(7, 1, 8, 8)
    expected = parts["back"].eval()(parts["front"].eval()(x))
    for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path / "model.json")):
        model = load_model(path)
        assert not any(module.training for module in model.modules())
        assert torch.equal(model(x), expected)


def test_views_of_one_flat_buffer_and_other_layouts_are_saved_by_value(tmp_path: Path) -> None:
    split = build_split_model(ModelSpec())
    front, back, head = (split.build(part, 1) for part in ("front", "back", "auxiliary"))
    flat = torch.rand(sum(p.numel() for p in front.parameters()))
    start = 0
    for parameter in front.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    back.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_model(tmp_path, ModelSpec(), front, back, head)
    loaded = load_model(tmp_path).state_dict()
    for name, value in {**front.state_dict(prefix="front."), **back.state_dict(prefix="back.")}.items():
        assert torch.equal(loaded[name], value), name


def test_the_description_is_json_with_nan_as_null_and_how_to_load(tmp_path: Path) -> None:
    save(tmp_path, ModelSpec(), loss=math.nan, history=[{"accuracy": math.inf}, 0.5])
    found = json.loads((tmp_path / "model.json").read_text())
    assert found["extra"] == {"loss": None, "history": [{"accuracy": None}, 0.5]}
    assert "load_model(" in found["load"] and found["format"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_the_description_says_what_the_model_is_for_and_what_it_is_called_with(tmp_path: Path) -> None:
    split, tokens = build_split_model(ModelSpec()), TensorSpec("tokens", (80,), "int64", variable=True, count=49)
    front, back = split.build("front", 1), split.build("back", 1)
    save_model(tmp_path, ModelSpec(), front, back, task="next_token", inputs=[tokens])
    found = json.loads((tmp_path / "model.json").read_text())
    assert found["task"] == "next_token"
    assert found["inputs"] == [{"name": "tokens", "shape": [80], "dtype": "int64", "variable": True, "count": 49}]


def test_no_folder_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read.*pass the model/ folder"):
        load_model(tmp_path / "nothing")


def test_missing_weights_are_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_model(saved)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_torn_weights_are_refused(saved: Path, keep: int) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is torn"):
        load_model(saved)


def test_one_flipped_bit_is_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"has SHA-256 .* model\.json says"):
        load_model(saved)


def test_a_torn_description_is_refused(saved: Path) -> None:
    description = saved / "model.json"
    description.write_text(description.read_text()[:50])
    with pytest.raises(CheckpointError, match="torn or not JSON"):
        load_model(saved)


def test_another_format_names_both_versions(saved: Path) -> None:
    rewrite(saved, format=2)
    with pytest.raises(CheckpointError, match="has format 2, this Heron reads 1"):
        load_model(saved)


def test_a_description_of_another_model_is_refused(saved: Path) -> None:
    rewrite(saved, model={"name": "digits_cnn", "norm": "group"})
    with pytest.raises(CheckpointError, match="do not fit the model it describes"):
        load_model(saved)
    rewrite(saved, model={"nane": "digits_cnn"})
    with pytest.raises(CheckpointError, match=r"model table in .* is not valid"):
        load_model(saved)


def rewrite(folder: Path, **changes: object) -> None:
    description = folder / "model.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), **changes}))


def test_a_users_model_is_imported_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from heron_core.models import build_split_model as b\nfrom heron_core.spec.run_spec import ModelSpec\n"
    (tmp_path / "saved_own.py").write_text(f"{code}def make():\n    return b(ModelSpec(name='mlp'))\n")
    monkeypatch.syspath_prepend(tmp_path)
    save(tmp_path / "model", ModelSpec(name="saved_own:make"))
    monkeypatch.delitem(sys.modules, "saved_own")
    with pytest.raises(ModelError, match="allow_model_code=True"):
        load_model(tmp_path / "model")
    assert "saved_own" not in sys.modules
    load_model(tmp_path / "model", allow_model_code=True)


ARRAYS = {"b": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.array(3, dtype="<i8"), "c": np.empty((0, 4), "<f8")}


@given(order=st.permutations(sorted(ARRAYS)))
def test_the_digest_ignores_order_layout_and_byte_order(order: list[str]) -> None:
    state = {name: ARRAYS[name] for name in order}
    swapped = {name: np.array(array, dtype=array.dtype.newbyteorder(">"), order="F") for name, array in state.items()}
    assert state_sha256(state) == state_sha256(ARRAYS) == state_sha256(swapped)


def test_the_digest_is_this_one_for_ever() -> None:
    assert state_sha256(ARRAYS) == "1a5e535775c0286ac78f03778ce0d416de32411f1dd3080bdc76dbf1c9bbf147"


@pytest.mark.parametrize(
    "change",
    [
        {"b": np.arange(6, dtype="<f4").reshape(3, 2)},
        {"b": np.arange(6, dtype="<i4").reshape(2, 3)},
        {"a": np.array([3], dtype="<i8")},
        {"a": np.array(-3, dtype="<i8")},
        {"d": np.array(0)},
    ],
)
def test_the_digest_sees_names_types_shapes_and_values(change: dict[str, np.ndarray]) -> None:
    assert state_sha256({**ARRAYS, **change}) != state_sha256(ARRAYS)


def test_an_averaged_back_is_what_is_loaded_and_the_trained_one_where_asked_for(tmp_path: Path) -> None:
    model = build_split_model(ModelSpec())
    front, average, back = model.build("front", 1), model.build("back", 2), model.build("back", 3)
    save_model(tmp_path / "both", ModelSpec(), front, average, trained_back=back)
    save_model(tmp_path / "one", ModelSpec(), front, back)
    x = torch.rand(3, 1, 8, 8)
    z = front.eval()(x)
    assert torch.equal(load_model(tmp_path / "both")(x), average.eval()(z))
    assert torch.equal(load_model(tmp_path / "both", averaged=False)(x), back.eval()(z))
    assert torch.equal(load_model(tmp_path / "one")(x), back(z))
    assert torch.equal(load_model(tmp_path / "one", averaged=False)(x), back(z))
    for folder, averaged in (("both", True), ("one", False)):
        assert json.loads((tmp_path / folder / "model.json").read_text())["averaged_back"] is averaged
