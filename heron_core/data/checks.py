"""Does this data fit this model? Asked once before the first round, and of a user's own data at every batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.own.cures import input_cure, shape_cure
from heron_core.data.partition import check_labels
from heron_core.data.source import Batch, Source
from heron_core.errors import DataError
from heron_core.labels import LabelSpec


def check_source(source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec) -> None:
    """Raises DataError unless the first sample is what the model takes and is finite, and its label is the task's.

    Where a label is one class, all labels are looked at.
    """
    if len(source) == 0:
        raise DataError("the data holds no samples, at least one is needed; check data.path or data.source")
    if labels.classes and source.labels.dtype.kind in "iu":  # first, because it sees how all of them are numbered
        check_labels(source.labels, labels.classes)
    if problem := batch_problem(source.batch(np.zeros(1, dtype=np.int64)), inputs, labels):
        raise DataError(problem)


class Checked:
    """A source that looks at every batch it gives: DataError names the first sample that the model cannot take."""

    def __init__(self, source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec) -> None:
        self.wraps, self._inputs, self._spec = source, inputs, labels

    @property
    def labels(self) -> Array:
        """As of the source."""
        return self.wraps.labels

    def __len__(self) -> int:
        return len(self.wraps)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices. Raises DataError."""
        batch = self.wraps.batch(indices)
        if problem := batch_problem(batch, self._inputs, self._spec):
            raise DataError(self._named(batch, indices) or problem)
        return batch

    def _named(self, batch: Batch, indices: NDArray[np.int64]) -> str | None:
        arrays, labels = batch
        for row, index in enumerate(indices):
            one = slice(row, row + 1)
            if problem := batch_problem((tuple(a[one] for a in arrays), labels[one]), self._inputs, self._spec):
                return f"sample {index}: {problem}"
        return None


def batch_problem(batch: Batch, inputs: Sequence[TensorSpec], labels: LabelSpec) -> str | None:
    """Why the model cannot take this batch; None where it can."""
    arrays, found = batch
    if len(arrays) != len(inputs):
        names = ", ".join(spec.name for spec in inputs)
        return f"a sample must have the model's {len(inputs)} inputs ({names}), got {len(arrays)}"
    for spec, array in zip(inputs, arrays, strict=True):
        if problem := input_problem(spec, array):
            return problem
    if problem := labels.problem(found):
        return f"{problem}; mend the data, or the model's task"
    return None


def input_problem(spec: TensorSpec, array: Array) -> str | None:
    """Why the model cannot take this input [B, ...]; None where it can."""
    if array.dtype.name != spec.dtype:
        return (
            f"{spec.name} of a batch must be {spec.dtype}, as the model takes it, got {array.dtype}; in the source, "
            f"{input_cure(array, spec.dtype, spec.name)}"
        )
    if not spec.fits(array):
        return (
            f"{spec.name} must have the model's input shape, {spec}, got {list(array.shape[1:])}; "
            f"{shape_cure(array.shape[1:], spec.shape, spec.name)}"
        )
    if problem := spec.finite_problem(array):
        return f"{spec.name} {problem}; mend the data"
    if problem := spec.range_problem(array):
        return f"{spec.name} {problem}; give every client the same vocabulary"
    return None
