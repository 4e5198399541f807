"""How far a sample's activations have moved since they were sent, from a kilobyte of them.

A sketch adds up a sample's activations in as many sums as it has numbers; which goes where, and with which sign, is
drawn once for all samples. The squared norm of the difference of two sketches is that of the activations' on average (a
count sketch; Charikar, Chen and Farach-Colton, 2002), with a standard deviation of sqrt(2 / SKETCH) of it, 9 %.
Activations of no more than SKETCH numbers are their own sketch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.streams import direction, generator
from heron_core.wire.versions import SKETCH, VERSIONS, Uploads, Versions


class Sketches:
    """Of one client's samples, as they were sent last and, in an earlier round, before that: a round that is repeated
    begins with what the server had before it."""

    def __init__(self, samples: int, size: int, tolerance: float, seed: int) -> None:
        """`size`: numbers at the cut of one sample."""
        self._tolerance, self._rows = tolerance, -(-size // SKETCH)
        self._signs = direction("rademacher", size, generator(seed, "sketch", "signs"))
        self._order = generator(seed, "sketch", "order").permutation(size)
        self._sketches = np.zeros((VERSIONS, samples, min(size, SKETCH)), dtype=np.float32)
        self._versions = Versions(samples)

    @property
    def sent(self) -> Uploads:
        """Which upload brought each sample last."""
        return self._versions.newest

    def agree(self, here: Uploads) -> NDArray[np.bool_]:
        """What was sent after what the server has is forgotten. For each sample: is the server's what is known here?"""
        self._versions.brought[self._versions.brought > here] = 0
        known: NDArray[np.bool_] = (self.sent == here) & (here > 0)
        return known

    def of(self, activations: Sequence[Array]) -> NDArray[np.float32]:
        """Of each row, float32 [rows, SKETCH or fewer]."""
        flat = [array.reshape(len(array), -1) for array in activations]
        whole = np.concatenate(flat, axis=1, dtype=np.float32)
        if self._rows == 1:
            return whole
        padded = np.zeros((len(whole), self._rows * SKETCH), dtype=np.float32)
        padded[:, : len(self._signs)] = (whole * self._signs)[:, self._order]
        sums: NDArray[np.float32] = padded.reshape(len(whole), self._rows, SKETCH).sum(axis=1)
        return sums

    def moved(self, numbers: NDArray[np.int64], now: NDArray[np.float32]) -> NDArray[np.bool_]:
        """By more than the tolerance since they were sent; also where they are not finite."""
        before = self._sketches[self._versions.where(numbers), numbers]
        with np.errstate(over="ignore", invalid="ignore"):
            return ~(_norms(now - before) <= self._tolerance * _norms(before))

    def put(self, numbers: NDArray[np.int64], now: NDArray[np.float32], before: int, upload: int) -> None:
        """They are sent with this upload of the round; `before`: uploads of earlier rounds."""
        version = self._versions.room(numbers, before)
        self._sketches[version, numbers] = now
        self._versions.brought[version, numbers] = before + upload + 1


def _norms(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    return norms
