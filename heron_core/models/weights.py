"""Initial weights, from the `model` folder that an earlier run wrote: `model.weights` of the run spec, and `--from`.

The server reads them for each part that model.weights_parts names. A client fetches the client state, so it reads the
folder only for a part of which something does not travel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from heron_core.errors import CheckpointError, DataError, ModelError
from heron_core.models.adapt.lora import is_adapter, merged
from heron_core.models.split_model import SplitModel
from heron_core.spec.methods import Part
from heron_core.spec.run_spec import ModelSpec

FOLDER_SETTING = "set data.folder in the client's file or server.data_folder in the run file, or $HERON_DATA"
PARTS: tuple[Part, ...] = ("front", "auxiliary", "back")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def starting_from(
    model: SplitModel, built: nn.Module, spec: ModelSpec, find: Callable[[], Path], *, fetches: bool = False
) -> SplitModel:
    """`model` whose parts in spec.weights_parts begin with the weights in a folder; the others begin by the seed.

    `built`: one of the model's fronts. `find` gives the folder, or raises DataError. `fetches`: for a client.
    DataError: not there, torn, or of another fingerprint; ModelError: they are not this part's. Both come now for the
    front, and as they are built for the others.
    """

    def begin(part: Part, made: nn.Module) -> nn.Module:
        if not (fetches and _travels(model, part, made)):
            made.load_state_dict(_weights_of(part, made.state_dict(), find(), spec.weights_sha256))
        return made

    def beginning(part: Part) -> Callable[[], nn.Module]:
        return lambda: begin(part, model.make(part))

    if "front" in spec.weights_parts:
        begin("front", built)
    begun: dict[str, Any] = {part: beginning(part) for part in spec.weights_parts}
    return replace(model, **begun)


def as_weights(folder: Path) -> dict[str, Any]:
    """Keys of the [model] table by which a run begins with all parts that this folder holds: weights (its run's id),
    weights_sha256, weights_parts. DataError: it holds no model that can be used."""
    from heron_core.models.model_folder import DESCRIPTION, description_of, read_weights

    try:
        state, sha256 = read_weights(folder)
        run_id = str(description_of(folder / DESCRIPTION).get("extra", {}).get("run_id", ""))
    except CheckpointError as error:
        raise DataError(f"a run cannot begin with {folder}: {error}") from None
    held = tuple(part for part in PARTS if any(name.startswith(f"{part}.") for name in state))
    name = run_id if _NAME.fullmatch(run_id) else f"model-{sha256[:12]}"
    return {"weights": name, "weights_sha256": sha256, "weights_parts": held}


def class_names_of_folder(folder: Path) -> tuple[str, ...]:
    """What the outputs of the model there mean, in their order; empty where nobody knew. CheckpointError: no model."""
    from heron_core.models.model_folder import DESCRIPTION, description_of

    return tuple(map(str, description_of(folder / DESCRIPTION).get("class_names", ())))


def weights_folder(name: str, data_folder: Path | None, itself: Path | None = None) -> Path:
    """Where the model folder `name` lies on this side: `itself`, where this side names it, else in the data folder.

    `data_folder` None: $HERON_DATA. DataError: not there.
    """
    if itself is not None:
        return _there(name, itself)
    found = data_folder or (Path(os.environ["HERON_DATA"]) if os.environ.get("HERON_DATA") else None)
    if found is None:
        raise DataError(f"model.weights = {name!r} lies in a data folder and none is named; {FOLDER_SETTING}")
    return _there(name, found / name)


def _there(name: str, folder: Path) -> Path:
    if not (folder / "model.safetensors").is_file():
        raise DataError(
            f"model.weights = {name!r}: no model.safetensors in {folder}; copy the model folder of the run that "
            f"trained it there, on the server and on every client, or {FOLDER_SETTING}"
        )
    return folder


def weights_fingerprint(name: str, data_folder: Path | None) -> str:
    """That of the weights by this name; whoever starts from them checks that it is theirs. Raises DataError."""
    from heron_core.models.model_folder import described_sha256  # safetensors: not on every client

    try:
        return described_sha256(weights_folder(name, data_folder))
    except CheckpointError as error:
        raise DataError(f"model.weights cannot be used: {error}") from None


def _travels(model: SplitModel, part: Part, built: nn.Module) -> bool:
    """Does a client fetch the whole state of this part, so that it need not know how it begins?"""
    parameters, buffers = dict(built.named_parameters()), dict(built.named_buffers())
    return all(
        (name in parameters and parameters[name].requires_grad and model.trainable(f"{part}.{name}"))
        or (name in buffers and model.learned(f"{part}.{name}"))
        for name in built.state_dict()
    )


def _weights_of(part: Part, ours: Mapping[str, Tensor], folder: Path, wanted_sha256: str) -> dict[str, Tensor]:
    """What the folder has for a part whose state is `ours` until now, such that it can be loaded.

    Adapters in the folder that the part lacks are merged into its layers; those that the folder lacks stay as they are.
    """
    state = _read(folder, wanted_sha256)
    found = {name.removeprefix(f"{part}."): t for name, t in state.items() if name.startswith(f"{part}.")}
    if part == "auxiliary" and not found:
        raise ModelError(f"{folder} holds no auxiliary head; take auxiliary out of model.weights_parts")
    if not any(map(is_adapter, ours)):
        found = merged(found)
    new = {} if any(map(is_adapter, found)) else {name: t for name, t in ours.items() if is_adapter(name)}
    _check_fits(part, {name: t for name, t in ours.items() if name not in new}, found, folder)
    return {**new, **found}


def _read(folder: Path, wanted_sha256: str) -> dict[str, Tensor]:
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
    return state


def _check_fits(part: Part, ours: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    wrong = [
        f"{name} must be {_shape(ours.get(name))}, it is {_shape(state.get(name))}"
        for name in [*ours, *(n for n in state if n not in ours)]
        if _shape(ours.get(name)) != _shape(state.get(name))
    ]
    if wrong:
        raise ModelError(
            f"the weights in {folder} are not this {part}'s: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; give the [model] table of the run that "
            f"trained them, other weights, or leave {part} out of model.weights_parts"
        )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
