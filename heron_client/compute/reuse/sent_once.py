"""Which of a client's samples the server has, so that they travel by their numbers alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heron_client.compute.reuse.sketches import Sketches
from heron_core.arrays import Array
from heron_core.errors import BadReply
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.versions import as_told, digest


class SentOnce:
    """Of one round. The server says at its beginning what it has, before that it has none; what is sent after that, it
    has too."""

    def __init__(self, numbering: bytes, samples: int, sketches: Sketches | None = None, before: int = 0) -> None:
        """`numbering`: names the numbers 0 to `samples` - 1 that this client's samples have. `sketches`: of what was
        sent, where that may be sent again; `before`: this client's uploads in earlier rounds."""
        self._numbering, self.samples = numbering, samples
        self._sketches, self._before = sketches, before
        self._held: NDArray[np.bool_] = np.zeros(samples, dtype=bool)
        self._heard = False
        self._received = 0
        """Uploads of the round that the server had at its beginning."""
        self._new: list[list[Array]] = []
        self._lacking: list[NDArray[np.bool_]] = []
        self._rows = 0

    @property
    def tolerates(self) -> bool:
        """Does an upload say which of its rows it brings?"""
        return self._sketches is not None

    def sign(self, opening: pb.FrameHeader) -> None:
        """Names the numbering to the server."""
        opening.numbering, opening.samples = self._numbering, self.samples
        if self._sketches is not None:
            opening.kept = digest(as_told(self._sketches.sent))

    def hear(self, received: int, held: bytes) -> None:
        """What the first Position of the round says; a later one tells nothing new. BadReply: not of these samples."""
        wanted = -(-self.samples // 8) if self._sketches is None else 4 * self.samples
        if len(held) != wanted and (held or self._sketches is None):
            raise BadReply(
                f"the server must say of each of {self.samples} samples whether it has it, in {wanted} bytes, got "
                f"{len(held)}; check that both sides run the same Heron"
            )
        if not self._heard:
            self._received, self._heard = received, True
            if self._sketches is None:
                bits = np.frombuffer(held, dtype=np.uint8)
                self._held = np.unpackbits(bits, count=self.samples).astype(bool)
            else:
                here = np.frombuffer(held, dtype="<u4") if held else self._sketches.sent
                self._held = self._sketches.agree(here)

    def gather(
        self, sequence: int, numbers_B: NDArray[np.int64], activations: list[Array], labels: Array
    ) -> tuple[list[Array], NDArray[np.bool_]] | None:
        """Takes the next micro-batch of upload `sequence`, and empties its list; after the last, the rows of all that
        the server lacks, in their order: the cut's tensors, then the labels; and which they are. None before."""
        numbers = numbers_B[self._rows : self._rows + len(labels)]
        counts = sequence >= self._received  # else it is there already, perhaps under an earlier process's numbers
        lacking = ~self._held[numbers]
        if self._sketches is not None:
            now = self._sketches.of(activations)
            lacking |= self._sketches.moved(numbers, now)
            if counts:
                self._sketches.put(numbers[lacking], now[lacking], self._before, sequence)
        self._new.append([array[lacking] for array in (*activations, labels)])
        self._lacking.append(lacking)
        activations.clear()
        self._rows += len(labels)
        if self._rows < len(numbers_B):
            return None
        new, which, self._new, self._lacking, self._rows = self._new, self._lacking, [], [], 0
        if counts:
            self._held[numbers_B] = True
        whole = [np.concatenate(arrays) for arrays in zip(*new, strict=True)] if len(new) > 1 else new[0]
        return whole, np.concatenate(which)
