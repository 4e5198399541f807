"""Arrays of any dtype, and what a named tensor of a batch looks like.  NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of a dtype that is known at run time alone."""
HEADERS = Lock()
"""Held while NumPy reads a file's header, for which it has Python parse a dict: Python 3.11 counts the parser's depth
for all threads together, and fails where a second one parses in the midst of the first (python/cpython#106905)."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a batch: `shape` is that of one sample, without the leading batch size B."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    variable: bool = False
    """Samples differ in length: `shape[0]` is the longest that may come, and a batch is as long as its longest."""
    count: int = 0
    """Integers lie in 0 to count - 1, as the ids of a vocabulary do. 0: any value."""

    @property
    def is_floating(self) -> bool:
        """Does it hold floating-point numbers, so that it has a gradient?"""
        return np.dtype(self.dtype).kind == "f"

    @property
    def bytes_per_sample(self) -> int:
        """Of a sample of the full shape."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def sized(self, length: int) -> tuple[int, ...]:
        """The shape of a sample in a batch whose sequences are this long; its own shape where it does not vary."""
        return (length, *self.shape[1:]) if self.variable else self.shape

    def fits(self, array: Array) -> bool:
        """Is this array [B, ...] a batch of such tensors?"""
        return array.ndim > 0 and array.dtype.name == self.dtype and self.has_shape(array.shape[1:])

    def has_shape(self, shape: tuple[int, ...]) -> bool:
        """May one sample have this shape?"""
        if self.variable and shape and self.shape:
            return shape[0] <= self.shape[0] and shape[1:] == self.shape[1:]
        return shape == self.shape

    def range_problem(self, array: Array) -> str | None:
        """`must lie in 0..9, got 0..97`; None where all values fit, or any may come. A bool is 0 or 1."""
        count, values = (2, array.view(np.uint8)) if self.dtype == "bool" else (self.count, array)
        if not count or not values.size or (values.min() >= 0 and values.max() < count):
            return None
        return f"must lie in 0..{count - 1}, got {values.min()}..{values.max()}"

    def finite_problem(self, array: Array) -> str | None:
        """`must be finite, got NaN or Inf at [0, 2]`, the place in its sample; None where all of [B, ...] are."""
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return None
        place = np.argwhere(~np.isfinite(array))[0].tolist()[1:]
        return f"must be finite, got NaN or Inf{f' at {place}' if place else ''}"

    def __str__(self) -> str:
        """`float32 [3, 32, 32]`, or `int64 [up to 64]`."""
        return f"{self.dtype} [{', '.join(self._sizes())}]"

    def batch_text(self, rows: int) -> str:
        """`float32 [16, 3, 32, 32]`, or `int64 [16, up to 64]`: a batch of that many samples."""
        return f"{self.dtype} [{', '.join([str(rows), *self._sizes()])}]"

    def _sizes(self) -> list[str]:
        sizes = [str(size) for size in self.shape]
        return [f"up to {sizes[0]}", *sizes[1:]] if self.variable else sizes


def length_of(specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> int:
    """How long the sequences of this batch are; 0 where none varies."""
    return next((array.shape[1] for spec, array in zip(specs, arrays, strict=True) if spec.variable), 0)
