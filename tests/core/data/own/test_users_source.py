"""A user's own Source is believed nothing: whatever it gives or raises is right, or a DataError that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heron_core.data.own.users_source import UsersSource
from heron_core.errors import DataError

PLACES = np.arange(3)


class Mine:
    """Five samples; batch gives what `change` makes of x [3, 2] and labels [3]."""

    def __init__(self, change: Callable[[Any, Any], Any], labels: Any = None) -> None:
        self._change, self.labels = change, np.zeros(5, np.int64) if labels is None else labels

    def __len__(self) -> int:
        return 5

    def batch(self, indices: Any) -> Any:
        return self._change(np.zeros((len(indices), 2), np.float32), np.zeros(len(indices), np.int64))


def test_what_is_right_comes_through_and_a_list_of_inputs_is_taken() -> None:
    source = UsersSource(Mine(lambda x, y: ([x], y)))
    (x,), y = source.batch(PLACES)
    assert (len(source), source.labels.shape, x.shape, y.shape) == (5, (5,), (3, 2), (3,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: None, r"Mine: batch must return a tuple of inputs, .* got a NoneType; return \(x,\)"),
        (lambda x, y: (x, y), "got a tuple of ndarray and ndarray"),
        (lambda x, y: ((torch.zeros(3, 2),), y), "Mine: input 0 of a batch must be a NumPy array, got Tensor"),
        (lambda x, y: ((x[1:],), y), r"input 0 of a batch must hold 3 samples, as asked for, got float32 \[2, 2\]"),
        (lambda x, y: ((x,), y[0]), r"the labels of a batch must be a NumPy array, got int64"),
        (lambda x, y: x[7], "Mine: batch failed: IndexError"),
        (lambda x, y: exec("raise SystemExit(1)"), "Mine: batch failed: SystemExit"),
    ],
)
def test_a_batch_that_is_none_is_refused_by_name(change: Callable[[Any, Any], Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        UsersSource(Mine(change)).batch(PLACES)


@pytest.mark.parametrize("labels", [[0] * 5, np.zeros(4, np.int64), np.int64(3)])
def test_labels_that_are_not_of_all_samples_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match=r"Mine: `labels` must"):
        _ = UsersSource(Mine(lambda x, y: ((x,), y), labels)).labels
