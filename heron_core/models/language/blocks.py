"""The blocks of a decoder, whatever its family: found, made hollow, listened to.

A hollow block keeps its attributes, such as its kind of attention, and loses its parts; the model around it runs as it
always does. What is assumed: one list of the model's blocks; the hidden state is a block's first argument and its first
output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from heron_core.errors import ModelError
from heron_core.models.language.library import Decoder, Given, Output
from heron_core.models.language.loading import num_blocks


def blocks_of(model: Decoder) -> tuple[str, nn.ModuleList]:
    """The list of its blocks, and its name. ModelError: there is none, or several could be meant."""
    wanted = num_blocks(model.config)
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == wanted}
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    if len(outer) != 1:
        raise ModelError(
            f"a cut needs a model with one list of its {wanted} blocks, {type(model).__name__} has "
            f"{', '.join(outer) or 'none'}; take another model"
        )
    return next(iter(outer.items()))


def hidden_of(output: Output) -> Tensor:
    """The hidden state [B, T, H] in what a block gives."""
    hidden: Tensor = output[0] if isinstance(output, tuple | list) else output
    return hidden


def with_hidden(output: Output, hidden: Tensor) -> Output:
    """What a block gave, with this hidden state in place of its own."""
    return (hidden, *output[1:]) if isinstance(output, tuple | list) else hidden


def with_first(
    given: tuple[Given, ...], named: dict[str, Given], hidden: Tensor
) -> tuple[tuple[Given, ...], dict[str, Given]]:
    """A block's arguments, with this hidden state in place of the first."""
    return ((hidden, *given[1:]), named) if given else (given, {**named, "hidden_states": hidden})


def decoder_of(model: Decoder) -> Decoder:
    """What a causal language model is without its unembedding: it gives the last hidden state."""
    found = model.get_decoder()
    return model.base_model if found is None or found is model else found


class _Seen(Exception):
    """Ends a pass that has shown what it was for."""


@torch.inference_mode()
def output_of(model: Decoder, block: nn.Module) -> Output:
    """What this block gives in a pass over one token, which ends there: to see what it is made of."""
    seen: list[Output] = []

    def look(_block: nn.Module, _given: tuple[Given, ...], output: Output) -> None:
        seen.append(output)
        raise _Seen

    hook = block.register_forward_hook(look)
    try:
        decoder_of(model)(input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=False)
    except _Seen:
        pass
    finally:
        hook.remove()
    return seen[-1]


@lru_cache(maxsize=1)
def _decoded() -> type[Output]:
    """The class of what a decoder gives, of which all but the hidden state is None."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Decoded(BaseModelOutputWithPast):
        def __getattr__(self, name: str) -> None:
            return None

    return Decoded


@contextmanager
def giving(decoder: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside, the decoder computes nothing and gives this hidden state [B, T, H] as its last."""

    def forward(*args: Given, **kwargs: Given) -> Output:
        return _decoded()(last_hidden_state=hidden)

    decoder.forward = forward
    try:
        yield
    finally:
        del decoder.forward


def hollow(block: nn.Module, like: Output) -> None:
    """Takes its modules, parameters and buffers; its forward gives what it is given, in the form of `like`."""
    block._modules.clear()
    block._parameters.clear()
    block._buffers.clear()
    block.forward = partial(_passed_on, like)


def _passed_on(like: Output, *args: Given, **kwargs: Given) -> Output:
    return with_hidden(like, args[0] if args else kwargs["hidden_states"])
