"""A model that begins with the parts of an earlier one: which parts, and who must read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heron_core.errors import DataError, ModelError
from heron_core.models import SplitModel, build_split_model, save_model
from heron_core.models.weights import as_weights
from heron_core.spec.methods import Part
from heron_core.spec.run_spec import ModelSpec

PARTS: tuple[Part, ...] = ("front", "auxiliary", "back")
X = torch.rand(2, 1, 8, 8)


def build(folder: Path, *, fetches: bool = False, **table: Any) -> SplitModel:
    return build_split_model(ModelSpec.model_validate(table), weights_folder=folder, fetches=fetches)


def saved(folder: Path, head: bool = True, **table: Any) -> dict[Part, nn.Module]:
    spec = ModelSpec.model_validate(table)
    model = build_split_model(spec)
    parts = {part: model.build(part, 5) for part in PARTS}
    for parameter in parts["front"].parameters():
        nn.init.normal_(parameter.data, std=0.1)  # adapters too, so that they do something
    extra = {"run_id": "earlier-0a1b2c3d"}
    save_model(folder, spec, parts["front"], parts["back"], parts["auxiliary"] if head else None, extra)
    return parts


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_all_parts_begin_with_those_of_the_folder(tmp_path: Path, norm: str) -> None:
    parts = saved(tmp_path, norm=norm)
    model = build(tmp_path, norm=norm, **as_weights(tmp_path))
    assert all(same(model.build(part, 0), parts[part]) for part in PARTS)


def test_parts_that_are_not_named_begin_by_the_seed(tmp_path: Path) -> None:
    parts = saved(tmp_path)
    model, plain = build(tmp_path, weights="m", weights_parts=["back"]), build(tmp_path)
    assert same(model.build("back", 0), parts["back"])
    assert all(same(model.build(part, 0), plain.build(part, 0)) for part in ("front", "auxiliary"))


def test_a_folder_says_its_name_its_fingerprint_and_the_parts_that_it_holds(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    saved(tmp_path / "b", head=False)
    sha256 = json.loads((tmp_path / "a" / "model.json").read_text())["state_sha256"]
    assert as_weights(tmp_path / "a") == {
        "weights": "earlier-0a1b2c3d", "weights_sha256": sha256, "weights_parts": ("front", "auxiliary", "back")
    }  # fmt: skip
    assert as_weights(tmp_path / "b")["weights_parts"] == ("front", "back")


def test_no_folder_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot begin with .*nothing: no model here: .*pass the model/ folder"):
        as_weights(tmp_path / "nothing")


def test_a_client_that_fetches_all_that_it_needs_reads_no_folder(tmp_path: Path) -> None:
    model = build(tmp_path / "nothing", fetches=True, weights="m", weights_parts=PARTS)
    assert same(model.build("front", 0), build(tmp_path).build("front", 0))


@pytest.mark.parametrize("trainable", ["norm", "last_n_layers", "lora"])
def test_a_client_reads_the_folder_where_a_part_of_its_front_does_not_travel(tmp_path: Path, trainable: str) -> None:
    parts = saved(tmp_path / "m")
    table = {"weights": "m", "trainable": trainable}
    front = build(tmp_path / "m", fetches=True, **table).build("front", 0)
    assert torch.equal(front(X), parts["front"](X))
    with pytest.raises(DataError, match=r"no model\.safetensors in .*nothing; copy the model folder"):
        build(tmp_path / "nothing", fetches=True, **table)


def test_a_head_that_the_folder_lacks_or_another_back_is_named(tmp_path: Path) -> None:
    saved(tmp_path, head=False)
    model = build(tmp_path, weights="m", weights_parts=PARTS, classes=7)
    with pytest.raises(ModelError, match=r"holds no auxiliary head; take auxiliary out of model\.weights_parts"):
        model.build("auxiliary", 0)
    with pytest.raises(ModelError, match=r"are not this back's: .*classifier\.linear\.weight must be float32 \[7"):
        model.build("back", 0)


def test_weights_with_adapters_go_into_a_front_with_them_as_they_are_and_into_another_merged(tmp_path: Path) -> None:
    parts = saved(tmp_path, trainable="lora")
    begun = as_weights(tmp_path)
    assert same(build(tmp_path, **begun, trainable="lora").build("front", 0), parts["front"])
    plain = build(tmp_path, **begun).build("front", 0)
    assert not [name for name in plain.state_dict() if "lora" in name]
    torch.testing.assert_close(plain(X), parts["front"](X))
