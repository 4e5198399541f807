"""The final model on disk: model.safetensors and model.json, no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract
from heron_core.errors import CheckpointError, ModelError
from heron_core.files import replace_file
from heron_core.json_text import to_json
from heron_core.models.model_folder import (
    DESCRIPTION,
    FORMAT,
    WEIGHTS,
    description_of,
    network_of,
    tensors_sha256,
    weights_of,
)
from heron_core.models.preprocess import PreprocessedModel
from heron_core.models.registry import BUILT_IN, build_split_model
from heron_core.models.split_model import AssembledModel, SplitModel
from heron_core.spec.run_spec import ModelSpec

HOW_TO_LOAD = "from heron_core import load_model; model = load_model('this folder'); outputs = model(*inputs)"


def save_model(
    folder: Path | str,
    spec: ModelSpec,
    front: nn.Module,
    back: nn.Module,
    auxiliary: nn.Module | None = None,
    extra: Mapping[str, Any] | None = None,
    *,
    task: str = "",
    inputs: Sequence[TensorSpec] = (),
    contract: InputContract | None = None,
    class_names: Sequence[str] = (),
    own_names: bool = False,
    trained_back: nn.Module | None = None,
) -> None:
    """Writes the parts and what rebuilds them; `extra` goes into model.json as it is, NaN as null.

    `task` and `inputs` tell a reader of model.json what the model is for and what it is called with, `contract` how
    stored values become that, `class_names` what labels 0, 1, ... are called, where that is known; `own_names`: front
    and back have the names of one network of the user's; `trained_back`: `back` is an average of this one, which is
    saved beside it. Each file is complete or absent. OSError if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"front": front, "back": back, "auxiliary": auxiliary, "trained_back": trained_back}
    state = _state({name: part for name, part in parts.items() if part is not None})
    description = {
        "format": FORMAT,
        "load": HOW_TO_LOAD,
        "model": spec.model_dump(mode="json"),
        "task": task,
        "inputs": [asdict(given) for given in inputs],
        "input_contract": contract.model_dump(mode="json") if contract else None,
        "class_names": list(class_names),
        "own_names": own_names,
        "averaged_back": trained_back is not None,
        "state_sha256": tensors_sha256(state),
        "extra": dict(extra or {}),
    }
    replace_file(folder / WEIGHTS, lambda path: write_tensors(state, path))
    replace_file(folder / DESCRIPTION, lambda path: path.write_text(to_json(description, indent=2) + "\n"))


def load_model(
    path: Path | str, *, allow_model_code: bool = False, preprocess: bool = False, averaged: bool = True,
    data_folder: Path | str | None = None,
) -> AssembledModel:  # fmt: skip
    """The whole network, front then back, in eval mode, from the folder that `save_model` wrote.

    `allow_model_code`: import the user's factory that the folder names. `preprocess`: the model takes values as the
    data source stores them (uint8 images), by the input contract in model.json. `averaged`: with the averaged back,
    where model.json says averaged_back; False: with the back as it was trained. `data_folder`: where the model.base of
    a pretrained model lies, of which the folder holds adapters alone; None: $HERON_DATA. CheckpointError: a file is
    missing, torn or of another version, or says no contract; ModelError: the model it describes cannot be built here;
    DataError: its model.base is not there.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    description = description_of(folder / DESCRIPTION)
    split = described_split_model(
        folder, allow_model_code=allow_model_code, data_folder=None if data_folder is None else Path(data_folder)
    )
    state = weights_of(folder / WEIGHTS, str(description.get("state_sha256")))
    parts = split.build("front", 0), split.build("back", 0)
    model = PreprocessedModel(*parts, contract_in(description, folder)) if preprocess else AssembledModel(*parts)
    _fill(model, network_of(state, averaged=averaged), folder)
    return model.eval()


def described_split_model(
    folder: Path, *, allow_model_code: bool, adapters: bool = True, data_folder: Path | None = None
) -> SplitModel:
    """The split model that model.json describes, by the seed, with or without its adapters. Raises as `load_model`."""
    spec = _spec(description_of(folder / DESCRIPTION), folder)
    if spec.name not in BUILT_IN and not allow_model_code:
        raise ModelError(
            f"{folder} needs the model code {spec.name!r}; if you trust it, say so: load_model(..., "
            "allow_model_code=True), or export --allow-model-code"
        )
    bare = spec.model_copy(update={"weights": "", **({} if adapters else {"trainable": "all"})})
    return build_split_model(bare, data_folder=data_folder)


def write_tensors(state: dict[str, Tensor], path: Path) -> None:
    """A safetensors file; raises OSError."""
    try:
        save_file(state, path)
    except SafetensorError as error:  # what it makes of a disk that will not take the file
        raise OSError(str(error)) from None


def _state(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Copies, because views of one flat buffer cannot be stored as they are."""
    return {
        f"{part}.{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def _spec(description: Mapping[str, Any], folder: Path) -> ModelSpec:
    try:
        return ModelSpec.model_validate(description.get("model"))
    except ValidationError as error:
        raise CheckpointError(f"the model table in {folder / DESCRIPTION} is not valid: {error}") from None


def contract_in(description: Mapping[str, Any], folder: Path) -> InputContract:
    """The input contract of this model.json. Raises CheckpointError where it says none, or one that is not valid."""
    if description.get("input_contract") is None:
        raise CheckpointError(
            f"{folder / DESCRIPTION} has no input_contract, which says how stored values become the inputs; load it "
            "without preprocess, and hand over inputs as the model takes them"
        )
    try:
        return InputContract.model_validate(description["input_contract"])
    except ValidationError as error:
        raise CheckpointError(f"the input_contract in {folder / DESCRIPTION} is not valid: {error}") from None


def _fill(model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {folder} do not fit the model it describes: {error}") from None
