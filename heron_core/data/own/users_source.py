"""A user's own Source, which is believed nothing: what it raises and what it gives become a DataError that says so.

Shape letters: B samples in a batch, N samples in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.data.source import Batch, Source
from heron_core.errors import DataError, HeronError
from heron_core.own_code import said_by

T = TypeVar("T")


class UsersSource:
    """The samples of a user's `source`, once their arrays are found to be arrays of as many samples as asked for."""

    def __init__(self, source: Source) -> None:
        self.wraps = source
        self._name = type(source).__name__

    @property
    def labels(self) -> Array:
        """Of all samples, [N, ...]. Raises DataError."""
        labels: object = self._asked("labels", lambda: self.wraps.labels)
        if problem := _problem("`labels`", labels, len(self)):
            raise DataError(f"{self._name}: {problem}")
        assert isinstance(labels, np.ndarray)
        return labels

    def __len__(self) -> int:
        return self._asked("len", lambda: len(self.wraps))

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices. Raises DataError."""
        batch: object = self._asked("batch", lambda: self.wraps.batch(indices))
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[0], tuple | list):
            raise DataError(
                f"{self._name}: batch must return a tuple of inputs, and the labels, got {_kind(batch)}; "
                "return (x,), labels"
            )
        arrays, labels = batch
        for number, array in enumerate([*arrays, labels]):
            what = f"input {number} of a batch" if number < len(arrays) else "the labels of a batch"
            if problem := _problem(what, array, len(indices)):
                raise DataError(f"{self._name}: {problem}")
        return tuple(arrays), labels

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except HeronError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            raise DataError(f"{self._name}: {what} failed: {said_by(error)}; mend it there") from error


def _problem(what: str, given: object, samples: int) -> str | None:
    if not isinstance(given, np.ndarray):
        return f"{what} must be a NumPy array, got {type(given).__name__}; convert it with numpy.asarray"
    if given.ndim == 0 or len(given) != samples:
        return f"{what} must hold {samples} samples, as asked for, got {given.dtype} {list(given.shape)}; mend it"
    return None


def _kind(given: object) -> str:
    """`a tuple of ndarray and ndarray`, or `a NoneType`."""
    within = f" of {' and '.join(type(each).__name__ for each in given)}" if isinstance(given, tuple | list) else ""
    return f"a {type(given).__name__}{within}"
