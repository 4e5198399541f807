"""What a client says of its own data: figures of a sample, and what was passed over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heron_core.arrays import TensorSpec
from heron_core.data import ArraySource, Normalisation, Source, Subset
from heron_core.data.checks import Checked
from heron_core.data.facts import class_names_of, facts_of, skipped_of
from heron_core.data.skipped import tally
from heron_core.labels import LabelSpec

IMAGES, LABELS = (TensorSpec("image", (2, 4, 4)),), LabelSpec(count=3)


def pixels(count: int = 40) -> ArraySource:
    x = np.random.default_rng(0).integers(0, 256, (count, 2, 4, 4), dtype=np.uint8)
    return ArraySource(x, np.arange(count) % 3, Normalisation((0.5,), (0.5,)))


class Named(ArraySource):
    """A source that knows its classes and passed something over."""

    class_names = ("apple", "pear", "cherry")
    skipped = tally([("hidden", "a/.x"), ("not an image", "b/y.txt"), ("hidden", "c/.z")])


def test_figures_are_of_what_the_model_gets_channel_by_channel() -> None:
    source = pixels()
    facts = facts_of(source, IMAGES, LABELS)
    (x,), _ = source.batch(np.arange(40))
    assert (facts.samples, facts.class_names, bool(facts.skipped)) == (40, (), False)
    (image,) = facts.inputs
    assert (image.name, image.stored_dtype, image.shape, image.looked_at) == ("image", "uint8", (2, 4, 4), 40)
    for got, wanted in [
        (image.low, x.min((0, 2, 3))), (image.high, x.max((0, 2, 3))),
        (image.mean, x.mean((0, 2, 3))), (image.std, x.std((0, 2, 3))),
        ([image.whole_mean], [x.mean()]), ([image.whole_std], [x.std()]),
    ]:  # fmt: skip
        assert list(got) == pytest.approx(list(wanted), abs=1e-6)
    assert str(image).startswith("uint8 [2, 4, 4], from -1 to 1, mean ")


def test_the_sample_is_spread_evenly_over_the_data() -> None:
    source = ArraySource(np.arange(1000, dtype=np.float32)[:, None], np.zeros(1000, int))
    (x,) = facts_of(source, (TensorSpec("x", (1,)),), LABELS, most=5).inputs
    assert (x.looked_at, x.low, x.high, x.mean) == (5, (0,), (999,), (pytest.approx(499.6),))


@given(arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32)), st.sampled_from([0, 1e6, -1e6]))
def test_a_small_spread_beside_a_large_mean_is_found(x: np.ndarray[tuple[int, int], np.dtype[np.float32]],
                                                     shift: float) -> None:  # fmt: skip
    moved = x + np.float32(shift)
    (got,) = facts_of(ArraySource(moved, np.zeros(5, int)), (TensorSpec("x", (3,)),), LABELS).inputs
    assert got.mean == pytest.approx(moved.mean(0, dtype=np.float64))
    assert got.std == pytest.approx(moved.std(0, dtype=np.float64), abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "channels"),
    [
        (TensorSpec("x", (64, 2)), 64),
        (TensorSpec("x", (65, 2)), 1),
        (TensorSpec("x", (3, 2), variable=True), 1),
        (TensorSpec("x", (3,), "int64"), 1),
        (TensorSpec("x", ()), 1),
    ],
    ids=str,
)
def test_an_input_without_an_axis_of_channels_counts_as_one(spec: TensorSpec, channels: int) -> None:
    x = np.arange(2 * np.prod(spec.shape, dtype=int)).reshape(2, *spec.shape).astype(spec.dtype)
    (got,) = facts_of(ArraySource(x, np.zeros(2, int)), (spec,), LABELS).inputs
    assert len(got.mean) == channels and got.whole_mean == pytest.approx(x.mean())


def test_names_and_what_was_passed_over_are_found_through_what_stands_around_the_source() -> None:
    named: Source = Named(np.zeros((4, 2, 4, 4), np.float32), np.zeros(4, int))
    inside = Subset(Checked(named, IMAGES, LABELS), np.arange(2))
    facts = facts_of(inside, IMAGES, LABELS)
    assert facts.class_names == ("apple", "pear", "cherry") and facts.inputs[0].stored_dtype == "float32"
    assert str(facts.skipped) == "2 hidden (first: a/.x), 1 not an image (first: b/y.txt)"
    assert (facts.skipped.count, skipped_of(named)) == (3, facts.skipped)


def test_where_a_label_is_no_class_there_are_no_class_names() -> None:
    named = Named(np.zeros((1, 2, 4, 4), np.float32), np.zeros((1, 5), int))
    assert class_names_of(named) and facts_of(named, IMAGES, LabelSpec((5,))).class_names == ()


@pytest.mark.parametrize("given", [None, "abc", (1, 2), print])
def test_what_is_no_list_of_texts_is_no_class_names(given: object) -> None:
    class Odd(ArraySource):
        class_names = given

    assert class_names_of(Odd(np.zeros((1, 1), np.float32), np.zeros(1, int))) == ()
