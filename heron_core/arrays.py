"""Arrays of any dtype, and what a named tensor of a batch looks like.  NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
"""Of a dtype that is known at run time alone."""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a batch: `shape` is that of one sample, without the leading batch size B."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
