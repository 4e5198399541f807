"""A small vision transformer as a split model: 64 patches of an image, six blocks of ViT-Tiny's size in the front.

Legend: B batch, C channels of an image, H its height and width, T tokens, D width.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.models import SplitModel
from heron_core.models.families.stages import Network, Stage
from heron_core.models.tasks.classification import Classification

IMAGE, PATCH, WIDTH, HEADS, BLOCKS, CLASSES = 32, 4, 192, 3, 6, 10
TOKENS = (IMAGE // PATCH) ** 2


def model() -> SplitModel:
    """2.7 million parameters in the front; the head is the tokens' mean and a linear layer, and so is the back."""
    shape = (TOKENS, WIDTH)
    blocks = [Stage(f"block{i}", Block, shape, widest=TOKENS * 4 * WIDTH) for i in range(BLOCKS)]
    stages = [Stage("patches", Patches, shape), *blocks, Stage("fc", Head, (CLASSES,))]
    network = Network(stages, (3, IMAGE, IMAGE), Classification(CLASSES))
    return replace(network.split(blocks[-1].name, "gap_linear", "the transformer"), auxiliary=Head)


class Patches(nn.Module):
    """Images [B, C, H, H] to tokens [B, T, D], with a learned position each."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * PATCH * PATCH, WIDTH)
        self.positions = nn.Embedding(TOKENS, WIDTH)

    def forward(self, x_BCHH: Tensor) -> Tensor:
        side = IMAGE // PATCH
        x = x_BCHH.reshape(-1, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 1, 3, 5)
        tokens_BTD: Tensor = self.linear(x.reshape(-1, TOKENS, 3 * PATCH * PATCH)) + self.positions.weight
        return tokens_BTD


class Block(nn.Module):
    """Attention and two layers, each after a norm and beside its input. [B, T, D] to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x_BTD: Tensor) -> Tensor:
        each = self.qkv(self.norm1(x_BTD)).reshape(-1, TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(each[0], each[1], each[2])
        x_BTD = x_BTD + self.mix(mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH))
        after_BTD: Tensor = x_BTD + self.down(F.gelu(self.up(self.norm2(x_BTD))))
        return after_BTD


class Head(nn.Module):
    """Logits [B, K] of the tokens' mean."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, CLASSES)

    def forward(self, x_BTD: Tensor) -> Tensor:
        logits_BK: Tensor = self.linear(x_BTD.mean(dim=1))
        return logits_BK
