"""A saved model in files that need no Heron: the weights under the user's own names, or a program of torch.export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from heron_core.arrays import TensorSpec
from heron_core.errors import CheckpointError, ConfigError, ModelError
from heron_core.files import replace_file
from heron_core.models.adapt.lora import merged
from heron_core.models.model_folder import DESCRIPTION, WEIGHTS, description_of, network_of, weights_of
from heron_core.models.saved import described_split_model, write_tensors
from heron_core.models.split_model import AssembledModel, SplitModel

FILES: Mapping[str, str] = {
    "module-state": "module.pt", "safetensors": "module.safetensors", "torch-export": "module.pt2",
}  # fmt: skip
"""Formats, and what each is called in the model's folder, where nobody names a file."""


def export_model(
    folder: Path, format_: str, out: Path | None = None, *, allow_model_code: bool = False, averaged: bool = True
) -> Path:
    """Writes the model in `folder` as one file, whole or not at all, and returns its path.

    module-state is torch.save of a state dict, safetensors the same without pickle, torch-export a program. Only the
    last needs the user's own code. `averaged`: as in `load_model`. CheckpointError: no model; ModelError: the code is
    not allowed, or cannot be exported; ConfigError: `out` cannot be written.
    """
    state = own_state(folder, averaged=averaged)
    path = folder / FILES[format_] if out is None else out
    write: Callable[[Path], object] = partial(write_tensors, state)
    if format_ == "torch-export":
        write = partial(torch.export.save, _program(folder, state, allow_model_code))
    elif format_ == "module-state":
        write = partial(_write_state, state)
    try:
        replace_file(path, write)
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError where a file cannot be opened
        raise ConfigError(f"{path} cannot be written: {error}; name another with --out") from None
    return path


def how_to_load(path: Path, format_: str) -> str:
    """Python, for whoever has the file."""
    load = {
        "module-state": f"module.load_state_dict(torch.load({str(path)!r}, weights_only=True))",
        "safetensors": f"module.load_state_dict(safetensors.torch.load_file({str(path)!r}))",
        "torch-export": f"outputs = torch.export.load({str(path)!r}).module()(*inputs)",
    }
    return f"{path}\n  {load[format_]}"


def own_state(folder: Path, *, averaged: bool = True) -> dict[str, Tensor]:
    """The state of front and back under the names of the user's own network where they were cut from one, else as
    `front.*` and `back.*`. Adapters are merged. CheckpointError: no model, or a torn one."""
    description = description_of(folder / DESCRIPTION)
    state = weights_of(folder / WEIGHTS, str(description.get("state_sha256")))
    whole = merged(network_of(state, averaged=averaged))
    if description.get("own_names") is not True:
        return whole
    return {name.partition(".")[2]: tensor for name, tensor in whole.items()}


def _write_state(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def _program(folder: Path, state: Mapping[str, Tensor], allow_model_code: bool) -> torch.export.ExportedProgram:
    split = described_split_model(folder, allow_model_code=allow_model_code, adapters=False)
    module = _module(split, state, folder)
    batch = tuple(torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in split.inputs)
    sizes: Any = tuple(_sizes(spec) for spec in split.inputs)
    shapes = (sizes,) if isinstance(module, AssembledModel) else sizes
    try:
        with torch.enable_grad():  # without, layers run in pieces of a batch, and a program would hold their number
            return torch.export.export(module, batch, dynamic_shapes=shapes)
    except Exception as error:  # whatever a user's forward does to the tracer
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"torch.export cannot trace {type(module).__name__} ({type(error).__name__}: {reason}); "
            "take --format module-state, and export the module that loads it yourself"
        ) from error


def _module(split: SplitModel, state: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """In evaluation mode, with these weights. What the user's network never uses is not among them."""
    module = AssembledModel(split.build("front", 0), split.build("back", 0)) if split.whole is None else split.whole()
    try:
        unexpected = module.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {folder} do not fit the model it describes: {error}") from None
    if unexpected:
        raise CheckpointError(
            f"{folder} has weights that its model lacks: {', '.join(unexpected[:3])}; its code has changed"
        )
    return module.eval()


def _sizes(spec: TensorSpec) -> dict[int, object]:
    """The axes that vary from call to call."""
    return {0: Dim("batch", min=1), **({1: Dim.AUTO} if spec.variable else {})}
