"""Made-up batches that fit a spec.  NumPy only.

Shape letters: B samples in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.labels import IGNORED, LabelSpec
from heron_core.streams import generator


def example_inputs(specs: Sequence[TensorSpec], rows: int, length: int = 0) -> tuple[Array, ...]:
    """A batch [B, ...] of each spec: normal floats, integers of its range. `length` 0: sequences at their longest."""
    return tuple(_example(spec, rows, length) for spec in specs)


def example_labels(spec: LabelSpec, rows: int, length: int = 0) -> Array:
    """Labels [B, ...] as the task wants them; where positions may be ignored, all of the first sample's are."""
    labels = _example(spec.tensor, rows, length)
    if spec.maskable:
        labels[0] = IGNORED
    return labels


def _example(spec: TensorSpec, rows: int, length: int) -> Array:
    rng, shape = generator(0, "example", spec.name), (rows, *(spec.sized(length) if length else spec.shape))
    if np.dtype(spec.dtype).kind == "f":
        return np.asarray(rng.standard_normal(shape), dtype=spec.dtype)
    return np.asarray(rng.integers(0, spec.count or 2, shape), dtype=spec.dtype)
