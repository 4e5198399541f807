"""Front, auxiliary head and back of a decoder: ordinary models of transformers, with hooks at the cut.

The front is the model's first n blocks. Head and back are models whose first n blocks are hollow: what comes over the
cut takes the place of the hidden state there. Their state is the adapters alone: the backbone is in the folder on
either side.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn

from heron_core.models.adapt.per_sample import AdapterMatrix
from heron_core.models.language.blocks import (
    blocks_of,
    decoder_of,
    giving,
    hidden_of,
    hollow,
    output_of,
    with_first,
    with_hidden,
)
from heron_core.models.language.library import Decoder, Given, Output
from heron_core.models.tasks.token_logits import TokenLogits


class LanguagePart(nn.Module):
    """A model of transformers of which some parameters train. Once `seal` was called, these alone are its state, and
    copies of it share all others."""

    def __init__(self, lm: Decoder) -> None:
        super().__init__()
        self.lm, self.path = lm, blocks_of(lm)[0]
        self.frozen: tuple[str, ...] = ()
        """Names of what is not part of the state."""

    @property
    def blocks(self) -> list[nn.Module]:
        """In their order."""
        return list(self.lm.get_submodule(self.path))

    def seal(self) -> Self:
        """After the last change of its modules: what has no gradient now is frozen."""
        moving = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        self.frozen = tuple(name for name in self.state_dict() if name not in moving)
        self.register_state_dict_post_hook(_without_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_frozen_may_be_missing)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Given]) -> Self:
        """A copy with adapters of its own, over the same backbone."""
        moving = {name for name, _ in self.named_parameters()} - set(self.frozen)
        memo.update({id(p): p for name, p in self.named_parameters() if name not in moving})
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(deepcopy(self.__dict__, memo))
        return made


class Front(LanguagePart):
    """Token ids [B, T] to the hidden state [B, T, H] after the model's last block, float32."""

    def __init__(self, lm: Decoder) -> None:
        """`lm`: the model with the front's blocks alone."""
        super().__init__(lm)
        self._hidden: Tensor | None = None
        self.embedding: LowRankMap | None = None
        self.blocks[-1].register_forward_hook(self._keep)

    def map_embedding(self, rank: int, scale: float) -> None:
        """From now on the blocks are given e + scale B A e, which trains, of each token's embedding e. What the model
        uses the embedding's weight for otherwise, such as its unembedding, stays as it is."""
        layer = self.lm.get_input_embeddings()
        self.embedding = LowRankMap(layer.embedding_dim, rank, scale)
        layer.register_forward_hook(self._embedded)

    def _embedded(self, _layer: nn.Module, _given: tuple[Given, ...], embedded_BTE: Tensor) -> Tensor:
        assert self.embedding is not None
        mapped: Tensor = self.embedding(embedded_BTE)
        return mapped

    def _keep(self, _block: nn.Module, _given: tuple[Given, ...], output: Output) -> None:
        self._hidden = hidden_of(output)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """What crosses the cut."""
        decoder_of(self.lm)(input_ids=tokens_BT, use_cache=False)
        hidden_BTH, self._hidden = self._hidden, None
        assert hidden_BTH is not None
        return hidden_BTH.float()


class Tail(LanguagePart):
    """The hidden state [B, T, H] at the cut to the logits, in the form of what they are made of."""

    def __init__(self, lm: Decoder, hollow_blocks: int, map_rank: int = 0) -> None:
        """`map_rank` > 0: a low-rank map h + B A h, which trains, before the final norm."""
        super().__init__(lm)
        self._given: Tensor | None = None
        self.map = LowRankMap(self._width(), map_rank) if map_rank else None
        blocks = self.blocks
        self._like = output_of(lm, blocks[hollow_blocks - 1])
        for block in blocks[:hollow_blocks]:
            hollow(block, self._like)
        if hollow_blocks < len(blocks):
            blocks[hollow_blocks].register_forward_pre_hook(self._in_place, with_kwargs=True)
        else:
            blocks[-1].register_forward_hook(self._as_output)
        if self.map is not None:
            blocks[-1].register_forward_hook(self._mapped)

    def _width(self) -> int:
        return int(self.lm.config.get_text_config().hidden_size)

    def _in_place(self, _block: nn.Module, given: tuple[Given, ...], named: dict[str, Given]) -> Given:
        assert self._given is not None
        return with_first(given, named, self._given)

    def _as_output(self, _block: nn.Module, _given: tuple[Given, ...], _output: Output) -> Given:
        assert self._given is not None
        return with_hidden(self._like, self._given)

    def _mapped(self, _block: nn.Module, _given: tuple[Given, ...], output: Output) -> Given:
        assert self.map is not None
        return with_hidden(output, self.map(hidden_of(output)))

    def forward(self, hidden_BTH: Tensor) -> TokenLogits:
        """Logits, which their reader computes."""
        embedding = self.lm.get_input_embeddings().weight
        nothing = torch.zeros(*hidden_BTH.shape[:2], embedding.shape[1], dtype=embedding.dtype, device=embedding.device)
        self._given = hidden_BTH.to(embedding.dtype)
        try:
            last_BTH = decoder_of(self.lm)(inputs_embeds=nothing, use_cache=False)[0]
        finally:
            self._given = None
        return TokenLogits(last_BTH, self.unembed, int(self.lm.config.get_text_config().vocab_size))

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of what the decoder gives [..., H]: what the model does after it, a scale or a cap too."""
        decoder, flat = decoder_of(self.lm), hidden.reshape(1, -1, hidden.shape[-1])
        with giving(decoder, flat):
            logits: Tensor = self.lm(inputs_embeds=flat, use_cache=False).logits
        return logits.float().reshape(*hidden.shape[:-1], logits.shape[-1])


class LowRankMap(nn.Module):
    """h + scale B A h, float32; B begins at zero, so it begins as nothing."""

    def __init__(self, width: int, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.down, self.up = AdapterMatrix(width, rank, bias=False), AdapterMatrix(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden_BTH: Tensor) -> Tensor:
        """[B, T, H] to the same."""
        added: Tensor = self.up(self.scale * self.down(hidden_BTH.float()))
        return hidden_BTH + added.to(hidden_BTH.dtype)


def _without_frozen(part: nn.Module, state: dict[str, Tensor], prefix: str, _local: Given) -> None:
    assert isinstance(part, LanguagePart)
    for name in part.frozen:
        state.pop(f"{prefix}{name}", None)


def _frozen_may_be_missing(part: nn.Module, found: Given) -> None:
    assert isinstance(part, LanguagePart)
    found.missing_keys[:] = [name for name in found.missing_keys if not name.endswith(part.frozen)]
