"""A saved model that takes stored values: the same bits as the model on what the source makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract, StoredInput, as_given, of_pixels
from heron_core.data.experiment import experiment_contract, load_experiment
from heron_core.data.source import Normalisation
from heron_core.data.sources import cifar10
from heron_core.errors import CheckpointError, TensorError
from heron_core.models import build_split_model, load_model, save_model
from heron_core.models.preprocess import Preprocess
from heron_core.spec.data import DataSpec
from heron_core.spec.run_spec import ModelSpec

IMAGE = TensorSpec("input", (1, 8, 8))


def save(folder: Path, contract: InputContract | None) -> Path:
    model = build_split_model(ModelSpec())
    save_model(folder, ModelSpec(), model.build("front", 1), model.build("back", 1), contract=contract)
    return folder


def test_stored_digits_give_the_bits_of_the_inputs_that_the_run_was_trained_on(tmp_path: Path) -> None:
    folder = save(tmp_path, experiment_contract("digits", IMAGE))
    (x,), _ = load_experiment(DataSpec(), 0).test.batch(np.arange(40))
    stored = torch.from_numpy((x * 16).astype(np.uint8))
    model = load_model(folder, preprocess=True)
    assert torch.equal(model(stored), load_model(folder)(torch.from_numpy(x)))
    assert model.state_dict().keys() == load_model(folder).state_dict().keys()


@pytest.mark.parametrize("normalisation", [Normalisation(), Normalisation((0.5,), (0.5,)), cifar10.NORMALISATION])
def test_pixels_become_the_bits_that_the_source_gives(normalisation: Normalisation) -> None:
    x = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3, 4, 4)
    stored = of_pixels(TensorSpec("x", (3, 4, 4)), "npz", normalisation.mean, normalisation.std).inputs[0]
    assert torch.equal(Preprocess(stored)(torch.from_numpy(x)), torch.from_numpy(normalisation.apply(x)))


def test_columns_are_standardised_along_their_axis_and_integers_stay() -> None:
    windows = StoredInput(
        name="x", shape=(4, 2), layout="[B, T, columns]", stored="float32", dtype="float32", mean=(1.0, 2.0),
        std=(3.0, 7.0), axis=2,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(5, 4, 2))
    expected = (x.astype(np.float32) - np.float32([1, 2])) / np.float32([3, 7])
    assert torch.equal(Preprocess(windows)(torch.from_numpy(x)), torch.from_numpy(expected))
    tokens = as_given([TensorSpec("tokens", (6,), "int64", variable=True)]).inputs[0]
    assert torch.equal(Preprocess(tokens)(torch.ones(2, 5, dtype=torch.int16)), torch.ones(2, 5, dtype=torch.int64))


@pytest.mark.parametrize("given", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, 1, dtype=torch.uint8)])
def test_what_is_not_stored_so_is_refused(tmp_path: Path, given: torch.Tensor) -> None:
    model = load_model(save(tmp_path, experiment_contract("digits", IMAGE)), preprocess=True)
    with pytest.raises(TensorError, match=r"input: uint8 \[B, 1, 8, 8\] becomes float32 by input / 16.*; got .* pass"):
        model(given)
    with pytest.raises(TensorError, match=r"takes 1 inputs \(input\), got 2"):
        model(given, given)


def test_a_folder_without_a_contract_or_with_a_wrong_one_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, None)
    with pytest.raises(CheckpointError, match=r"has no input_contract, which says how stored values .* without"):
        load_model(folder, preprocess=True)
    found = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**found, "input_contract": {"source": "x", "inputs": []}}))
    with pytest.raises(CheckpointError, match=r"input_contract in .* is not valid"):
        load_model(folder, preprocess=True)
