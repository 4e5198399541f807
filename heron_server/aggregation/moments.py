"""What Adam's moments can be, whatever the gradients were.

m = (1 - b1) * sum b1^k g_k and v = (1 - b2) * sum b2^k g_k^2 (Kingma and Ba, Adam, ICLR 2015, Algorithm 1), so by the
inequality of Cauchy and Schwarz |m| <= reach * sqrt(v) in every number, with
reach = (1 - b1) / sqrt((1 - b2) * (1 - b1^2 / b2)), 7.27 as Adam is usually set. Weighted means of such m and v keep to
it too. What does not comes of a lie, and where v is near zero it makes a step as long as the liar likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, sqrt

import numpy as np

from heron_core.arrays import Array
from heron_core.spec.optimizer import OptimizerSpec

ROUNDING = 1.01
"""What float32 may add to the reach."""


def reach_of(optimizer: OptimizerSpec) -> float:
    """The most that |m| / sqrt(v) can be; infinite where b1^2 >= b2, for then it grows with the steps."""
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    if beta1**2 >= beta2:
        return inf
    return ROUNDING * (1 - beta1) / sqrt((1 - beta2) * (1 - beta1**2 / beta2))


def within_reach(state: Mapping[str, Array], reach: float) -> dict[str, Array]:
    """The same state; each number of the first moment is cut to +- reach times the root of the second's."""
    if reach == inf or not {"moments.first", "moments.second"} <= set(state):
        return dict(state)
    first, most = state["moments.first"], reach * np.sqrt(state["moments.second"].astype(np.float64))
    return {**state, "moments.first": np.clip(first, -most, most).astype(first.dtype)}
