"""The trainer's side of the activation codec: uploads decoded on the worker, cut gradients encoded there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.models.split_model import SplitModel, Tensors
from heron_core.wire.activation_codec import Purpose, codec_for, floating
from heron_server.training.optimizers import to_arrays
from heron_server.uploads.assembly import Upload


def decoded(upload: Upload, purpose: Purpose, cut: Sequence[TensorSpec]) -> Upload:
    """The upload with the cut's tensors; what need not be decoded stays in the upload's memory. Raises TensorError."""
    encoded = [tensor.numpy() for tensor in upload.activations]
    arrays = codec_for(purpose).decode(encoded, cut, _empty)
    return Upload(upload.number, tuple(map(torch.from_numpy, arrays)), upload.labels_B)


def checked(model: SplitModel, client: str, upload: Upload, purpose: Purpose) -> Upload:
    """The upload decoded. Raises TensorError also for NaN, Inf, or integers or labels out of range."""
    upload, whose = decoded(upload, purpose, model.activations), f"client {client!r}, upload {upload.number}"
    model.check_labels(upload.labels_B)
    for spec, tensor in zip(model.activations, upload.activations, strict=True):
        # One cheap pass: a NaN or Inf anywhere makes the sum NaN or Inf. Only then look closely.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise TensorError(
                f"{whose}: {spec.name} must be finite, got {bad} NaN or Inf of {tensor.numel()}; "
                "lower method.optimizer.lr or check that client's data"
            )
        if problem := spec.range_problem(tensor.numpy()):
            raise TensorError(f"{whose}: {spec.name} {problem}")
    return upload


def moved(upload: Upload, device: torch.device) -> tuple[Tensors, Tensor]:
    """Activations and labels where they are to be computed."""
    cut = tuple(a.to(device, non_blocking=True) for a in upload.activations)
    return cut, upload.labels_B.to(device, non_blocking=True)


def encoded_gradients(gradients: Sequence[Tensor], cut: Sequence[TensorSpec]) -> Mapping[str, Array]:
    """What goes down for the gradients of the cut's floating-point tensors [B, ...]: copies, row-major, by name."""
    specs, codec = floating(cut), codec_for("cut_gradients")
    arrays = to_arrays({spec.name: gradient for spec, gradient in zip(specs, gradients, strict=True)})
    names = [spec.name for spec in codec.travels(specs)]
    return dict(zip(names, codec.encode(list(arrays.values())), strict=True))


def _empty(shape: tuple[int, ...], dtype: str) -> Array:
    """In torch's own aligned memory, as kernels may give other bits for another alignment."""
    array: Array = torch.empty(shape, dtype=getattr(torch, dtype)).numpy()
    return array
