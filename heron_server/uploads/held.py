"""Which of one client's samples need not come again: those that are kept, and those that have come in this round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import TensorError

Held = NDArray[np.bool_]
"""[samples]: is it here?"""
Kept = Callable[[bytes, int], Held]
"""(numbering, samples) -> what is kept of them. TensorError: there is no room for so many."""
NUMBERING_BYTES = 16
MOST_SAMPLES = 1 << 23
"""Of one client: their bits in a Position are 1 MiB."""


class SamplesHere:
    """Of one client in one round. The worker keeps samples in the order of uploads, and this runs ahead of it: what is
    promised to the client here will be kept by the time that an upload refers to it."""

    def __init__(self, client: str, kept: Kept) -> None:
        self._client, self._kept = client, kept
        self.numbering = b""
        """Under which its samples have their numbers; empty before the first opening."""
        self._held: Held = np.zeros(0, dtype=bool)

    @property
    def samples(self) -> int:
        """How many it has in all."""
        return len(self._held)

    def open(self, numbering: bytes, samples: int) -> bytes:
        """A stream begins; a bit for each sample that is here. TensorError: no numbering, or no room for so many.

        A client that comes back within the round with another numbering has begun anew, and nothing of it is here.
        """
        if len(numbering) != NUMBERING_BYTES or not 0 < samples <= MOST_SAMPLES:
            raise TensorError(
                f"client {self._client!r}: codec.reuse wants a numbering of {NUMBERING_BYTES} bytes and 1 to "
                f"{MOST_SAMPLES:,} samples, got {len(numbering)} bytes and {samples:,}; set it to false, or check that "
                "both sides run the same Heron"
            )
        if not self.numbering:
            self._held = self._kept(numbering, samples)
        elif numbering != self.numbering:
            self._kept(numbering, samples)  # is there room?
            self._held = np.zeros(samples, dtype=bool)
        elif samples != self.samples:
            raise TensorError(
                f"client {self._client!r}: {self.samples} samples have this numbering, got {samples}; number them anew"
            )
        self.numbering = numbering
        return np.packbits(self._held).tobytes()

    def take(self, numbers_B: Array, new: int, origin: str) -> None:
        """A whole upload of these samples has come, with the activations of `new`. TensorError: others are missing."""
        if numbers_B.min() < 0 or numbers_B.max() >= self.samples or len(np.unique(numbers_B)) < len(numbers_B):
            raise TensorError(
                f"{origin}: its sample numbers must lie in 0..{self.samples - 1}, none twice, got "
                f"{numbers_B.min()}..{numbers_B.max()}, {len(np.unique(numbers_B))} different of {len(numbers_B)}"
            )
        missing = int((~self._held[numbers_B]).sum())
        if missing != new:
            raise TensorError(
                f"{origin}: the server lacks {missing} of its {len(numbers_B)} samples, activations of {new} came; "
                "send those that Position does not hold and that no earlier upload of the round brought"
            )
        self._held[numbers_B] = True
