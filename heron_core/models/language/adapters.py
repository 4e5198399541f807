"""Low-rank adapters beside the linear layers of a decoder's blocks, by peft: W x + (alpha / r) B A x (Hu et al. 2021).

Every layer keeps its own weight, frozen; A and B are its `lora_A` and `lora_B`, float32 whatever the backbone's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.adapt.per_sample import AdapterMatrix
from heron_core.models.language.loading import quiet_library
from heron_core.models.language.parts import LanguagePart


def is_adapter(name: str) -> bool:
    """Does this parameter of a part train? Such as `front.lm.model.layers.0.self_attn.q_proj.lora_A.default.weight`."""
    return ".lora_A." in name or ".lora_B." in name or name.startswith("auxiliary.map.")


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
