"""Any number of K labels for each sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.labels import LabelSpec
from heron_core.measures import Measured, Metric, Sums


@dataclass(frozen=True)
class MultiLabel:
    """Binary cross-entropy of each label, their mean; macro F1 over the labels at probability 0.5.

    Labels int64 [B, K] of 0 or 1.
    """

    count: int
    name = "multi_label"
    metrics = (Metric("f1", higher_is_better=True, is_share=True),)

    @property
    def labels(self) -> LabelSpec:
        """int64 [K] of 0 or 1."""
        return LabelSpec((self.count,), count=2)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Logits [K]."""
        return (self.count,)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of logits [B, K]."""
        return F.binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype), reduction="none").mean(dim=1)

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """For each label twice its true positives, out of what was predicted plus what is there."""
        found, there = outputs > 0, labels > 0
        hits, predicted, actual = ((each.sum(dim=0)) for each in (found & there, found, there))
        return {"f1": (_sums(2 * hits), _sums(predicted + actual))}


def _sums(counts: Tensor) -> Sums:
    sums: Sums = counts.to("cpu", torch.float64).numpy()
    return sums
