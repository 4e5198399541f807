"""A language model's losses as a graph: slices of its tokens one after another, so that the logits of all are never
there at once.

Shape suffixes: B sequences, T positions, N = B * T, S tokens of a slice, C slices, H width of a hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from heron_core.models.tasks.token_logits import PerToken, TokenLogits, tokens_of_a_slice


def in_slices(outputs: Tensor, head: nn.Module) -> Tensor:
    """What `head` gives: token logits, whose losses a graph then computes by a loop; others as they are."""
    if not isinstance(outputs, TokenLogits):
        return outputs
    return cast(Tensor, ScannedLogits(outputs.hidden_BTH, outputs.unembed, outputs.vocabulary, head))


@dataclass(frozen=True)
class ScannedLogits(TokenLogits):
    """Token logits whose losses are a loop over slices of all positions, those that do not count too."""

    head: nn.Module
    """`unembed` uses its parameters as they are now."""

    def spread(self, counted_BT: Tensor, per_token: PerToken, labels_BT: Tensor) -> Tensor:
        """As its parent's, which leaves out what does not count."""
        from torch._higher_order_ops.scan import scan_op  # nothing public makes ONNX's Scan

        labels_N = torch.where(counted_BT, labels_BT, torch.zeros_like(labels_BT)).reshape(-1)
        hidden_NH = self.hidden_BTH.reshape(-1, self.hidden_BTH.shape[-1])
        count, size = labels_N.shape[0], tokens_of_a_slice(self.vocabulary)
        starts_C = torch.arange(0, count, size)
        places_CS = (starts_C[:, None] + torch.arange(size)).clamp(max=count - 1)
        unembedding = _Unembedding(self.head, self.unembed)
        weights = _used(unembedding, hidden_NH[:1])

        def one(none: Tensor, hidden_SH: Tensor, labels_S: Tensor, *given: Tensor) -> list[Tensor]:
            logits_SV = functional_call(unembedding, dict(zip(weights, given, strict=True)), (hidden_SH,))
            return [none.clone(), per_token(logits_SV, labels_S)]

        slices = [hidden_NH[places_CS], labels_N[places_CS]]
        losses_CS = scan_op(one, [torch.zeros(())], slices, tuple(weights.values()))[1]
        losses_BT = losses_CS.reshape(-1)[:count].reshape(labels_BT.shape)
        return torch.where(counted_BT, losses_BT, torch.zeros_like(losses_BT))


class _Unembedding(nn.Module):
    """Hidden states [..., H] to logits [..., V], of a head whose parameters are then its own."""

    def __init__(self, head: nn.Module, unembed: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self._unembed = head, unembed

    def forward(self, hidden: Tensor) -> Tensor:
        """Float32."""
        return self._unembed(hidden)


def _used(module: nn.Module, given: Tensor) -> Mapping[str, Tensor]:
    """Of its parameters and buffers, those that it computes with."""
    with _Seen() as seen:
        module(given)
    every = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in every.items() if id(tensor) in seen.ids}


class _Seen(TorchFunctionMode):
    """Which tensors operations are given; to ask for an attribute is none."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, function: Callable[..., object], types: object, args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:  # fmt: skip
        """As it is."""
        if getattr(function, "__name__", "") != "__get__":
            self.ids |= {id(each) for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)}
        return function(*args, **(kwargs or {}))
