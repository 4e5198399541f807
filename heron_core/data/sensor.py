"""The edge's own sensor: what it makes of an experiment's images, batch by batch; nothing is copied beforehand.

NumPy only. Images are float32 [B, C, H, W] in 0 to 1. Each operation rounds once and works on one pixel, or one
sample, by itself, so an image has the same bits in any batch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from heron_core.data.source import Images, Transform
from heron_core.errors import DataError
from heron_core.streams import generator

if TYPE_CHECKING:
    from heron_core.spec.data import SensorSpec

Half = Literal["train", "test"]
MIDDLE = np.float32(0.5)


class Sensor:
    """`spec` for images of `channels`. DataError: a number for each channel is given, and they are more or fewer."""

    def __init__(self, spec: SensorSpec, seed: int, channels: int) -> None:
        if len(spec.brightness) > 1 and len(spec.brightness) != channels:
            raise DataError(
                f"data.sensor.brightness needs one number, or one for each of {channels} channels, "
                f"got {len(spec.brightness)}; mend the list"
            )
        self._spec, self._seed = spec, seed

    def of(self, half: Half) -> Transform:
        """What it makes of the samples of that half."""
        return partial(self._see, half)

    def _see(self, half: Half, x_BCHW: Images, indices_B: NDArray[np.int64]) -> Images:
        spec = self._spec
        seen = _blurred(x_BCHW, spec.blur) if spec.blur else x_BCHW
        if spec.contrast != 1.0:
            seen -= MIDDLE
            seen *= np.float32(spec.contrast)
            seen += MIDDLE
        if spec.brightness:
            seen += np.asarray(spec.brightness, dtype=np.float32).reshape(-1, 1, 1)
        if spec.noise:
            for image, index in zip(seen, indices_B, strict=True):
                rng = generator(self._seed, "sensor", half, int(index))
                image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(spec.noise)
        return np.clip(seen, 0, 1, out=seen)


def _blurred(x_BCHW: Images, reach: int) -> Images:
    """Means over squares of side 2 * reach + 1, the image's edge repeated outward; rows first, then columns."""
    for axis in (2, 3):
        ends = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(x_BCHW, ends, mode="edge")
        size = x_BCHW.shape[axis]
        total = np.zeros_like(x_BCHW)
        for start in range(2 * reach + 1):
            total += padded.take(range(start, start + size), axis=axis)
        total /= np.float32(2 * reach + 1)
        x_BCHW = total
    return x_BCHW
