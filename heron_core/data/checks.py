"""Does this data fit this model? Asked once, before the first round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.data.partition import check_labels
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.labels import LabelSpec


def check_source(source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec) -> None:
    """Raises DataError unless the first sample is what the model takes and is finite, and its label is the task's.

    Where a label is one class, all labels are looked at.
    """
    if len(source) == 0:
        raise DataError("the data holds no samples, at least one is needed; check data.path or data.source")
    arrays, found = source.batch(np.zeros(1, dtype=np.int64))
    if len(arrays) != len(inputs):
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"a sample must have the model's {len(inputs)} inputs ({names}), got {len(arrays)}")
    for spec, array in zip(inputs, arrays, strict=True):
        _check_input(spec, array)
    if labels.classes:
        _check_class(found)
        check_labels(source.labels, labels.classes)
    elif problem := labels.problem(found):
        raise DataError(f"{problem}; convert them in the source")


def _check_input(spec: TensorSpec, array: Array) -> None:
    if array.dtype.name != spec.dtype:
        raise DataError(
            f"{spec.name} of a batch must be {spec.dtype}, as the model takes it, got {array.dtype}; convert it in the "
            "source"
        )
    if not spec.fits(array):
        raise DataError(
            f"samples must have the model's input shape {list(spec.shape)}, got {list(array.shape[1:])}; "
            "convert the data (images are channels first) or change model.input_shape"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("samples must be finite, the first one holds NaN or Inf; mend the data")


def _check_class(labels: Array) -> None:
    if labels.dtype != np.int64 or labels.shape != (1,):
        raise DataError(
            f"labels of a batch must be int64 [B], one class a sample, got {labels.dtype} {list(labels.shape)}; "
            "convert them in the source"
        )
