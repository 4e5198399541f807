"""Arrays of any dtype, and what a named tensor of a batch looks like.  NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of a dtype that is known at run time alone."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a batch: `shape` is that of one sample, without the leading batch size B."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    variable: bool = False
    """Samples differ in length: `shape[0]` is the longest that may come, and a batch is as long as its longest."""

    @property
    def bytes_per_sample(self) -> int:
        """Of a sample of the full shape."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def sized(self, length: int) -> tuple[int, ...]:
        """The shape of a sample in a batch whose sequences are this long; its own shape where it does not vary."""
        return (length, *self.shape[1:]) if self.variable else self.shape

    def fits(self, array: Array) -> bool:
        """Is this array [B, ...] a batch of such tensors?"""
        got, wanted = array.shape[1:], self.shape
        if self.variable and got and wanted:
            got, wanted = (min(got[0], wanted[0]), *got[1:]), (got[0], *wanted[1:])
        return array.ndim > 0 and array.dtype.name == self.dtype and got == wanted

    def __str__(self) -> str:
        """`float32 [3, 32, 32]`, or `int64 [up to 64]`."""
        sizes = [str(size) for size in self.shape]
        if self.variable:
            sizes[0] = f"up to {sizes[0]}"
        return f"{self.dtype} [{', '.join(sizes)}]"
