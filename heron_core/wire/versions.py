"""Which of a client's uploads brought what is kept of each sample, counted alike on both sides.

Where activations move, what a round brings must not hide what was there before it: if the round is repeated, it begins
with that. So two versions of each sample are kept, from different rounds.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

VERSIONS = 2
"""Of each sample's activations, where they move."""
SKETCH = 256
"""Numbers of float32 that a client keeps of each of them at most."""

Uploads = NDArray[np.uint32]
"""A client's uploads, counted over the run's rounds from 1; 0: none."""


def as_told(newest: Uploads) -> bytes:
    """Of each sample which upload brought it, as it travels."""
    return newest.astype("<u4").tobytes()


def digest(told: bytes) -> bytes:
    """Of what is told of all samples: 16 bytes."""
    return blake2b(told, digest_size=16).digest()


class Versions:
    """Of one client's samples."""

    def __init__(self, samples: int, count: int = VERSIONS) -> None:
        self.brought: Uploads = np.zeros((count, samples), dtype=np.uint32)
        """[versions, samples]"""

    @property
    def newest(self) -> Uploads:
        """Of each sample; a copy."""
        newest: Uploads = self.brought.max(axis=0)
        return newest

    def where(self, numbers: NDArray[np.integer]) -> NDArray[np.intp]:
        """Which version of these samples is the newest."""
        version: NDArray[np.intp] = self.brought[:, numbers].argmax(axis=0)
        return version

    def room(self, numbers: NDArray[np.integer], before: int) -> NDArray[np.intp]:
        """Which version gives way to what an upload of this round brings, with `before` uploads in earlier rounds."""
        brought = self.brought[:, numbers]
        version: NDArray[np.intp] = np.where(
            brought.max(axis=0) > before, brought.argmax(axis=0), brought.argmin(axis=0)
        )
        return version
