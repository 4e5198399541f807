"""What every activation codec must keep, those of Heron and two toys alike."""

from __future__ import annotations

import numpy as np
import pytest
from toy_codecs import TOYS

from heron_core.arrays import Array, TensorSpec, length_of
from heron_core.wire.activation_codec import CODECS, TRAVEL_AS, ActivationCodec, codec_for, floating
from heron_core.wire.codec import CODES, expected_batch, expected_of

ALL = {**CODECS, **TOYS}
NEAR = {"raw": 0.0, "half": 1e-3, "bytes": 1.0 / 255}
"""Of a number's own size, or of its sample's range, whichever is coarser."""
SPECS = (
    TensorSpec("hidden", (7, 3), variable=True), TensorSpec("mask", (7,), "bool", variable=True),
    TensorSpec("ids", (), "int64", count=9), TensorSpec("image", (2, 4, 4)),
)  # fmt: skip
ROWS, LENGTH = 6, 5


def batch() -> list[Array]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((ROWS, LENGTH, 3)).astype(np.float32), rng.random((ROWS, LENGTH)) < 0.5,
        rng.integers(0, 9, ROWS), np.zeros((ROWS, 2, 4, 4), np.float32),
    ]  # fmt: skip


def made(shape: tuple[int, ...], dtype: str) -> Array:
    """Uninitialised memory may hold anything."""
    out: Array = np.empty(shape, dtype)
    out.view(np.uint8)[...] = 0xFF
    return out


@pytest.fixture(params=ALL)
def named(request: pytest.FixtureRequest) -> tuple[str, ActivationCodec]:
    return request.param, ALL[request.param]


Named = tuple[str, ActivationCodec]


def test_what_travels_is_what_was_promised_and_the_wire_carries_it(named: Named) -> None:
    _, codec = named
    specs, encoded = codec.travels(SPECS), codec.encode(batch())
    promised = expected_batch(specs, ROWS, LENGTH)
    assert expected_of(dict(zip([spec.name for spec in specs], encoded, strict=True))) == promised
    assert len({name for name, _, _ in promised}) == len(promised) and {dtype for _, dtype, _ in promised} <= set(CODES)
    assert length_of(SPECS, batch()) == LENGTH
    assert codec.travels(()) == () and codec.encode([]) == []


def test_what_is_decoded_is_near_what_was_encoded_and_integers_are_the_same(named: Named) -> None:
    name, codec = named
    given = batch()
    decoded = codec.decode(codec.encode(given), SPECS, made)
    assert all(spec.fits(array) for spec, array in zip(SPECS, decoded, strict=True))
    for spec, before, after in zip(SPECS, batch(), decoded, strict=True):
        if spec.is_floating:
            assert np.abs(before - after).max() <= NEAR[name] * max(1.0, float(np.ptp(before)))
        else:
            assert np.array_equal(before, after)
    assert all(np.array_equal(now, before) for now, before in zip(given, batch(), strict=True)), "it wrote what it got"


def test_each_sample_is_encoded_by_itself(named: Named) -> None:
    _, codec = named
    whole = codec.encode(batch())
    for rows in (slice(0, 2), slice(2, 5), slice(5, 6)):
        alone = codec.encode([array[rows] for array in batch()])
        assert all(np.array_equal(all_of[rows], part) for all_of, part in zip(whole, alone, strict=True))


def test_raw_hands_on_the_arrays_themselves_in_new_lists() -> None:
    given, raw = batch(), CODECS["raw"]
    encoded = raw.encode(given)
    decoded = raw.decode(encoded, SPECS, made)
    assert all(a is b is c for a, b, c in zip(given, encoded, decoded, strict=True))
    assert encoded is not given and decoded is not encoded, "whoever empties one list keeps the other"


def test_raw_is_how_everything_travels() -> None:
    assert TRAVEL_AS == {"uploads": "raw", "evaluation": "raw", "cut_gradients": "raw"}
    assert all(codec_for(purpose) is CODECS["raw"] for purpose in TRAVEL_AS)


def test_gradients_come_back_for_floats_alone() -> None:
    assert [spec.name for spec in floating(SPECS)] == ["hidden", "image"]
