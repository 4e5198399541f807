"""One class out of K for each sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.labels import LabelSpec
from heron_core.measures import Measured, Metric, pair


@dataclass(frozen=True)
class Classification:
    """Softmax cross-entropy; accuracy. Labels int64 [B] in 0 to classes - 1."""

    classes: int
    name = "classification"
    metrics = (Metric("accuracy", higher_is_better=True, is_share=True),)

    @property
    def labels(self) -> LabelSpec:
        """int64 []."""
        return LabelSpec(count=self.classes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Logits [K]."""
        return (self.classes,)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of logits [B, K] and labels [B]."""
        return F.cross_entropy(outputs, labels, reduction="none")

    def losses_with_prior(self, outputs: Tensor, labels: Tensor, log_prior_K: Tensor) -> Tensor:
        """Of logits [B, K] + log_prior_K: what the data's class shares explain is not learned.  arXiv 2007.07314."""
        return self.losses(outputs + log_prior_K, labels)

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """Samples whose largest logit is the label's, out of all."""
        return {"accuracy": pair(int((outputs.argmax(dim=1) == labels).sum()), len(labels))}
