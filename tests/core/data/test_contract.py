"""The input contract: what each source says of itself, as text and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pydantic import ValidationError

from heron_core.arrays import Array, TensorSpec
from heron_core.data.contract import AS_GIVEN, InputContract, StoredInput, as_given, contract_of, of_pixels
from heron_core.data.experiment import experiment_contract
from heron_core.data.source import ArraySource
from heron_core.data.sources.own import load_own
from heron_core.labels import LabelSpec
from heron_core.models.preprocess import Preprocess

IMAGE = TensorSpec("x", (3, 4, 4))
COLUMNS: dict[str, Any] = {
    "name": "x", "shape": (2,), "layout": "[B, columns]", "stored": "float32", "dtype": "float32",
    "mean": (1.0, 2.0), "std": (3.0, 4.0), "columns": ("alcohol", "colour=red"),
}  # fmt: skip


def test_each_source_says_how_its_values_become_the_input() -> None:
    said = "x: uint8 [B, 3, 4, 4] becomes float32 by (x / 255 - 0.5) / 0.5, resized"
    assert str(of_pixels(IMAGE, "image_folder", (0.5,), (0.5,), note="resized")) == said
    assert str(experiment_contract("digits", TensorSpec("x", (1, 8, 8)))).startswith(
        "x: uint8 [B, 1, 8, 8] becomes float32 by x / 16"
    )
    assert experiment_contract("cifar10", IMAGE).inputs[0].formula == "(x / 255 - mean) / std"
    tokens = TensorSpec("tokens", (80,), "int64", variable=True, count=9)
    assert str(as_given([tokens])) == f"tokens: int64 [B, up to 80] taken as it is, {AS_GIVEN}"
    assert StoredInput.model_validate(COLUMNS).formula == "(x - mean) / std"


def test_the_innermost_source_is_asked_and_one_that_says_nothing_is_taken_as_it_is() -> None:
    class Around:
        def __init__(self, wraps: object) -> None:
            self.wraps = wraps

    source = tiny.source(tiny.mlp())
    assert contract_of(Around(source), tiny.mlp().inputs) == as_given(tiny.mlp().inputs)
    pixels = ArraySource(np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int64))
    pixels.contract = of_pixels(IMAGE, "npz")
    assert contract_of(Around(Around(pixels)), [IMAGE]) is pixels.contract


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((4, 3, 4, 4), 7, np.uint8), "input: uint8 [B, 3, 4, 4] becomes float32 by (input / 255 - 0.5) / 0.5"),
        (np.zeros((4, 3, 4, 4)), "input: float32 [B, 3, 4, 4] taken as it is"),
    ],
)
def test_an_npz_says_what_became_of_its_values(tmp_path: Path, x: Array, said: str) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4))
    inputs, labels = (TensorSpec("input", (3, 4, 4)),), LabelSpec(count=4)
    source = load_own("npz", path=tmp_path / "a.npz", options={}, inputs=inputs, labels=labels)
    found = contract_of(source, inputs, "npz")
    assert (str(found), found.source) == (said, "npz")
    (given,), _ = source.batch(np.arange(4))
    assert torch.equal(Preprocess(found.inputs[0])(torch.from_numpy(x)), torch.from_numpy(given))


def test_it_is_the_same_after_json() -> None:
    for contract in (
        experiment_contract("cifar10", IMAGE),
        as_given([TensorSpec("a", (2,)), TensorSpec("b", (), "bool")]),
        InputContract(source="csv", inputs=(StoredInput.model_validate(COLUMNS),)),
    ):
        assert InputContract.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mean": (1.0, 2.0, 3.0)}, "mean must have 2 entries, as axis 1 has places, got 3"),
        ({"columns": ("alcohol",)}, "columns must have 2 entries"),
        ({"axis": 2}, "mean must have 0 entries"),
        ({"std": (3.0, 0.0)}, "greater than 0"),
        ({"mean": (float("nan"), 0.0)}, "finite"),
        ({"dtype": "int64"}, "only what the model takes as float32 is scaled, x is int64"),
        ({"dtype": "complex64"}, "pattern"),
    ],
)
def test_one_that_contradicts_itself_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StoredInput.model_validate({**COLUMNS, **wrong})
