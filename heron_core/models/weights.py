"""Initial weights of the front, from the `model` folder that an earlier run wrote. Both sides start from the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from heron_core.errors import CheckpointError, DataError, ModelError
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

FOLDER_SETTING = "set data.folder in the client's file or server.data_folder in the run file, or $HERON_DATA"


def starting_from(model: SplitModel, built: nn.Module, spec: ModelSpec, data_folder: Path | None) -> SplitModel:
    """`model` whose front begins with the weights that spec.weights names; the other parts begin by the seed.

    Reads them now. `built`: one of the model's fronts. DataError: not there, torn, or of another fingerprint;
    ModelError: they are not this front's.
    """
    folder = weights_folder(spec.weights, data_folder)
    state = _front_of(folder, spec.weights_sha256)

    def front() -> nn.Module:
        made = model.front()
        made.load_state_dict(state)
        return made

    _check_fits(built.state_dict(), state, folder)
    return replace(model, front=front)


def weights_folder(name: str, data_folder: Path | None) -> Path:
    """Where the model folder `name` lies on this side. `data_folder` None: $HERON_DATA. DataError: not there."""
    found = data_folder or (Path(os.environ["HERON_DATA"]) if os.environ.get("HERON_DATA") else None)
    if found is None:
        raise DataError(f"model.weights = {name!r} lies in a data folder and none is named; {FOLDER_SETTING}")
    if not (found / name / "model.safetensors").is_file():
        raise DataError(
            f"model.weights = {name!r}: no model.safetensors in {found / name}; copy the model folder of the run that "
            f"trained it there, on the server and on every client, or {FOLDER_SETTING}"
        )
    return found / name


def weights_fingerprint(name: str, data_folder: Path | None) -> str:
    """That of the weights by this name; whoever starts from them checks that it is theirs. Raises DataError."""
    from heron_core.models.model_folder import described_sha256  # safetensors: not on every client

    try:
        return described_sha256(weights_folder(name, data_folder))
    except CheckpointError as error:
        raise DataError(f"model.weights cannot be used: {error}") from None


def _front_of(folder: Path, wanted_sha256: str) -> dict[str, Tensor]:
    from heron_core.models.model_folder import read_weights

    try:
        state, sha256 = read_weights(folder)
    except CheckpointError as error:
        raise DataError(f"model.weights cannot be used: {error}") from None
    if wanted_sha256 and sha256 != wanted_sha256:
        raise DataError(
            f"model.weights must have the fingerprint {wanted_sha256}, those in {folder} have {sha256}; copy the "
            "folder that the run means there, or change model.weights_sha256"
        )
    prefix = "front."
    return {name[len(prefix) :]: value.clone() for name, value in state.items() if name.startswith(prefix)}


def _check_fits(ours: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    wrong = [
        f"{name} must be {_shape(ours.get(name))}, it is {_shape(state.get(name))}"
        for name in [*ours, *(n for n in state if n not in ours)]
        if _shape(ours.get(name)) != _shape(state.get(name))
    ]
    if wrong:
        raise ModelError(
            f"the weights in {folder} are not this front's: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; give the [model] table of the run that "
            "trained them, or other weights"
        )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
