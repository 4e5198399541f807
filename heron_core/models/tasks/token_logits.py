"""Logits that are computed slice by slice: over a large vocabulary those of a whole batch would be the largest tensor.

Shape suffixes: N tokens that count, of all samples together; H width of a hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PerToken = Callable[[Tensor, Tensor], Tensor]
"""Of logits [n, V] and labels [n]: [n]."""
SLICE_BYTES = 3 << 20
"""Of one slice's logits. A function of shapes only, so that the same run gives the same bits."""


def tokens_of_a_slice(vocabulary: int) -> int:
    """How many tokens' logits are there at once."""
    return max(1, SLICE_BYTES // (4 * vocabulary))


@dataclass(frozen=True)
class TokenLogits:
    """What a head or back of a language model gives in place of its logits [B, T, V]: what they are made of."""

    hidden_BTH: Tensor
    unembed: Callable[[Tensor], Tensor]
    """float32 logits [..., V] of hidden states [..., H], each position by itself."""
    vocabulary: int

    def whole(self) -> Tensor:
        """The logits [B, T, V]."""
        return self.unembed(self.hidden_BTH)

    def spread(self, counted_BT: Tensor, per_token: PerToken, labels_BT: Tensor) -> Tensor:
        """As `over`, each at its own place [B, T]; 0 where none counts."""
        found_N = self.over(counted_BT, per_token, labels_BT)
        return found_N.new_zeros(labels_BT.shape).masked_scatter(counted_BT, found_N)

    def over(self, counted_BT: Tensor, per_token: PerToken, labels_BT: Tensor) -> Tensor:
        """`per_token` of one slice of the counted positions after the other: [N].

        With a graph, a slice's logits are computed again on the way back, so that no two are there at a time.
        """
        hidden_NH, labels_N = self.hidden_BTH[counted_BT], labels_BT[counted_BT]
        pieces = [self._piece(per_token, h, y) for h, y in self._slices(hidden_NH, labels_N)]
        return torch.cat(pieces)

    def _slices(self, hidden_NH: Tensor, labels_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """At least one, empty where no token counts."""
        tokens = tokens_of_a_slice(self.vocabulary)
        return zip(torch.split(hidden_NH, tokens), torch.split(labels_N, tokens), strict=True)

    def _piece(self, per_token: PerToken, hidden_nH: Tensor, labels_n: Tensor) -> Tensor:
        def compute(hidden: Tensor) -> Tensor:
            return per_token(self.unembed(hidden), labels_n)

        if not torch.is_grad_enabled():
            return compute(hidden_nH)
        found: Tensor = checkpoint(compute, hidden_nH, use_reentrant=False)
        return found


def whole(outputs: Any) -> Any:
    """A module's outputs; of `TokenLogits` the logits."""
    return outputs.whole() if isinstance(outputs, TokenLogits) else outputs
