"""The contract of a task.

Shape suffixes in this room: B samples, K classes (or labels, or values), H and W height and width, T positions,
V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from heron_core.labels import LabelSpec
from heron_core.measures import Measured, Metric


class Task(Protocol):
    """Labels, loss and metrics. A new task is one small class with these members, given to a SplitModel."""

    @property
    def name(self) -> str:
        """As in the settings, such as `classification`."""
        ...

    @property
    def labels(self) -> LabelSpec:
        """What the labels of one sample are."""
        ...

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the head and the back give for one sample of the longest length."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The first is what a run is judged by."""
        ...

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, float32 [B], from outputs [B, *output_shape] and labels [B, ...]."""
        ...

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """The sums behind each of the metrics, over these samples."""
        ...


@runtime_checkable
class TakesPrior(Protocol):
    """What a task of one class a sample can do besides, for method.logit_adjustment."""

    def losses_with_prior(self, outputs: Tensor, labels: Tensor, log_prior_K: Tensor) -> Tensor:
        """As `losses`, of outputs to which the log of a data set's class shares is added.  arXiv 2007.07314."""
        ...
