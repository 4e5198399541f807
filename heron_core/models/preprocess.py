"""A saved model that takes stored values: what the run's data source did to them is done here, to the same bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract, StoredInput
from heron_core.errors import TensorError
from heron_core.models.split_model import AssembledModel


class PreprocessedModel(AssembledModel):
    """The model, called with stored values as its `contract` names them: uint8 images, or columns before scaling."""

    def __init__(self, front: nn.Module, back: nn.Module, contract: InputContract) -> None:
        super().__init__(front, back)
        self.contract = contract
        self.preprocess = nn.ModuleList(Preprocess(stored) for stored in contract.inputs)

    def forward(self, *stored: Tensor) -> Tensor:
        """The task's outputs for a batch of stored values, one argument for each input. Raises TensorError."""
        if len(stored) != len(self.preprocess):
            names = ", ".join(given.name for given in self.contract.inputs)
            raise TensorError(f"the model takes {len(self.preprocess)} inputs ({names}), got {len(stored)}; pass them")
        return super().forward(*(step(x) for step, x in zip(self.preprocess, stored, strict=True)))


class Preprocess(nn.Module):
    """Stored values of one input to what the model takes. Its numbers move with the model, and are never saved."""

    mean: Tensor
    std: Tensor
    divide: Tensor

    def __init__(self, stored: StoredInput) -> None:
        super().__init__()
        self.stored = stored
        along = (-1,) + (1,) * (len(stored.shape) - stored.axis)
        for name in ("divide", "mean", "std"):
            given = getattr(stored, name)
            numbers = torch.tensor((given,) if isinstance(given, float) else given, dtype=torch.float32)
            # tensors, because dividing by a Python number multiplies by its inverse on some devices: other bits
            self.register_buffer(name, numbers.view(along) if len(numbers) > 1 else numbers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(x / divide - mean) / std; raises TensorError for another dtype or shape than stored values have."""
        self._check(x)
        if self.stored.is_plain:
            return x.to(getattr(torch, self.stored.dtype))
        x = x.to(torch.float32)
        if self.stored.divide != 1.0:
            x = x / self.divide
        if self.stored.mean:
            x = x - self.mean
        return x / self.std if self.stored.std else x

    def _check(self, x: Tensor) -> None:
        stored = self.stored
        integers = not x.dtype.is_floating_point and not x.dtype.is_complex and x.dtype != torch.bool
        fits = {"float32": x.dtype.is_floating_point, "int64": integers}.get(
            stored.stored, x.dtype == getattr(torch, stored.stored)
        )
        one = TensorSpec(stored.name, stored.shape, variable=stored.variable)
        if not (fits and x.ndim and one.has_shape(tuple(x.shape[1:]))):
            came = f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
            raise TensorError(f"{stored}; got {came}; pass stored values, or load the model without preprocess")
