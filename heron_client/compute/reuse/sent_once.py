"""Which of a client's samples the server has, so that they travel by their numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import BadReply
from heron_core.pb.v1 import split_pb2 as pb

NUMBERING_BYTES = 16


class SentOnce:
    """Of one round. The server says at its beginning what it has, before that it has none; what is sent after that, it
    has too."""

    def __init__(self, numbering: bytes, samples: int) -> None:
        """`numbering`: names the numbers 0 to `samples` - 1 that this client's samples have."""
        self._numbering, self.samples = numbering, samples
        self._held: NDArray[np.bool_] = np.zeros(samples, dtype=bool)
        self._heard = False
        self._received = 0
        """Uploads of the round that the server had at its beginning."""
        self._new: list[list[Array]] = []
        self._rows = 0

    def sign(self, opening: pb.FrameHeader) -> None:
        """Names the numbering to the server."""
        opening.numbering, opening.samples = self._numbering, self.samples

    def hear(self, received: int, held: bytes) -> None:
        """What the first Position of the round says; a later one tells nothing new. BadReply: not of these samples."""
        wanted = -(-self.samples // 8)
        if len(held) != wanted:
            raise BadReply(
                f"the server must say of each of {self.samples} samples whether it has it, in {wanted} bytes, got "
                f"{len(held)}; check that both sides run the same Heron"
            )
        if not self._heard:
            bits = np.frombuffer(held, dtype=np.uint8)
            self._held, self._received = np.unpackbits(bits, count=self.samples).astype(bool), received
            self._heard = True

    def gather(
        self, sequence: int, numbers_B: NDArray[np.int64], activations: list[Array], labels: Array
    ) -> list[Array] | None:
        """Takes the next micro-batch of upload `sequence`, and empties its list; after the last, the rows of all that
        the server lacks, in their order: the cut's tensors, then the labels. None before."""
        rows = slice(self._rows, self._rows + len(labels))
        lacking = ~self._held[numbers_B[rows]]
        self._new.append([array[lacking] for array in (*activations, labels)])
        activations.clear()
        self._rows = rows.stop
        if self._rows < len(numbers_B):
            return None
        new, self._new, self._rows = self._new, [], 0
        if sequence >= self._received:  # else it is there already, perhaps under the numbers of an earlier process
            self._held[numbers_B] = True
        return [np.concatenate(arrays) for arrays in zip(*new, strict=True)] if len(new) > 1 else new[0]
