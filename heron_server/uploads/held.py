"""Which of one client's samples need not come again: those that are kept, and those that have come in this round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.wire.labels import NUMBERING_BYTES
from heron_core.wire.versions import Uploads, as_told, digest

Kept = Callable[[bytes, int], Uploads]
"""(numbering, samples) -> which upload brought what is kept of each. TensorError: there is no room for so many."""
MOST_SAMPLES = 1 << 23
"""Of one client: their bits in a Position are 1 MiB."""


class SamplesHere:
    """Of one client in one round. The worker keeps samples in the order of uploads, and this runs ahead of it: what is
    promised to the client here will be kept by the time that an upload refers to it."""

    def __init__(self, client: str, kept: Kept, before: int = 0, *, moving: bool = False) -> None:
        """`before`: uploads of the client in earlier rounds. `moving`: may what is here be sent again?"""
        self._client, self._kept, self._before, self._moving = client, kept, before, moving
        self.numbering = b""
        """Under which its samples have their numbers; empty before the first opening."""
        self._brought: Uploads = np.zeros(0, dtype=np.uint32)

    @property
    def samples(self) -> int:
        """How many it has in all."""
        return len(self._brought)

    def open(self, numbering: bytes, samples: int, known: bytes = b"") -> bytes:
        """A stream begins; what Position says of each sample, nothing where the client has it by its digest, `known`.
        TensorError: no numbering, or no room for so many.

        A client that comes back within the round with another numbering has begun anew, and nothing of it is here.
        """
        if len(numbering) != NUMBERING_BYTES or not 0 < samples <= MOST_SAMPLES:
            raise TensorError(
                f"client {self._client!r}: codec.reuse wants a numbering of {NUMBERING_BYTES} bytes and 1 to "
                f"{MOST_SAMPLES:,} samples, got {len(numbering)} bytes and {samples:,}; set it to false, or check that "
                "both sides run the same Heron"
            )
        if not self.numbering:
            self._brought = self._kept(numbering, samples)
        elif numbering != self.numbering:
            self._kept(numbering, samples)  # is there room?
            self._brought = np.zeros(samples, dtype=np.uint32)
        elif samples != self.samples:
            raise TensorError(
                f"client {self._client!r}: {self.samples} samples have this numbering, got {samples}; number them anew"
            )
        self.numbering = numbering
        if not self._moving:
            return np.packbits(self._brought > 0).tobytes()
        told = as_told(self._brought)
        return b"" if digest(told) == known else told

    def take(
        self, numbers_B: Array, new: int, upload: int, origin: str, sent_B: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], Uploads]:
        """Upload number `upload` of the round has come whole, with the activations of `new` samples: of those in
        `sent_B`, where the client says so. Which came with it, and for each which upload brought it, [B] both.
        TensorError: others are missing."""
        if numbers_B.min() < 0 or numbers_B.max() >= self.samples or len(np.unique(numbers_B)) < len(numbers_B):
            raise TensorError(
                f"{origin}: its sample numbers must lie in 0..{self.samples - 1}, none twice, got "
                f"{numbers_B.min()}..{numbers_B.max()}, {len(np.unique(numbers_B))} different of {len(numbers_B)}"
            )
        lacking_B = self._brought[numbers_B] == 0
        said, lacking = "", int(lacking_B.sum())
        if sent_B is None:
            sent_B = lacking_B
        else:
            missing = int((lacking_B & ~sent_B).sum())
            said = f", {int(sent_B.sum())} were announced and {missing} of the others are not here"
        if (lacking_B & ~sent_B).any() or int(sent_B.sum()) != new:
            raise TensorError(
                f"{origin}: the server lacks {lacking} of its {len(numbers_B)} samples, activations of {new} came"
                f"{said}; send those that Position does not hold and that no earlier upload of the round brought"
            )
        self._brought[numbers_B[sent_B]] = self._before + upload + 1
        return sent_B, self._brought[numbers_B]
