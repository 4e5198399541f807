"""What a data source is, and two kinds: arrays, and a part of another source. (A user's dataset: adapted.py.)

NumPy only, never torch. Shape letters: B samples in a batch, N samples in a source, C channels.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import DataError

if TYPE_CHECKING:
    from heron_core.data.contract import InputContract

Batch = tuple[tuple[Array, ...], Array]
"""The model's inputs [B, ...] in its order, C-contiguous, and the labels [B, ...]."""
Images = NDArray[np.float32]
Transform = Callable[[Images, NDArray[np.int64]], Images]
"""(x, indices) -> x: images in 0 to 1, float32 [B, C, ...], and their places in the source. x may be overwritten."""


class Source(Protocol):
    """Samples in a fixed order."""

    @property
    def labels(self) -> Array:
        """Of all samples, [N, ...]; a user's own dataset is read once to find them."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices, B >= 1; floating-point arrays are float32."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """(x / 255 - mean) / std for uint8 x: one number for each channel, or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, x: Array, transform: Callable[[Images], Images] | None = None) -> Images:
        """float32 of x's shape [B, C, ...]: one rounding an operation, so the same bits in any batch.

        x of more than 8 bits comes as float32 in 0 to 255. `transform` sees the images in 0 to 1, before mean and
        standard deviation.
        """
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        out = x.astype(np.float32, order="C")
        out /= np.float32(255)
        if transform is not None:
            out = transform(out)
        out -= np.asarray(self.mean, dtype=np.float32).reshape(per_channel)
        out /= np.asarray(self.std, dtype=np.float32).reshape(per_channel)
        return out


OWN_PIXELS = Normalisation(mean=(0.5,), std=(0.5,))
"""Of a user's own images and uint8 arrays: 0..255 becomes -1..1."""


class ArraySource:
    """Samples in an array [N, *input_shape]: float32 or int64 as it is, or uint8 kept so and converted batch by batch.

    A memory-mapped array stays on disk. `transform` is applied batch by batch too, for uint8 before the
    normalisation. Labels [N, ...]: integers become int64, floating point float32. Raises DataError for other dtypes or
    a count that differs.
    """

    contract: InputContract | None = None
    """How stored values become the model's input, where whoever made this source knows it."""

    def __init__(
        self,
        x: Array,
        labels: Array,
        normalisation: Normalisation | None = None,
        transform: Transform | None = None,
    ) -> None:
        if x.dtype not in (np.float32, np.uint8, np.int64):
            raise DataError(f"samples must be float32, uint8 or int64, got {x.dtype}; convert them with x.astype")
        if x.dtype != np.uint8 and normalisation is not None:
            raise DataError(f"normalisation is for uint8 samples, got {x.dtype}; hand over normalised values")
        if labels.ndim < 1 or labels.dtype.kind not in "iuf":
            raise DataError(f"labels must be numbers [N, ...], got {labels.dtype} {list(labels.shape)}")
        if len(x) != len(labels):
            raise DataError(f"{len(x)} samples need as many labels, got {len(labels)}")
        self._x = x
        self._labels: Array = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
        self.normalisation = (normalisation or Normalisation()) if x.dtype == np.uint8 else None
        self._transform = transform
        self.stored_dtypes = (x.dtype.name,)

    @property
    def labels(self) -> Array:
        """int64 or float32 [N, ...]."""
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices, in that order."""
        rows = _rows(self._x, indices)
        transform = partial(_at, self._transform, indices) if self._transform else None
        if self.normalisation is not None:
            x = self.normalisation.apply(rows, transform)
        else:
            x = transform(rows) if transform else rows
        return (np.ascontiguousarray(x),), self._labels[indices]


class Subset:
    """The samples of `source` at `indices` (int64 [N]), in that order; nothing is copied."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.wraps = source
        self.indices = indices.astype(np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(source)):
            raise DataError(f"indices must be from 0 to {len(source) - 1}, got {indices.min()} to {indices.max()}")

    @cached_property
    def labels(self) -> Array:
        """Those of the chosen samples [N, ...]."""
        return self.wraps.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these places of the subset."""
        return self.wraps.batch(self.indices[indices])


def lengths_of(source: Source) -> NDArray[np.int64]:
    """Of each sample [N], in positions. Raises DataError where the source does not say it.

    One that stands around another has it as `wraps`, and as `indices` which of its samples it gives, if not all.
    """
    if (within := getattr(source, "wraps", None)) is not None:
        lengths = lengths_of(within)
        return lengths[source.indices] if hasattr(source, "indices") else lengths
    found: NDArray[np.int64] | None = getattr(source, "lengths", None)
    if found is None or len(found) != len(source):
        raise DataError(
            "data.text.by_length needs to know how long each sample is, and the data does not say; take text, or set "
            "it to 0"
        )
    return found


def _at(transform: Transform, indices: NDArray[np.int64], x: Images) -> Images:
    return transform(x, indices)


def _rows(x: Array, indices: NDArray[np.int64]) -> Array:
    """x[indices]; of a mapped x, the pages are handed back after each sample.

    The kernel maps their neighbours too: some 20 MiB a batch, in time the whole file, would count as ours.
    """
    if not (isinstance(x.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")):
        return x[indices]
    out = np.empty((len(indices), *x.shape[1:]), dtype=x.dtype)
    for row, index in enumerate(indices):
        out[row] = x[index]
        x.base.madvise(mmap.MADV_DONTNEED)
    return out
