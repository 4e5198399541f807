"""Which uploads the back is not trained on, because their loss is far above what those of other clients have."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

import numpy as np
from torch import Tensor

from heron_core.arrays import Array

RECENT = 4
"""Losses that are remembered of each client."""
FEWEST = 6
"""Losses of others without which nobody is judged."""
NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""
LEAST_SPREAD = 0.1
"""Of the median: where all others are alike, a little more is not yet an outlier."""


class RecentLosses:
    """A client is measured by the others alone: its own losses, however many it sends, never excuse it."""

    def __init__(self, factor: float) -> None:
        """`factor`: so many standard deviations above the others' median is an outlier. 0: nobody is one."""
        self._factor = factor
        self._by_rank: dict[int, deque[float]] = {}

    def is_outlier(self, rank: int, loss: Tensor) -> bool:
        """Judges an upload's loss [], before the back's step."""
        others = [value for other, losses in sorted(self._by_rank.items()) if other != rank for value in losses]
        if not self._factor or len(others) < FEWEST:
            return False
        middle = median(others)
        spread = max(NORMAL * median(abs(value - middle) for value in others), LEAST_SPREAD * abs(middle))
        return float(loss.detach()) > middle + self._factor * spread

    def remember(self, rank: int, loss: Tensor) -> None:
        """An upload's loss [], of an outlier too."""
        if self._factor:
            self._by_rank.setdefault(rank, deque(maxlen=RECENT)).append(float(loss.detach()))

    def tensors(self) -> dict[str, Array]:
        """`losses.<rank>`, from the oldest."""
        return {f"losses.{rank}": np.array(losses) for rank, losses in sorted(self._by_rank.items())}

    def load(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`, among others."""
        found = {name: t for name, t in tensors.items() if name.startswith("losses.")}
        self._by_rank = {int(n.partition(".")[2]): deque(t.tolist(), maxlen=RECENT) for n, t in found.items()}
