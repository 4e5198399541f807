"""The next token at each position of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.labels import IGNORED, LabelSpec
from heron_core.measures import Measured, Metric, pair


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy, mean over a sample's counted positions; the loss of a token, and perplexity.

    Labels int64 [B, T], T at most `length`: the token that follows each position, IGNORED where none counts.
    """

    vocabulary: int
    length: int
    name = "next_token"
    metrics = (
        Metric("token_loss", higher_is_better=False),
        Metric("perplexity", higher_is_better=False, is_exponential=True),
        Metric("token_accuracy", higher_is_better=True, is_share=True),
    )

    @property
    def labels(self) -> LabelSpec:
        """int64 [T], T up to the longest."""
        return LabelSpec((self.length,), variable=True, count=self.vocabulary, maskable=True)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Logits [T, V]."""
        return (self.length, self.vocabulary)

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of logits [B, T, V]."""
        losses_BT, counted_BT = self._token_losses(outputs, labels), labels != IGNORED
        return losses_BT.sum(dim=1) / counted_BT.sum(dim=1).clamp(min=1)

    def measure(self, outputs: Tensor, labels: Tensor) -> Measured:
        """Over the counted tokens of all samples alike, however long each is."""
        counted = labels != IGNORED
        count = int(counted.sum())
        loss = pair(float(self._token_losses(outputs, labels).double().sum()), count)
        right = int(((outputs.argmax(dim=2) == labels) & counted).sum())
        return {"token_loss": loss, "perplexity": loss, "token_accuracy": pair(right, count)}

    def _token_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """[B, T]; 0 where a position is ignored."""
        return F.cross_entropy(outputs.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
