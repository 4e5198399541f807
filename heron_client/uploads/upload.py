"""What the compute side hands to the wire side, one micro-batch, and what may come back."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.arrays import Array
from heron_core.wire.codec import Expected

CutGradients = tuple[float, list[Array]]
"""The server's mean loss of a whole upload, and its gradient at the cut, as it travels."""


@dataclass(frozen=True)
class Upload:
    """One micro-batch on its way to the server."""

    sequence: int
    """Micro-batches before this one in the round."""
    step: int
    """Upload within the round, from 0."""
    row_start: int
    batch_rows: int
    tensors: dict[str, Array]
    """What travels, by name: the cut's tensors [rows, ...] encoded, then `labels` [rows, ...]."""
    gradients: Expected = ()
    """What comes back for the whole upload, encoded, within the same local step; nothing: it does not wait."""
    length: int = 0
    """Of the sequences at the cut, where they vary in length."""

    @property
    def wants_gradients(self) -> bool:
        """Does the local step wait for this upload's cut gradients?"""
        return len(self.gradients) > 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())
