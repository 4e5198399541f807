"""K real values for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from heron_core.labels import LabelSpec
from heron_core.measures import Measured, Metric, pair


@dataclass(frozen=True)
class Regression:
    """Squared error (or absolute error), mean over the values; MSE and MAE. Labels float32 [B, K]."""

    values: int = 1
    loss: Literal["mse", "mae"] = "mse"
    name = "regression"

    @property
    def labels(self) -> LabelSpec:
        """float32 [K]."""
        return LabelSpec((self.values,), "float32")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Values [K]."""
        return (self.values,)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The loss's own error first."""
        both = (Metric("mse", higher_is_better=False), Metric("mae", higher_is_better=False))
        return both if self.loss == "mse" else both[::-1]

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean error over the K values of each sample."""
        error = outputs - labels
        return (error.square() if self.loss == "mse" else error.abs()).flatten(1).mean(dim=1)

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """Errors summed over samples and values, and how many they are."""
        error = (outputs - labels).double()
        count = error.numel()
        return {"mse": pair(float(error.square().sum()), count), "mae": pair(float(error.abs().sum()), count)}
