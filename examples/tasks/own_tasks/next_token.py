"""The next character of a sentence, at each of its places.

The data are real: restaurant descriptions of the E2E challenge, the short ones of up to LENGTH characters. They are as
long as they are: a batch is as long as its longest sentence. What crosses the cut are two tensors: hidden states, and a
mask that says which places are sentence and which are padding.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.models import SplitModel, TensorSpec
from heron_core.models.tasks.next_token import NextToken

PADDING, END, OTHER = 0, 1, 2
CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789'.,:;!-£é"
VOCABULARY = 3 + len(CHARACTERS)
LENGTH = 80


def model(width: int = 48) -> SplitModel:
    """A GRU on the client, one block of causal attention on the server."""
    return SplitModel(
        front=lambda: Front(width),
        auxiliary=lambda: Head(width),
        back=lambda: Back(width),
        inputs=(TensorSpec("tokens", (LENGTH,), "int64", variable=True, count=VOCABULARY),),
        activations=(
            TensorSpec("hidden", (LENGTH, width), variable=True),
            TensorSpec("mask", (LENGTH,), "bool", variable=True),
        ),
        task=NextToken(VOCABULARY, LENGTH),
    )


class Front(nn.Module):
    """Token ids [B, T] to hidden states [B, T, H] and the mask [B, T]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        hidden_BTH, _ = self.gru(self.embed(tokens_BT))
        return hidden_BTH, tokens_BT != PADDING


class Head(nn.Module):
    """The auxiliary head: logits [B, T, V] of the hidden states alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, VOCABULARY)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        logits_BTV: Tensor = self.linear(hidden_BTH)
        return logits_BTV


class Back(nn.Module):
    """Each place looks at itself and at those before it that are not padding. Logits [B, T, V]."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.mix, self.last = nn.Linear(width, width), nn.Sequential(nn.LayerNorm(width), nn.Linear(width, VOCABULARY))

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        size, length, width = hidden_BTH.shape
        seen_TT = torch.ones(length, length, dtype=torch.bool, device=hidden_BTH.device).tril()
        queries, keys, values = (
            part.view(size, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm(hidden_BTH)).split(width, dim=2)
        )
        seen_B1TT = (seen_TT & mask_BT[:, None, :])[:, None]
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen_B1TT)
        hidden_BTH = hidden_BTH + self.mix(attended.transpose(1, 2).reshape(size, length, width))
        logits_BTV: Tensor = self.last(hidden_BTH)
        return logits_BTV


class Sentences:
    """Pairs (token ids int64 [T], the id that follows each of them int64 [T])."""

    def __init__(self, sentences: list[str]) -> None:
        self._sentences = sentences

    def __len__(self) -> int:
        return len(self._sentences)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        ids = [CHARACTERS.find(character) + 3 if character in CHARACTERS else OTHER for character in self._sentences[i]]
        return torch.tensor(ids), torch.tensor([*ids[1:], END])


def samples(part: int, parts: int = 2, folder: str = "") -> Sentences:
    """A client's share of the training sentences. `folder`: where train.txt lies, else e2e in $HERON_DATA."""
    return Sentences(_read("train.txt", folder)[part::parts])


def test_samples(folder: str = "", most: int = 200) -> Sentences:
    """The first `most` of the sentences for validation."""
    return Sentences(_read("valid.txt", folder)[:most])


def _read(name: str, folder: str) -> list[str]:
    """The sentence follows `||` on each line."""
    path = (Path(folder) if folder else Path(os.environ["HERON_DATA"]) / "e2e") / name
    sentences = [line.partition("||")[2].strip().lower() for line in path.read_text(encoding="utf-8").splitlines()]
    return [sentence for sentence in sentences if 0 < len(sentence) <= LENGTH]
