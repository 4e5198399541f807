"""What a cut model must do before it is believed: its parts are the whole, and no position sees a later one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heron_core.errors import ModelError
from heron_core.models.language.library import Decoder
from heron_core.models.language.parts import Front, Tail
from heron_core.own_code import said_by

ROWS, LENGTH = 2, 12
CAUSAL = 1e-3
"""How much an earlier position's logits may move, as a share of their size: the rounding of another batch."""


@torch.inference_mode()
def check_cut(lm: Decoder, front: Callable[[], Front], back: Callable[[], Tail]) -> None:
    """`lm`: the whole model; `front` and `back` build its parts without adapters. ModelError: they are not this, or it
    is not a causal one."""
    kind, tokens_BT = type(lm).__name__, _tokens(int(lm.config.get_text_config().vocab_size))
    try:
        whole_BTV = _logits(lm, tokens_BT)
        cut_BTV = back()(front()(tokens_BT)).whole()
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{kind} cannot be cut after one of its blocks: {said_by(error)}; take another model"
        ) from None
    if not _is_causal(lm, tokens_BT, whole_BTV):
        raise ModelError(
            f"{kind} is not causal: with another last token its earlier logits are others, as in an encoder; take a "
            "decoder, such as Llama, GPT-2, Qwen or Gemma"
        )
    if not torch.equal(cut_BTV, whole_BTV):
        most = float((cut_BTV - whole_BTV).abs().max())
        raise ModelError(
            f"{kind} cut after one of its blocks is not the same model: its logits differ by up to {most:.3g} and must "
            "not at all; take another model"
        )


def _tokens(vocabulary: int) -> Tensor:
    """Ids from all over the vocabulary [2, T]."""
    steps = torch.arange(ROWS * LENGTH) * 7919 + 11
    return (steps % vocabulary).view(ROWS, LENGTH)


def _logits(lm: Decoder, tokens_BT: Tensor) -> Tensor:
    logits: Tensor = lm(input_ids=tokens_BT, use_cache=False).logits
    return logits.float()


def _is_causal(lm: Decoder, tokens_BT: Tensor, logits_BTV: Tensor) -> bool:
    other_BT = tokens_BT.clone()
    other_BT[:, -1] = (other_BT[:, -1] + 1) % int(lm.config.get_text_config().vocab_size)
    moved = (_logits(lm, other_BT) - logits_BTV)[:, :-1].abs().max()
    return bool(moved <= CAUSAL * logits_BTV.abs().max())
