"""One class out of K for each pixel (semantic segmentation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.labels import IGNORED, LabelSpec
from heron_core.measures import Measured, Metric, pair


@dataclass(frozen=True)
class PerPixel:
    """Cross-entropy, mean over a sample's counted pixels; mean IoU, and the share of pixels that are right.

    Labels int64 [B, H, W] in 0 to classes - 1, or IGNORED.
    """

    classes: int
    height: int
    width: int
    name = "per_pixel"
    metrics = (
        Metric("mean_iou", higher_is_better=True, is_share=True),
        Metric("pixel_accuracy", higher_is_better=True, is_share=True),
    )

    @property
    def labels(self) -> LabelSpec:
        """int64 [H, W]."""
        return LabelSpec((self.height, self.width), count=self.classes, maskable=True)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Logits [K, H, W]."""
        return (self.classes, self.height, self.width)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of logits [B, K, H, W]."""
        losses_BHW = F.cross_entropy(outputs, labels, reduction="none", ignore_index=IGNORED)
        counted_B = (labels != IGNORED).sum(dim=(1, 2)).clamp(min=1)
        return losses_BHW.sum(dim=(1, 2)) / counted_B

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """For each class the pixels that are it and are called so, out of those that are it or are called so."""
        counted = labels != IGNORED
        called, actual = outputs.argmax(dim=1)[counted], labels[counted]
        pairs = torch.bincount(actual * self.classes + called, minlength=self.classes**2)
        confusion = pairs.view(self.classes, self.classes).to("cpu", torch.float64).numpy()
        right = confusion.diagonal()
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
        return {"mean_iou": (right.copy(), union), "pixel_accuracy": pair(float(right.sum()), int(counted.sum()))}
