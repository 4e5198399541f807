"""A front whose frozen weights are rounded to 8 or 4 bits: how far, what stays as it is, and who is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import SPEC, VOCABULARY, write_decoder
from torch import nn

from heron_core import load_model
from heron_core.errors import ModelError
from heron_core.models.language.causal_lm import causal_lm
from heron_core.models.language.rounding import GROUP, Embedding8, Linear4, Linear8, round_embedding
from heron_core.models.saved import save_model
from heron_core.models.split_model import SplitModel, check_parts
from heron_core.spec.run_spec import ModelSpec

pytest.importorskip("transformers")
pytest.importorskip("peft")
WEIGHTS = ("int8", "int4")
TOKENS = torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for kind in ("llama", "gpt2"):
        write_decoder(folder / kind, kind)
    return folder


def spec_of(kind: str, weights: str, **language: Any) -> ModelSpec:
    return ModelSpec.model_validate({
        **SPEC, "base": kind, "language": {"length": 12, "front_weights": weights, **language},
    })  # fmt: skip


def split(data: Path, kind: str, weights: str, **language: Any) -> SplitModel:
    return causal_lm(spec_of(kind, weights, **language), data, checks=True)


def matrix(rows: int, columns: int) -> torch.Tensor:
    found = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    found[1] = 0
    return found


def test_eight_bits_are_within_half_a_step_of_each_output_s_largest_weight() -> None:
    weight = matrix(5, 70)
    layer = Linear8(weight, nn.Parameter(torch.ones(5)))
    computed = (layer(torch.eye(70)) - 1).detach().T
    assert layer.rounded.dtype == torch.int8
    step = weight.abs().amax(1, keepdim=True) / 127
    assert torch.all((computed - weight).abs() <= 0.501 * step)
    assert torch.equal(computed[1], weight[1])
    table = Embedding8(weight)
    assert torch.all((table(torch.arange(5)) - weight).abs() <= 0.501 * step)


@pytest.mark.parametrize("inputs", [GROUP, 70, 16])
def test_four_bits_are_within_half_a_step_of_each_group_s_largest_weight(inputs: int) -> None:
    weight = matrix(5, inputs)
    layer = Linear4(weight, None)
    computed = layer(torch.eye(inputs)).detach().T
    groups = -(-inputs // GROUP)
    assert layer.rounded.dtype == torch.int8 and layer.rounded.numel() == 5 * groups * GROUP // 2
    for i in range(groups):
        at = slice(i * GROUP, (i + 1) * GROUP)
        step = weight[:, at].abs().amax(1, keepdim=True) / 7
        assert torch.all((computed[:, at] - weight[:, at]).abs() <= 0.501 * step)
        levels = computed[:, at] / torch.where(step > 0, step, 1.0)
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_only_the_front_is_rounded_and_its_adapters_are_what_they_were(kind: str, weights: str, data: Path) -> None:
    model, plain = split(data, kind, weights), split(data, kind, "float32")
    front, as_it_is = model.build("front", 0).eval(), plain.build("front", 0).eval()
    kinds = {type(layer) for layer in front.blocks[0].modules()}
    assert {"int8": Linear8, "int4": Linear4}[weights] in kinds and nn.Linear not in kinds
    assert type(front.lm.get_input_embeddings()) is Embedding8
    assert {n: t.shape for n, t in front.state_dict().items()} == {n: t.shape for n, t in as_it_is.state_dict().items()}
    assert not any(p.requires_grad for p in front.parameters() if p.dtype == torch.int8)
    away = (front(TOKENS) - as_it_is(TOKENS)).norm() / as_it_is(TOKENS).norm()
    assert 0 < away < {"int8": 0.05, "int4": 0.5}[weights]
    for part in ("auxiliary", "back"):
        wanted = dict(plain.build(part, 0).named_parameters())  # type: ignore[arg-type]
        found = dict(model.build(part, 0).named_parameters())  # type: ignore[arg-type]
        assert wanted.keys() == found.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)
    copy = deepcopy(front)
    assert all(
        p.data_ptr() == front.get_parameter(n).data_ptr() for n, p in copy.named_parameters() if not p.requires_grad
    )
    check_parts(model)


@pytest.mark.parametrize("adapter", ["lora_xs", "embedding"])
def test_every_kind_of_adapter_stands_beside_rounded_weights(adapter: str, data: Path) -> None:
    front, plain = (split(data, "llama", w, client_adapter=adapter).build("front", 0) for w in ("int8", "float32"))
    wanted = dict(plain.state_dict())
    assert wanted and all(torch.equal(tensor, wanted[name]) for name, tensor in front.state_dict().items())
    with torch.no_grad():
        before = front(TOKENS)
        for tensor in front.state_dict(keep_vars=True).values():
            tensor.add_(0.1)
        assert not torch.equal(front(TOKENS), before)


def test_a_saved_model_says_how_its_front_was_rounded_and_is_the_same_function(data: Path, tmp_path: Path) -> None:
    model = split(data, "llama", "int4")
    front, back = model.build("front", 0).eval(), model.build("back", 0).eval()
    save_model(tmp_path / "saved", spec_of("llama", "int4"), front, back, task="next_token", inputs=model.inputs)
    assert '"front_weights": "int4"' in (tmp_path / "saved" / "model.json").read_text()
    loaded = load_model(tmp_path / "saved", data_folder=data)
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS), back(front(TOKENS)).whole())


def test_an_embedding_that_is_more_than_a_table_is_refused(data: Path) -> None:
    class Scaled(nn.Embedding):
        pass

    front = split(data, "llama", "float32").build("front", 0)
    front.lm.set_input_embeddings(Scaled(VOCABULARY, 16))
    with pytest.raises(ModelError, match="is a Scaled, which cannot be rounded; set model"):
        round_embedding(front)  # type: ignore[arg-type]
