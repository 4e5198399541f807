"""What the compute side hands to the wire side: one micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


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
    """The cut's tensors [rows, ...] by name, then `labels` int64 [rows]."""
