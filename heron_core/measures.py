"""Metrics as sums that can be added up over batches and clients.  NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.float64]
Measured = Mapping[str, tuple[Sums, Sums]]
"""Metric name -> (numerator, denominator), float64: [] for a plain ratio, [K] for a mean over K classes."""


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation, made of a numerator and a denominator."""

    name: str
    """As in the record of a round, such as `accuracy`."""
    higher_is_better: bool
    is_share: bool = False
    """Between 0 and 1, shown in percent."""
    is_exponential: bool = False
    """The value is e to the ratio, as perplexity is of a token's loss."""

    def value(self, numerator: Sums, denominator: Sums) -> float | None:
        """The mean of numerator / denominator over the places with a denominator; None where there is none."""
        counted = np.asarray(denominator) > 0
        if not counted.any():
            return None
        ratio = float((np.asarray(numerator)[counted] / np.asarray(denominator)[counted]).mean())
        return exponential(ratio) if self.is_exponential else ratio


def exponential(value: float) -> float:
    """e^value; infinite where that is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def pair(numerator: float, denominator: float) -> tuple[Sums, Sums]:
    """A plain ratio's sums."""
    return np.array(numerator, dtype=np.float64), np.array(denominator, dtype=np.float64)


def added(a: Measured, b: Measured) -> Measured:
    """The sums of both; `a` may be empty."""
    return {name: (n + a[name][0], d + a[name][1]) if name in a else (n, d) for name, (n, d) in b.items()}
