"""Does this data fit this model? Asked once, before the first round."""

from __future__ import annotations

import numpy as np

from heron_core.data.partition import check_labels
from heron_core.data.source import Source
from heron_core.errors import DataError


def check_source(source: Source, input_shape: tuple[int, ...], classes: int) -> None:
    """Raises DataError unless the first sample has the shape and is finite, and each label is a class."""
    if len(source) == 0:
        raise DataError("the data holds no samples, at least one is needed; check data.path or data.source")
    x, labels = source.batch(np.zeros(1, dtype=np.int64))
    if x.dtype != np.float32 or labels.dtype != np.int64 or labels.shape != (1,):
        raise DataError(
            "a batch must be x float32 and labels int64 [B], "
            f"got {x.dtype} and {labels.dtype} {list(labels.shape)}; convert them in the source"
        )
    if x.shape[1:] != input_shape:
        raise DataError(
            f"samples must have the model's input shape {list(input_shape)}, got {list(x.shape[1:])}; "
            "convert the data (images are channels first) or change model.input_shape"
        )
    if not np.isfinite(x).all():
        raise DataError("samples must be finite, the first one holds NaN or Inf; mend the data")
    check_labels(source.labels, classes)
