"""Labels come back from their packed form as they were, in the fewest bytes that hold them."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.labels import IGNORED
from heron_core.wire.codec import CODES
from heron_core.wire.labels import packed, travelling, unpacked


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(1, "uint8"), (255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "int64"), (0, "int64")],
)
def test_ids_take_the_smallest_integer_that_holds_them_and_what_does_not_count(count: int, dtype: str) -> None:
    spec = TensorSpec("labels", (3,), "int64", variable=True, count=count)
    labels = np.array([[0, max(count, 1) - 1, IGNORED]])
    sent = packed(labels, spec, True)
    assert sent.dtype.name == travelling(spec, True).dtype == dtype and dtype in CODES
    found = unpacked(sent, spec)
    assert found.dtype == labels.dtype and np.array_equal(found, labels)
    assert packed(labels, spec, False) is labels and travelling(spec, False) is spec


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_other_labels_travel_as_they_are(dtype: str) -> None:
    spec, labels = TensorSpec("labels", (2,), dtype), np.ones((1, 2), dtype)
    assert packed(labels, spec, True) is labels and unpacked(labels, spec) is labels


def test_no_samples_are_packed_and_unpacked() -> None:
    spec = TensorSpec("labels", (), "int64", count=10)
    assert unpacked(packed(np.zeros(0, np.int64), spec, True), spec).shape == (0,)
