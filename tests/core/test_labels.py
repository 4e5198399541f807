"""What a label is, in words and by its array."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.arrays import Array, TensorSpec
from heron_core.labels import IGNORED, LabelSpec

CLASS = LabelSpec(count=10)
BITS = LabelSpec((4,), count=2)
VALUE = LabelSpec((2,), "float32")
TOKENS = LabelSpec((80,), variable=True, count=30, maskable=True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (CLASS, "one int64 class in 0..9"),
        (BITS, "int64 [4] in 0..1"),
        (VALUE, "float32 [2]"),
        (TOKENS, "int64 [up to 80] in 0..29, or -100 where none counts"),
    ],
)
def test_a_kind_of_label_is_said_in_words(spec: LabelSpec, words: str) -> None:
    assert str(spec) == words


def test_only_one_integer_a_sample_is_a_class() -> None:
    assert [spec.classes for spec in (CLASS, BITS, VALUE, TOKENS, LabelSpec((), "float32"))] == [10, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        (CLASS, np.array([0, 9])),
        (BITS, np.eye(4, dtype=np.int64)),
        (VALUE, np.zeros((3, 2), np.float32)),
        (TOKENS, np.array([[29, IGNORED], [IGNORED, IGNORED]])),
        (TOKENS, np.full((1, 80), IGNORED)),
        (CLASS, np.zeros(0, np.int64)),
    ],
)
def test_labels_of_the_kind_are_no_problem(spec: LabelSpec, labels: Array) -> None:
    assert spec.problem(labels) is None


@pytest.mark.parametrize(
    ("spec", "labels", "problem"),
    [
        (CLASS, np.array([10]), "labels must lie in 0..9, got 10..10"),
        (CLASS, np.array([IGNORED]), "labels must lie in 0..9, got -100..-100"),
        (CLASS, np.array([1.0]), "labels must be one int64 class in 0..9 for each sample, got float64 []"),
        (CLASS, np.array(3), "labels must be one int64 class in 0..9 for each sample, got int64 []"),
        (BITS, np.array([[0, 1]]), "labels must be int64 [4] in 0..1 for each sample, got int64 [2]"),
        (VALUE, np.array([[0, np.nan]], np.float32), "labels must be finite, got NaN or Inf at [1]"),
        (TOKENS, np.zeros((1, 81), np.int64),
         "labels must be int64 [up to 80] in 0..29, or -100 where none counts for each sample, got int64 [81]"),
        (TOKENS, np.array([[30, IGNORED]]), "labels must lie in 0..29, got 30..30 (-100 does not count)"),
    ],
)  # fmt: skip
def test_other_labels_are_told_what_was_expected_and_what_came(spec: LabelSpec, labels: Array, problem: str) -> None:
    assert spec.problem(labels) == problem


def test_a_batch_of_varying_length_fits_up_to_the_longest() -> None:
    spec = TensorSpec("hidden", (4, 2), variable=True)
    assert [spec.fits(np.zeros((3, n, 2), np.float32)) for n in (1, 4, 5)] == [True, True, False]
    assert not spec.fits(np.zeros((3, 2), np.float32)) and not spec.fits(np.zeros((3, 4, 3), np.float32))
    assert spec.sized(3) == (3, 2) and spec.bytes_per_sample == 32
    assert TensorSpec("x", (4, 2)).sized(3) == (4, 2)
