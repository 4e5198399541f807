"""The trainer's side of the activation codec: uploads decoded on the worker, cut gradients encoded there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.models.split_model import SplitModel, Tensors
from heron_core.streams import Part
from heron_core.wire.activation_codec import ActivationCodec, floating
from heron_core.wire.labels import unpacked
from heron_server.storage.kept_samples import KeptSamples
from heron_server.training.optimizers import to_arrays
from heron_server.uploads.assembly import Upload


def decoded(upload: Upload, codec: ActivationCodec, cut: Sequence[TensorSpec]) -> Upload:
    """The upload with the cut's tensors; what need not be decoded stays in the upload's memory. Raises TensorError."""
    encoded, rows = [tensor.numpy() for tensor in upload.activations], len(upload.labels_B)
    arrays = codec.decode(encoded, cut, rows, _empty, length=upload.length, parts=upload.parts)
    return replace(upload, activations=tuple(map(torch.from_numpy, arrays)), parts=1)


def checked(model: SplitModel, client: str, upload: Upload, codec: ActivationCodec) -> Upload:
    """The upload decoded. Raises TensorError also for NaN, Inf, or integers or labels out of range."""
    whose = f"client {client!r}, upload {upload.number}"
    labels = unpacked(upload.labels_B.numpy(), model.uploaded[-1])
    try:
        upload = replace(decoded(upload, codec, model.activations), labels_B=torch.from_numpy(labels))
    except TensorError as error:
        raise TensorError(f"{whose}: {error}; check that both sides run the same Heron") from None
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


class Intake:
    """Uploads to train on, as they come to the worker."""

    def __init__(self, model: SplitModel, codec: ActivationCodec) -> None:
        self._model, self._codec = model, codec
        self.kept: KeptSamples | None = None
        """Samples that are used again, where they are."""

    def checked(self, client: str, rank: int, upload: Upload) -> Upload:
        """The upload decoded, with all its rows, whichever of them have come now. Raises TensorError."""
        reused, kept = upload.reused, self.kept
        upload = checked(self._model, client, upload, self._codec)
        if reused is None:
            return upload
        assert kept is not None, "only a run that keeps samples takes uploads of their numbers"
        new, rows = [t.numpy() for t in (*upload.activations, upload.labels_B)], len(reused.numbers_B)
        whole = [_empty((rows, *array.shape[1:]), array.dtype.name) for array in new]
        kept.whole(
            rank, reused.numbering, reused.samples, reused.numbers_B, reused.sent_B, reused.brought_B, new, whole
        )  # fmt: skip
        *activations, labels_B = map(torch.from_numpy, whole)
        return replace(upload, activations=tuple(activations), labels_B=labels_B, reused=None)


def moved(upload: Upload, device: torch.device) -> tuple[Tensors, Tensor]:
    """Activations and labels where they are to be computed."""
    cut = tuple(a.to(device, non_blocking=True) for a in upload.activations)
    return cut, upload.labels_B.to(device, non_blocking=True)


def encoded_gradients(
    gradients: Sequence[Tensor], cut: Sequence[TensorSpec], codec: ActivationCodec, seed: int, *path: Part
) -> Mapping[str, Array]:
    """What goes down for the gradients of the cut's floating-point tensors [B, ...]: copies, row-major, by name.

    `path` names the upload's random streams. TensorError: they are not finite, and the codec has no code for that.
    """
    specs = floating(cut)
    arrays = to_arrays({spec.name: gradient for spec, gradient in zip(specs, gradients, strict=True)})
    try:
        encoded = codec.encode(list(arrays.values()), specs, seed, *path, "cut_gradients")
    except TensorError as error:
        raise TensorError(f"the gradient at the cut: {error}; lower method.optimizer.lr") from None
    return dict(zip(arrays, encoded, strict=True))


def _empty(shape: tuple[int, ...], dtype: str) -> Array:
    """In torch's own aligned memory, as kernels may give other bits for another alignment."""
    array: Array = torch.empty(shape, dtype=getattr(torch, dtype)).numpy()
    return array
