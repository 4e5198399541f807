"""What a label may be, told by NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.arrays import Array, TensorSpec
from heron_core.labels import IGNORED, LabelSpec

CLASS = LabelSpec(count=3)
TOKENS = LabelSpec((4,), variable=True, count=10, maskable=True)
VALUES = LabelSpec((2,), "float32")


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        (CLASS, np.array([0, 2, 1])),
        (CLASS, np.zeros(0, np.int64)),
        (TOKENS, np.array([[9, IGNORED], [0, 3]])),
        (TOKENS, np.full((2, 4), IGNORED)),
        (VALUES, np.array([[-1e30, 2.5]], np.float32)),
    ],
)
def test_labels_of_the_task_have_no_problem(spec: LabelSpec, labels: Array) -> None:
    assert spec.problem(labels) is None


@pytest.mark.parametrize(
    ("spec", "labels", "problem"),
    [
        (CLASS, np.array([0, 3]), "labels must lie in 0..2, got 0..3"),
        (CLASS, np.array([-1]), "labels must lie in 0..2, got -1..-1"),
        (CLASS, np.array([IGNORED]), "labels must lie in 0..2, got -100..-100"),
        (CLASS, np.array([0.0]), "labels must be int64 [] for each sample, got float64 []"),
        (CLASS, np.array([[0]]), "labels must be int64 [] for each sample, got int64 [1]"),
        (TOKENS, np.zeros((1, 5), np.int64), "labels must be int64 [up to 4] for each sample, got int64 [5]"),
        (TOKENS, np.array([[10]]), "labels must lie in 0..9 (or -100, which does not count), got 10..10"),
        (VALUES, np.array([[np.nan, 0]], np.float32), "labels must be finite, got NaN or Inf"),
        (VALUES, np.zeros((1, 3), np.float32), "labels must be float32 [2] for each sample, got float32 [3]"),
    ],
)
def test_what_a_label_may_not_be_is_named(spec: LabelSpec, labels: Array, problem: str) -> None:
    assert spec.problem(labels) == problem


def test_only_one_integer_a_sample_is_a_class() -> None:
    assert [spec.classes for spec in (CLASS, TOKENS, VALUES, LabelSpec((5,), count=2))] == [3, 0, 0, 0]


def test_a_batch_of_varying_length_fits_up_to_the_longest() -> None:
    spec = TensorSpec("hidden", (4, 2), variable=True)
    assert [spec.fits(np.zeros((3, n, 2), np.float32)) for n in (1, 4, 5)] == [True, True, False]
    assert not spec.fits(np.zeros((3, 2), np.float32)) and not spec.fits(np.zeros((3, 4, 3), np.float32))
    assert spec.sized(3) == (3, 2) and spec.bytes_per_sample == 32
    assert TensorSpec("x", (4, 2)).sized(3) == (4, 2)
