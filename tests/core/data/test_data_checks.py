"""A user's own data of every kind of task: what cannot be used is refused in one line that names the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, Source, check_source
from heron_core.data.checks import Checked
from heron_core.errors import DataError
from heron_core.labels import IGNORED, LabelSpec

VECTOR = (TensorSpec("input", (3,)),)
TOKENS = (TensorSpec("tokens", (6,), "int64", variable=True, count=10),)
PAIR = (TensorSpec("image", (2, 2)), TensorSpec("age", (1,), "int64", count=120))
NEXT = LabelSpec((6,), variable=True, count=10, maskable=True)
VALUE = LabelSpec((1,), "float32")


class Samples:
    """A user's dataset."""

    def __init__(self, *pairs: Any) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, i: int) -> Any:
        return self._pairs[i]


def checked(inputs: tuple[TensorSpec, ...], labels: LabelSpec, *pairs: Any) -> Source:
    return Checked(AdaptedDataset(Samples(*pairs), inputs, labels), inputs, labels)


def everything(source: Source) -> Any:
    return source.batch(np.arange(len(source)))


def row(*values: float) -> Any:
    return np.array(values, np.float32)


def test_sequences_are_padded_to_the_longest_of_their_batch_and_padding_does_not_count() -> None:
    source = checked(TOKENS, NEXT, ([1, 2, 3], [2, 3, 0]), ([4], [5]), (np.arange(6), np.arange(6)))
    check_source(source, TOKENS, NEXT)
    (tokens,), labels = source.batch(np.array([1, 0]))
    assert (tokens.dtype, labels.dtype) == (np.int64, np.int64)
    assert tokens.tolist() == [[4, 0, 0], [1, 2, 3]]
    assert labels.tolist() == [[5, IGNORED, IGNORED], [2, 3, 0]]
    assert everything(source)[0][0].shape == (3, 6)


def test_several_inputs_of_several_dtypes_come_in_the_models_order() -> None:
    image = np.ones((2, 2))
    source = checked(PAIR, VALUE, ({"age": [40], "image": image}, 1.5), ((image, [41]), 2.5))
    check_source(source, PAIR, VALUE)
    (images, ages), labels = everything(source)
    assert (images.dtype, images.shape) == (np.float32, (2, 2, 2))
    assert (ages.tolist(), ages.dtype) == ([[40], [41]], np.int64)
    assert (labels.tolist(), labels.dtype) == ([[1.5], [2.5]], np.float32)


FINE, IMAGE = row(1, 2, 3), np.ones((2, 2))
KINDS: dict[str, Any] = {
    "value": (VECTOR, VALUE, (FINE, 1.0)),
    "class": (VECTOR, LabelSpec(count=3), (FINE, 1)),
    "bits": (VECTOR, LabelSpec((2,), count=2), (FINE, [0, 1])),
    "tokens": (TOKENS, NEXT, ([1], [2])),
    "pair": (PAIR, VALUE, ((IMAGE, [4]), 1.0)),
}
"""The model's inputs, its labels, and a sample that fits them."""


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("value", (FINE, np.nan), "sample 1: labels must be finite, got NaN or Inf"),
        ("value", (row(1, np.inf, 3), 1.0), "sample 1: input must be finite, got NaN or Inf"),
        ("value", (FINE, 7), r"Samples\[1\]: the label must be float32 \[1\], got int64; convert it"),
        ("value", (row(1, 2), 1.0), r"Samples\[1\]: input must have the shape of the others"),
        ("class", (FINE, 1.0), r"Samples\[1\]: the label must be one integer, the class from 0, got float64"),
        ("class", (FINE, 3), r"sample 1: labels must lie in 0\.\.2, got 3\.\.3"),
        ("bits", (FINE, [0, 2]), r"sample 1: labels must lie in 0\.\.1"),
        ("bits", (FINE, [0.0, 1.0]), r"Samples\[1\]: the label must be int64 \[2\] in 0\.\.1, got float64"),
        ("tokens", ([1.5], [2]), r"Samples\[1\]: tokens must be integers, got float64"),
        ("tokens", ([10], [2]), r"sample 1: tokens must lie in 0\.\.9, got 10\.\.10; give every client the same"),
        ("tokens", ([1], [-1]), r"sample 1: labels must lie in 0\.\.9, got -1\.\.-1 \(-100 does not count\)"),
        ("tokens", (range(7), range(7)), r"Samples\[1\]: tokens must be int64 \[up to 6\], got \[7\]; cut it"),
        ("tokens", ([1, 2], [3]), r"Samples\[1\]: a label for each place of the sequence is wanted, 2 here, got 1"),
        ("tokens", (4, [3]), r"Samples\[1\]: tokens must be int64 \[up to 6\], got \[\]"),
        ("pair", ((IMAGE,), 1.0), r"Samples\[1\]: x must be 2 arrays \(image, age\) or a mapping"),
        ("pair", ({"image": IMAGE}, 1.0), r"Samples\[1\]: x lacks age, it has image"),
        ("pair", ((IMAGE, [120]), 1.0), r"sample 1: age must lie in 0\.\.119, got 120\.\.120"),
    ],
)
def test_the_first_sample_that_cannot_be_used_is_named(kind: str, bad: Any, message: str) -> None:
    inputs, labels, good = KINDS[kind]
    source = checked(inputs, labels, good, bad)
    source.batch(np.array([0]))
    with pytest.raises(DataError, match=message) as caught:
        everything(source)
    assert "\n" not in str(caught.value)


def test_a_source_with_too_few_inputs_is_refused() -> None:
    source = AdaptedDataset(Samples((FINE, 1.0)), VECTOR, VALUE)
    with pytest.raises(DataError, match=r"the model's 2 inputs \(image, age\), got 1"):
        check_source(source, PAIR, VALUE)


def test_a_sample_keeps_its_number_in_a_users_own_source() -> None:
    class Own:
        labels = np.array([0, 1, 9])

        def __len__(self) -> int:
            return 3

        def batch(self, indices: Any) -> Any:
            return (np.zeros((len(indices), 3), np.float32),), self.labels[indices]

    source = Checked(Own(), VECTOR, LabelSpec(count=2))
    assert len(source.batch(np.array([1, 0]))[1]) == 2
    with pytest.raises(DataError, match=r"sample 2: labels must lie in 0\.\.1, got 9\.\.9"):
        source.batch(np.array([1, 2, 0]))
