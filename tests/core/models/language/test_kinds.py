"""The cut is exact on over a hundred kinds of decoders, and every other kind is named with the reason."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
from tiny_kinds import ENCODERS, EXACT, NOT_CUT, tiny
from tiny_language import SPEC

from heron_core.errors import ModelError
from heron_core.models import build_split_model
from heron_core.models.language.loading import quiet_library
from heron_core.models.tasks.token_logits import whole
from heron_core.spec.run_spec import ModelSpec

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

ALL = pytest.mark.skipif(
    "HERON_ALL_KINDS" not in os.environ, reason="two minutes of models: run it with HERON_ALL_KINDS=1"
)


def written(kind: str, folder: Path) -> None:
    with quiet_library():
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(tiny(kind))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder / "tiny")


@ALL
@pytest.mark.parametrize("kind", EXACT)
def test_front_and_back_are_the_whole_and_adapters_learn(kind: str, tmp_path: Path) -> None:
    written(kind, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models' own code
        model = build_split_model(ModelSpec.model_validate(SPEC), data_folder=tmp_path)  # passes tokens through both
        parts = [model.build(part, 0) for part in ("front", "auxiliary", "back")]
        for tail in parts[1:]:
            whole(tail(parts[0](torch.arange(3, 10)[None]))).sum().backward()
    for part in parts:
        assert any(p.grad is not None for p in part.parameters())


@ALL
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_refused(kind: str, tmp_path: Path) -> None:
    written(kind, tmp_path)
    with pytest.raises(ModelError, match="is not causal"):
        build_split_model(ModelSpec.model_validate(SPEC), data_folder=tmp_path)


def test_over_a_hundred_are_exact_and_every_kind_is_in_one_list() -> None:
    if not transformers.__version__.startswith("5.24."):
        pytest.skip("the lists are those of transformers 5.24")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    listed = [*EXACT, *ENCODERS, *(kind for kinds in NOT_CUT.values() for kind in kinds)]
    assert len(EXACT) > 100 and sorted(listed) == sorted(NAMES)
