"""The next token at each position of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.labels import IGNORED, LabelSpec
from heron_core.measures import Measured, Metric, pair
from heron_core.models.tasks.token_logits import TokenLogits


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

    def losses(self, outputs: Tensor | TokenLogits, labels: Tensor) -> Tensor:
        """Of logits [B, T, V], or of what they are made of."""
        losses_BT, counted_BT = self._token_losses(outputs, labels), labels != IGNORED
        return losses_BT.sum(dim=1) / counted_BT.sum(dim=1).clamp(min=1)

    def measure(self, outputs: Tensor | TokenLogits, labels: Tensor) -> Measured:
        """Over the counted tokens of all samples alike, however long each is."""
        counted = labels != IGNORED
        count = int(counted.sum())
        loss = pair(float(self._token_losses(outputs, labels).double().sum()), count)
        if isinstance(outputs, TokenLogits):
            right = int(outputs.over(counted, _is_right, labels).sum())
        else:
            right = int(((outputs.argmax(dim=2) == labels) & counted).sum())
        return {"token_loss": loss, "perplexity": loss, "token_accuracy": pair(right, count)}

    def _token_losses(self, outputs: Tensor | TokenLogits, labels: Tensor) -> Tensor:
        """[B, T]; 0 where a position is ignored."""
        if isinstance(outputs, Tensor):
            return F.cross_entropy(outputs.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
        return outputs.spread(labels != IGNORED, _cross_entropy, labels)


def _cross_entropy(logits_nV: Tensor, labels_n: Tensor) -> Tensor:
    """[n]. Without a graph in the logits' own memory: over a large vocabulary a second copy would be the peak.

    The same bits with and without: zeroth order compares losses of both.
    """
    most_n1 = logits_nV.detach().amax(dim=1, keepdim=True)
    right_n1 = logits_nV.gather(1, labels_n[:, None]) - most_n1
    shares_nV = (logits_nV - most_n1).exp() if torch.is_grad_enabled() else logits_nV.sub_(most_n1).exp_()
    return shares_nV.sum(dim=1).log() - right_n1[:, 0]


def _is_right(logits_nV: Tensor, labels_n: Tensor) -> Tensor:
    return logits_nV.argmax(dim=1) == labels_n
