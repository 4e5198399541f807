"""Low-rank adapters beside the linear layers of a decoder's blocks, by peft: W x + (alpha / r) B A x (Hu et al. 2021).

Every layer keeps its own weight, frozen; A and B are its `lora_A` and `lora_B`, float32 whatever the backbone's dtype.
With LoRA-XS (Balazy et al. 2024) a matrix R [r, r] between them trains alone; it is then `lora_A`'s weight. Besides
these there are low-rank maps: of the head before its final norm, and of a front's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.adapt.per_sample import AdapterMatrix
from heron_core.models.language.library import Decoder
from heron_core.models.language.loading import quiet_library
from heron_core.models.language.parts import LanguagePart


def is_adapter(name: str, *, cores: bool = False) -> bool:
    """Does this parameter of a part train? Such as `front.lm.model.layers.0.self_attn.q_proj.lora_A.default.weight`.
    `cores`: with LoRA-XS."""
    if ".lora_A." in name:
        return name.endswith(".weight")
    return (".lora_B." in name and not cores) or name.startswith(("auxiliary.map.", "front.embedding."))


def add_adapters(part: LanguagePart, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """In the part's blocks, in place, drawn from torch's random state; only they have requires_grad then.

    `targets`: last names of the layers, such as q_proj; none: peft's choice for this kind of model, or else all linear
    layers. ModelError: a target is not there.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = _targets(part, targets)
    if names:
        with quiet_library():
            config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0, bias="none")  # type: ignore[arg-type]
            inject_adapter_in_model(config, part.lm)
    for name, layer in part.lm.named_modules():
        if is_adapter(f"{name}.weight") and type(layer) is nn.Linear:
            layer.__class__ = AdapterMatrix
    for name, parameter in part.lm.named_parameters():
        parameter.requires_grad_(is_adapter(name))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def keep_cores(part: LanguagePart) -> None:
    """Makes LoRA-XS of the part's adapters: of each A and B the frozen singular vectors of the layer's weight, and
    between them R, zero at first."""
    from peft.tuners.lora import LoraLayer

    for layer in [layer for layer in part.lm.modules() if isinstance(layer, LoraLayer)]:
        (name,), rank = layer.lora_A, next(iter(layer.r.values()))
        base: Decoder = layer.get_base_layer()
        weight = base.weight.detach().float()
        down, up = _largest(weight.T if getattr(layer, "fan_in_fan_out", False) else weight, rank)
        layer.lora_A[name] = CoreMatrix(down)
        layer.lora_B[name].weight = nn.Parameter(up, requires_grad=False)


class CoreMatrix(AdapterMatrix):
    """R A x: R [r, r] trains, A [r, in] does not."""

    def __init__(self, down: Tensor) -> None:
        super().__init__(len(down), len(down), bias=False)
        self.down = nn.Parameter(down, requires_grad=False)
        nn.init.zeros_(self.weight)

    def inner(self, x: Tensor) -> Tensor:
        """A x."""
        return F.linear(x, self.down)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., r]."""
        return F.linear(self.inner(x), self.weight)


def _largest(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A = V^T [r, in] and B = U S [out, r] of the weight's largest singular values. Signs are the same everywhere:
    the largest component of each row of A is positive."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    right, left = right[:rank], left[:, :rank]
    signs = right.gather(1, right.abs().argmax(dim=1, keepdim=True)).sign()
    return (right * signs).contiguous(), (left * values[:rank] * signs.T).contiguous()


def _targets(part: LanguagePart, targets: Sequence[str]) -> list[str]:
    """Full names of the layers that get adapters; none where the part has no blocks of its own."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as BY_KIND

    layers = [name for name, layer in part.lm.named_modules() if name.startswith(f"{part.path}.") and _is_linear(layer)]
    if not layers:
        return []
    last = {name.rpartition(".")[2] for name in layers}
    if missing := [target for target in targets if target not in last]:
        raise ModelError(
            f"model.language.targets: no linear layer in the blocks is called {', '.join(missing)}; there are "
            f"{', '.join(sorted(last))}"
        )
    usual = set(BY_KIND.get(part.lm.config.get_text_config().model_type, ())) & last
    chosen = set(targets) or usual or last
    return [name for name in layers if name.rpartition(".")[2] in chosen]


def _is_linear(layer: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, nn.Linear | Conv1D)
