"""A class for each pixel: which pixels of a noisy picture are ink?

The digits are real. The task is derived from them: the input is the digit with noise on every pixel, the label is what
the clean digit shows, ink where it is darker than half. The server has a test set of its own.
"""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from heron_core.models import SplitModel, TensorSpec
from heron_core.models.tasks.per_pixel import PerPixel
from own_tasks.digits import digits

NOISE = 0.35
"""Standard deviation; ink is 1."""
TEST_SAMPLES = 360


def model(width: int = 8) -> SplitModel:
    """Convolutions that keep the picture's size, so that every pixel comes out as two logits: paper and ink."""

    def convolution(incoming: int, outgoing: int) -> list[nn.Module]:
        return [nn.Conv2d(incoming, outgoing, 3, padding=1), nn.GroupNorm(2, outgoing), nn.ReLU()]

    return SplitModel(
        front=lambda: nn.Sequential(*convolution(1, width)),
        auxiliary=lambda: nn.Conv2d(width, 2, 1),
        back=lambda: nn.Sequential(*convolution(width, 16), *convolution(16, 16), nn.Conv2d(16, 2, 1)),
        inputs=(TensorSpec("picture", (1, 8, 8)),),
        activations=(TensorSpec("maps", (width, 8, 8)),),
        task=PerPixel(classes=2, height=8, width=8),
    )


class NoisyDigits:
    """Pairs (picture float32 [1, 8, 8], int64 [8, 8]: 0 for paper, 1 for ink)."""

    def __init__(self, indices: range) -> None:
        self._images, _ = digits()
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        index = self._indices[i]
        image = self._images[index]
        noise = np.random.Generator(np.random.Philox(index)).standard_normal(image.shape)  # the same at every reading
        return (image + NOISE * noise).astype(np.float32), (image[0] > 0.5).astype(np.int64)


def samples(part: int, parts: int = 2) -> NoisyDigits:
    """A client's share of the digits after the first TEST_SAMPLES."""
    return NoisyDigits(range(TEST_SAMPLES + part, 1797, parts))


def test_samples() -> NoisyDigits:
    """The first TEST_SAMPLES."""
    return NoisyDigits(range(TEST_SAMPLES))
