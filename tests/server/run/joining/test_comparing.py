"""What two sides say of their data: another scale is refused, other cameras and other people are not."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data.facts import DataFacts, InputFacts, facts_of
from heron_core.data.source import OWN_PIXELS, ArraySource
from heron_core.labels import LabelSpec
from heron_server.run.joining.comparing import Doubt, doubts

RNG = np.random.default_rng(3)
PHOTOS = np.clip(RNG.normal(110, 60, (40, 3, 6, 6)), 0, 255).astype(np.uint8)
INPUT = (TensorSpec("x", (3, 6, 6)),)


def facts(x: np.ndarray[object, np.dtype[np.generic]], stored: str = "") -> DataFacts:
    source = ArraySource(x, np.zeros(len(x), np.int64), OWN_PIXELS if x.dtype == np.uint8 else None)
    found = facts_of(source, INPUT, LabelSpec()).inputs[0]
    kept = InputFacts(found.name, stored or x.dtype.name, found.shape, found.looked_at, found.low, found.high,
                      found.mean, found.std)  # fmt: skip
    return DataFacts((), len(x), (kept,))


def doubt(theirs: DataFacts, ours: DataFacts) -> Doubt | None:
    return next(iter(doubts(theirs, ours, "the server's test set")), None)


CLEAN = facts(PHOTOS)
RAW = PHOTOS.astype(np.float32)


@pytest.mark.parametrize(
    ("x", "refuses", "cure"),
    [
        (RAW, True, "store uint8, or save (x / 255 - 0.5) / 0.5"),
        (RAW * 257, True, "save (x / 65535 - 0.5) / 0.5"),
        (RAW / 255, False, "save (x - 0.5) / 0.5"),
        ((RAW - RAW.mean()) / RAW.std(), False, "give both the same unit and scale"),
    ],
    ids=["0..255", "0..65535", "0..1", "standardised"],
)
def test_the_same_pictures_on_another_scale_are_told_with_the_cure(
    x: np.ndarray[object, np.dtype[np.generic]], refuses: bool, cure: str
) -> None:
    found = doubt(facts(x), CLEAN)
    assert found is not None and found.refuses is refuses and f"; {cure}" in found.text
    assert "here and uint8 [3, 6, 6], from -1 to 1, mean -0.1" in found.text


def test_the_cure_is_for_the_other_side_too_where_the_first_client_is_the_odd_one() -> None:
    found = doubt(CLEAN, facts(RAW))
    assert found is not None and found.refuses
    assert "save x.astype(numpy.float32), or let the server's test set be saved as (x / 255 - 0.5) / 0.5" in found.text


def test_other_cameras_and_other_people_pass() -> None:
    darker = np.clip(RAW * 0.75 - 10, 0, 255).astype(np.uint8)
    flatter = np.clip((RAW - 128) * 0.7 + 140, 0, 255).astype(np.uint8)
    for x in (darker, flatter, PHOTOS[:1], 255 - PHOTOS):
        assert doubt(facts(x), CLEAN) is None


@pytest.mark.parametrize(
    ("low", "high", "says", "refuses"),
    [(1000, 1010, "the two ranges do not overlap", True), (0.5, 0.5, "the same value everywhere", False),
     (1.5, 3.5, "standard deviations apart", False)],
)  # fmt: skip
def test_values_that_lie_elsewhere_are_told(low: float, high: float, says: str, refuses: bool) -> None:
    spread = (np.linspace(0, 1, 40 * 108, dtype=np.float32) * (high - low) + low).reshape(40, 3, 6, 6)
    ours = (np.linspace(0, 1, 40 * 108, dtype=np.float32) * 2).reshape(40, 3, 6, 6)
    found = doubt(facts(spread), facts(ours))
    assert found is not None and says in found.text and found.refuses is refuses


def test_what_is_the_same_value_on_both_sides_or_no_input_of_the_other_is_not_compared() -> None:
    flat = np.zeros((4, 3, 6, 6), np.float32)
    assert doubt(facts(flat), facts(flat)) is None
    assert doubt(DataFacts((), 4, ()), CLEAN) is None


def test_integers_have_no_scale() -> None:
    ids = (TensorSpec("ids", (4,), "int64"),)
    x = np.arange(12, dtype=np.int64).reshape(3, 4)
    known = facts_of(ArraySource(x, np.zeros(3, np.int64)), ids, LabelSpec())
    assert len(known.inputs) == 1 and known.comparable(ids).inputs == ()
