"""The samples of a source that can be used: each is opened once, and those that cannot are counted, not refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.adapted import padded
from heron_core.data.checks import input_problem
from heron_core.data.skipped import Skipped, tally
from heron_core.data.source import Batch, Source
from heron_core.errors import DataError
from heron_core.labels import IGNORED, LabelSpec

UNREADABLE = "samples that cannot be read"
UNFIT = "samples that the model cannot take"


class Kept:
    """The samples of `source` at `places` (int64 [N]), whose labels are known."""

    def __init__(self, source: Source, places: NDArray[np.int64], labels: Array, skipped: Skipped) -> None:
        self.wraps, self.skipped = source, skipped
        self.indices, self._labels = places, labels

    @property
    def labels(self) -> Array:
        """Of the samples that are kept."""
        return self._labels

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these places among those that are kept."""
        return self.wraps.batch(self.indices[indices])


def without_bad(source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec) -> Kept:
    """Opens every sample once. A label that is wrong is no bad sample: it is refused where labels are checked.

    Raises DataError where no sample is left, with what is wrong with the first.
    """
    places, found = [], []
    bad: list[tuple[str, str]] = []
    for place in range(len(source)):
        try:
            arrays, label = source.batch(np.array([place]))
        except DataError as error:
            bad.append((UNREADABLE, str(error)))
            continue
        problems = [problem for spec, a in zip(inputs, arrays, strict=True) if (problem := input_problem(spec, a))]
        if problems:
            bad.append((UNFIT, f"sample {place}: {problems[0]}"))
            continue
        places.append(place)
        found.append(label[0])
    if not places:
        first = f", the first: {bad[0][1]}" if bad else "; check data.path or data.source"
        raise DataError(f"none of the {len(source)} samples can be used{first}")
    together = padded(found, IGNORED) if labels.variable else np.stack(found)
    return Kept(source, np.array(places, dtype=np.int64), together, tally(bad))
