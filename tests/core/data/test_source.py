"""The sources: what a batch is, whatever it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, ArraySource, Normalisation, Source, Subset, check_source
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

LABELS = np.array([2, 0, 1, 2, 1])


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)


class Pairs:
    """A dataset as users write them."""

    def __init__(self, *samples: Any) -> None:
        self.samples = samples
        self.reads = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Any:
        self.reads += 1
        return self.samples[i]


def sources() -> dict[str, Source]:
    x = pixels()
    floats = x.astype(np.float32)
    return {
        "float32": ArraySource(floats, LABELS),
        "float32, another memory order": ArraySource(np.asfortranarray(floats), LABELS),
        "uint8": ArraySource(x, LABELS.astype(np.uint8), Normalisation((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))),
        "subset": Subset(ArraySource(np.repeat(x, 2, axis=0), np.repeat(LABELS, 2)), np.arange(5) * 2),
        "adapted": AdaptedDataset(Pairs(*zip(floats.astype(np.float64), LABELS, strict=True))),
    }


@pytest.mark.parametrize("kind", list(sources()))
def test_a_batch_is_float32_contiguous_with_int64_labels(kind: str) -> None:
    source = sources()[kind]
    (x,), labels = source.batch(np.array([3, 1]))
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((2, 3, 4, 4), np.float32, True)
    assert type(x) is np.ndarray and x.flags.aligned
    assert labels.dtype == source.labels.dtype == np.int64
    assert labels.tolist() == [2, 0] and source.labels.tolist() == LABELS.tolist()
    check_source(source, (TensorSpec("x", (3, 4, 4)),), LabelSpec(count=3))


@pytest.mark.parametrize("kind", list(sources()))
def test_a_sample_has_the_same_bits_in_every_batch(kind: str) -> None:
    source = sources()[kind]
    (whole,), _ = source.batch(np.arange(5))
    for i in range(5):
        (alone,), _ = source.batch(np.array([i]))
        assert np.array_equal(alone[0], whole[i])


def test_uint8_is_normalised_per_channel() -> None:
    x = pixels()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.1)
    (batch,), _ = ArraySource(x, LABELS, Normalisation(mean, std)).batch(np.array([4]))
    for c in range(3):
        np.testing.assert_allclose(batch[0, c], (x[4, c] / 255 - mean[c]) / std[c], rtol=2e-6, atol=2e-6)


def test_uint8_without_a_normalisation_becomes_0_to_1() -> None:
    (batch,), _ = ArraySource(np.array([[0], [255]], dtype=np.uint8), np.array([0, 1])).batch(np.arange(2))
    assert batch.tolist() == [[0.0], [1.0]]


def test_changing_a_batch_leaves_the_source_as_it_was() -> None:
    source = ArraySource(np.ones((2, 3), dtype=np.float32), np.array([0, 1]))
    (x,), labels = source.batch(np.arange(2))
    x[:], labels[:] = 7, 7
    assert source.batch(np.arange(2))[0][0].max() == 1 and source.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("x", "labels", "normalisation", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2, int), None, "float32, uint8 or int64, got float64"),
        (np.zeros((2, 3), np.float32), np.zeros(3, int), None, "2 samples need as many labels, got 3"),
        (np.zeros((2, 3), np.float32), np.array(["a", "b"]), None, "labels must be numbers"),
        (np.zeros((2, 3), np.float32), np.zeros(2, int), Normalisation(), "normalisation is for uint8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x: Any, labels: Any, normalisation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArraySource(x, labels, normalisation)


def test_a_subset_outside_its_source_is_refused() -> None:
    with pytest.raises(DataError, match="from 0 to 4, got 3 to 5"):
        Subset(sources()["float32"], np.array([3, 5]))


def test_an_empty_subset_has_no_labels() -> None:
    empty = Subset(sources()["float32"], np.array([], dtype=np.int64))
    assert len(empty) == 0 and empty.labels.tolist() == []


def test_labels_of_a_users_dataset_are_read_once_and_only_when_asked_for() -> None:
    dataset = Pairs((np.zeros(2, np.float32), 1), (np.ones(2, np.float32), np.int32(0)))
    source = AdaptedDataset(dataset)
    source.batch(np.array([0]))
    assert dataset.reads == 1
    assert source.labels.tolist() == source.labels.tolist() == [1, 0]
    assert dataset.reads == 3


def test_a_torch_dataset_is_adapted() -> None:
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.rand(3, 2), torch.tensor([0, 2, 1]))
    source = AdaptedDataset(dataset)
    (x,), labels = source.batch(np.array([2, 0]))
    assert np.array_equal(x, dataset.tensors[0][[2, 0]].numpy())
    assert labels.tolist() == [1, 0] and source.labels.tolist() == [0, 2, 1]


def test_a_tensor_that_wants_a_gradient_is_refused() -> None:
    torch = pytest.importorskip("torch")
    source = AdaptedDataset(Pairs((torch.ones(2, requires_grad=True), 0)))
    with pytest.raises(DataError, match=r"Pairs\[0\]: x must be an array or a plain CPU tensor, got Tensor"):
        source.batch(np.array([0]))


ONE = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((np.ones(2, np.uint8), 0), r"\[1\]: x must be floating point, got uint8; pixels"),
        ((np.ones(3, np.float32), 0), r"\[1\]: x must have the shape of the others, \[2\], got \[3\]"),
        ((ONE, 0.0), r"\[1\]: the label must be one integer, the class from 0, got float64 \[\]"),
        ((ONE, [0, 1]), r"\[1\]: the label must be one integer"),
        ((ONE, "cat"), r"\[1\]: the label must be one integer"),
        (ONE, r"\[1\] must be a pair \(x, label\), got ndarray"),
        ({"x": ONE, "y": 0}, r"\[1\] must be a pair \(x, label\), got dict"),
    ],
)
def test_an_unusable_sample_is_named(sample: Any, message: str) -> None:
    with pytest.raises(DataError, match="Pairs" + message):
        AdaptedDataset(Pairs((ONE, 0), sample)).batch(np.arange(2))


def test_a_dataset_that_raises_is_named_with_its_own_words() -> None:
    class Broken(Pairs):
        def __getitem__(self, i: int) -> Any:
            raise KeyError("scan_17")

    with pytest.raises(DataError, match=r"Broken\[0\] failed: KeyError: 'scan_17'"):
        AdaptedDataset(Broken((ONE, 0))).batch(np.array([0]))


def test_a_stream_without_a_length_is_refused() -> None:
    with pytest.raises(DataError, match="needs __len__ and __getitem__, generator lacks them"):
        AdaptedDataset(x for x in ())


def bad_label(value: int) -> Source:
    return ArraySource(np.zeros((3, 2), np.float32), np.array([0, value, value]))


class Float64Source:
    labels = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return 1

    def batch(self, indices: Any) -> Any:
        return (np.zeros((len(indices), 2)),), self.labels[indices]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (bad_label(5), "labels must be 0 to 4, got 5 for sample 1 and 1 more such"),
        (bad_label(-1), "labels must be 0 to 4, got -1"),
        (ArraySource(np.zeros((1, 3), np.float32), np.array([0])), r"input shape, float32 \[2\], got \[3\]"),
        (ArraySource(np.full((1, 2), np.nan, np.float32), np.array([0])), "x must be finite, got NaN or Inf"),
        (ArraySource(np.zeros((0, 2), np.float32), np.array([], int)), "holds no samples"),
        (Float64Source(), "x of a batch must be float32, as the model takes it, got float64"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(source: Source, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_source(source, (TensorSpec("x", (2,)),), LabelSpec(count=5))
