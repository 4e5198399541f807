"""Tiny decoders, as folders that transformers wrote, and sentences of token ids for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from heron_core.labels import IGNORED
from heron_core.models.language.loading import quiet_library

VOCABULARY, LENGTH, BLOCKS = 61, 12, 4
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "tie_word_embeddings": True,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY, "n_embd": 16, "n_layer": BLOCKS, "n_head": 2, "n_positions": 32,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SPEC: dict[str, Any] = {
    "name": "causal_lm", "base": "tiny", "cut": "2", "trainable": "lora", "lora_rank": 2,
    "language": {"length": LENGTH, "auxiliary_rank": 3},
}  # fmt: skip


def write_decoder(folder: Path, kind: str = "llama", **settings: Any) -> Path:
    """A model of this kind with weights large enough that its logits are no accident of rounding."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    config = configuration(kind, **settings)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    with quiet_library():
        model.save_pretrained(folder)
    return folder


def configuration(kind: str, **settings: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **{**(GPT2 if kind == "gpt2" else LLAMA), **settings})


class Sentences:
    """Each token is the one before it, or the next number; the first third is a prompt that does not count."""

    def __init__(self, part: int, count: int) -> None:
        self._part, self._count = part, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self._part, i])
        length = int(rng.integers(5, LENGTH + 1))
        ids = (rng.integers(3, VOCABULARY) + np.cumsum(rng.integers(0, 2, length + 1))) % VOCABULARY
        tokens, labels = torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:].copy())
        labels[: length // 3] = IGNORED
        return tokens, labels


def samples(part: int, count: int = 24) -> Sentences:
    """A client's."""
    return Sentences(part, count)


def test_samples(count: int = 16) -> Sentences:
    """The server's."""
    return Sentences(99, count)


test_samples.__test__ = False  # type: ignore[attr-defined]
