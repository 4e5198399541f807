"""What stands beside the activations: labels in as few bytes as hold them, and the numbers of reused samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.labels import IGNORED

SMALL = ("uint8", "uint16")
NUMBERS = TensorSpec("numbers", (), "int32")
"""Each row's sample among its client's own, where activations are reused; of few samples, see `numbers_of`."""
NUMBERING_BYTES = 16
"""Of the name that a client gives the numbers of its samples."""
SENT = "sent"
"""Where kept samples may be sent again, which rows are: a bit for each, uint8 [ceil(B / 8)], the first the highest."""


def travelling(spec: TensorSpec, packs: bool) -> TensorSpec:
    """How these labels travel: packed, the largest number of a dtype stands for IGNORED, so it holds one class less."""
    if not packs or spec.dtype != "int64" or not spec.count:
        return spec
    return replace(spec, dtype=next((name for name in SMALL if spec.count <= np.iinfo(name).max), spec.dtype))


def packed(labels: Array, spec: TensorSpec, packs: bool) -> Array:
    """`labels` [B, ...] of `spec`, each a class or IGNORED, as they travel."""
    dtype = travelling(spec, packs).dtype
    return labels if dtype == spec.dtype else np.where(labels < 0, np.iinfo(dtype).max, labels).astype(dtype)


def unpacked(labels: Array, spec: TensorSpec) -> Array:
    """What `packed` was given, of what it gave."""
    if labels.dtype.name == spec.dtype:
        return labels
    wide: Array = labels.astype(spec.dtype)
    wide[labels == np.iinfo(labels.dtype).max] = IGNORED
    return wide


def numbers_of(samples: int) -> TensorSpec:
    """How the numbers of so many samples travel."""
    return replace(NUMBERS, dtype="uint16") if samples <= 1 << 16 else NUMBERS
