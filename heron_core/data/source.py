"""What a data source is, and three kinds: arrays, a part of another source, a user's own dataset.

NumPy only, never torch. Shape letters: B samples in a batch, N samples in a source, C channels.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import DataError

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
Images = NDArray[np.float32]
Transform = Callable[[Images, NDArray[np.int64]], Images]
"""(x, indices) -> x: images in 0 to 1, float32 [B, C, ...], and their places in the source. x may be overwritten."""


class Source(Protocol):
    """Samples in a fixed order. `labels` is int64 [N]; a user's own dataset is read once to find them."""

    @property
    def labels(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """x float32 [B, *input_shape], C-contiguous; labels int64 [B]. B >= 1."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """(x / 255 - mean) / std for uint8 x: one number for each channel, or one for all."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, x: NDArray[np.uint8], transform: Callable[[Images], Images] | None = None) -> Images:
        """float32 of x's shape [B, C, ...]: one rounding an operation, so the same bits in any batch.

        `transform` sees the images in 0 to 1, before mean and standard deviation.
        """
        per_channel = (-1,) + (1,) * (x.ndim - 2)
        out = x.astype(np.float32, order="C")
        out /= np.float32(255)
        if transform is not None:
            out = transform(out)
        out -= np.asarray(self.mean, dtype=np.float32).reshape(per_channel)
        out /= np.asarray(self.std, dtype=np.float32).reshape(per_channel)
        return out


class ArraySource:
    """Samples in an array [N, *input_shape]: float32 as it is, or uint8 kept so and converted batch by batch.

    A memory-mapped array stays on disk. `transform` is applied batch by batch too, for uint8 before the
    normalisation. Raises DataError for other dtypes or a count that differs.
    """

    def __init__(
        self,
        x: NDArray[np.float32] | NDArray[np.uint8],
        labels: Array,
        normalisation: Normalisation | None = None,
        transform: Transform | None = None,
    ) -> None:
        if x.dtype not in (np.float32, np.uint8):
            raise DataError(f"samples must be float32 or uint8, got {x.dtype}; convert them with x.astype")
        if x.dtype == np.float32 and normalisation is not None:
            raise DataError("normalisation is for uint8 samples, got float32; hand over normalised values")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(f"labels must be integers [N], got {labels.dtype} {list(labels.shape)}")
        if len(x) != len(labels):
            raise DataError(f"{len(x)} samples need as many labels, got {len(labels)}")
        self._x = x
        self._labels = labels.astype(np.int64)
        self._normalisation = normalisation or Normalisation()
        self._transform = transform

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        rows = _rows(self._x, indices)
        transform = partial(_at, self._transform, indices) if self._transform else None
        if rows.dtype == np.uint8:
            x = self._normalisation.apply(rows, transform)
        else:
            x = transform(rows) if transform else rows
        return np.ascontiguousarray(x, dtype=np.float32), self._labels[indices]


class Subset:
    """The samples of `source` at `indices` (int64 [N]), in that order; nothing is copied."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self._source = source
        self._indices = indices.astype(np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(source)):
            raise DataError(
                f"indices must be from 0 to {len(source) - 1}, got {indices.min()} to {indices.max()}"
            )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._source.labels[self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        return self._source.batch(self._indices[indices])


class AdaptedDataset:
    """A user's dataset by duck typing: `len(dataset)`, `dataset[i] -> (x, label)`, CPU tensors or arrays.

    x is floating point, the label one integer. Labels are found by reading every sample once, when first
    asked for. Random augmentation must come from i alone, or the same run twice is not the same run.
    Raises DataError, naming the sample, for whatever else comes.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._name = type(dataset).__name__
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"a dataset needs __len__ and __getitem__, {self._name} lacks them; add them")

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return np.array([self._label(i, self._read(i)[1]) for i in range(len(self))], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        samples = [(int(i), *self._read(int(i))) for i in indices]
        xs = [self._x(i, x) for i, x, _ in samples]
        for (i, _, _), x in zip(samples, xs, strict=True):
            if x.shape != xs[0].shape:
                raise DataError(
                    f"{self._name}[{i}]: x must have the shape of the others, {list(xs[0].shape)}, "
                    f"got {list(x.shape)}; resize or pad it"
                )
        labels = [self._label(i, label) for i, _, label in samples]
        return np.stack(xs), np.array(labels, dtype=np.int64)

    def _read(self, i: int) -> tuple[Any, Any]:
        try:
            sample = self._dataset[i]
        except Exception as error:  # a user's code may raise anything
            raise DataError(f"{self._name}[{i}] failed: {type(error).__name__}: {error}") from error
        if not isinstance(sample, Sequence) or len(sample) != 2:
            raise DataError(f"{self._name}[{i}] must be a pair (x, label), got {type(sample).__name__}")
        return sample[0], sample[1]

    def _x(self, i: int, value: Any) -> NDArray[np.float32]:
        array = self._array(i, "x", value)
        if array.dtype.kind != "f":
            raise DataError(
                f"{self._name}[{i}]: x must be floating point, got {array.dtype}; "
                "scale and convert it in the dataset, e.g. x / 255"
            )
        return np.ascontiguousarray(array, dtype=np.float32)

    def _label(self, i: int, value: Any) -> int:
        array = self._array(i, "label", value)
        if array.size != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"{self._name}[{i}]: the label must be one integer, the class from 0, "
                f"got {array.dtype} {list(array.shape)}"
            )
        return int(array.item())

    def _array(self, i: int, what: str, value: Any) -> Array:
        try:
            return np.asarray(value)
        except Exception as error:  # a tensor on an accelerator, one that wants a gradient, bfloat16
            raise DataError(
                f"{self._name}[{i}]: {what} must be an array or a plain CPU tensor, "
                f"got {type(value).__name__}: {error}"
            ) from error


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
