"""What the compute side hands to the wire side, one micro-batch, and what may come back."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.arrays import Array

CutGradients = tuple[float, list[Array]]
"""The server's mean loss of a whole upload, and its gradient for each of the cut's floating-point tensors [B, ...]."""


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
    """The cut's tensors [rows, ...] by name, then `labels` [rows, ...]."""
    wants_gradients: bool = False
    """Does the next local step wait for this step's cut gradients?"""

    @property
    def expected_gradients(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of what comes back for the whole upload: the cut's floating-point tensors [B, ...]."""
        *cut, _ = self.tensors.items()
        return [(n, a.dtype.name, (self.batch_rows, *a.shape[1:])) for n, a in cut if a.dtype.kind == "f"]

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())
