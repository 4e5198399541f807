"""The edge's own sensor: free where it is plain, the same bits for a sample whenever it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron_core.data import ArraySource, Normalisation, load_experiment
from heron_core.data.sensor import Sensor
from heron_core.errors import DataError
from heron_core.spec.data import DataSpec, SensorSpec

IMAGES = np.random.Generator(np.random.Philox(0)).random((6, 3, 8, 8), dtype=np.float32)
ALL = np.arange(6)


def seen(half: Any = "train", seed: int = 0, rows: Any = ALL, **spec: Any) -> np.ndarray[Any, Any]:
    transform = Sensor(SensorSpec.model_validate(spec), seed, 3).of(half)
    return ArraySource(IMAGES, np.zeros(6, np.int64), transform=transform).batch(np.asarray(rows))[0][0]


def test_contrast_is_about_the_middle_and_brightness_is_added_and_clipped() -> None:
    expected = np.clip((IMAGES - 0.5) * np.float32(0.2) + 0.5 + np.float32(0.3), 0, 1)
    np.testing.assert_allclose(seen(contrast=0.2, brightness=[0.3]), expected, atol=1e-6)
    by_channel = seen(brightness=[0.9, 0.0, -0.9])
    assert by_channel[:, 0].min() >= 0.9 and by_channel[:, 2].max() <= 0.1 + 1e-6 and by_channel.max() <= 1
    assert np.array_equal(by_channel[:, 1], IMAGES[:, 1])


def test_blur_is_the_mean_of_a_square_and_keeps_a_flat_image() -> None:
    blurred = seen(blur=1)
    np.testing.assert_allclose(blurred[0, 0, 3, 4], IMAGES[0, 0, 2:5, 3:6].mean(), rtol=1e-5)
    assert blurred.std() < IMAGES.std()
    flat = Sensor(SensorSpec(blur=3), 0, 1).of("test")(np.full((1, 1, 8, 8), 0.25, np.float32), np.zeros(1, np.int64))
    np.testing.assert_allclose(flat, 0.25, rtol=1e-6)


def test_a_sample_is_seen_the_same_in_any_batch_and_otherwise_in_the_other_half_and_seed() -> None:
    options = {"noise": 0.1, "contrast": 0.5, "blur": 1}
    whole = seen(**options)
    assert np.array_equal(seen(rows=[4, 1], **options), whole[[4, 1]])
    assert not np.array_equal(seen("test", **options), whole) and not np.array_equal(seen(seed=1, **options), whole)
    assert seen(noise=0.1).std(axis=0).min() > 0


def test_uint8_images_are_seen_before_they_are_normalised_and_the_source_keeps_its_own() -> None:
    x = (IMAGES * 255).astype(np.uint8)
    before = x.copy()
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    flat = Sensor(SensorSpec(contrast=0.0), 0, 3).of("train")
    assert np.all(ArraySource(x, np.zeros(6, np.int64), normalisation, flat).batch(ALL)[0][0] == 0)
    assert np.array_equal(x, before)


def test_the_plain_sensor_is_none_and_another_sees_both_halves() -> None:
    pytest.importorskip("sklearn")
    plain, same, dark = (
        load_experiment(DataSpec(sensor=s), 0) for s in (SensorSpec(), SensorSpec(contrast=1.0), SensorSpec(contrast=0))
    )
    rows = np.arange(30)
    for half in ("train", "test"):
        assert np.array_equal(getattr(plain, half).batch(rows)[0][0], getattr(same, half).batch(rows)[0][0])
        assert np.all(getattr(dark, half).batch(rows)[0][0] == 0.5)


def test_numbers_for_other_channels_than_there_are_are_refused() -> None:
    with pytest.raises(DataError, match="one for each of 1 channels, got 3"):
        load_experiment(DataSpec(sensor=SensorSpec(brightness=(0.1, 0.2, 0.3))), 0)
