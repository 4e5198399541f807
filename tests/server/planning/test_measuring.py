"""The facts of a model: what they say, and how often a run builds it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from heron_core.errors import ModelError
from heron_core.models import SplitModel, build_split_model, save_model
from heron_core.models.families.digits_cnn import digits_cnn
from heron_core.spec.methods import Part
from heron_core.spec.run_spec import ModelSpec, RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.facts import ModelFacts
from heron_server.planning.measuring import measure_model
from heron_server.planning.validate import describe
from heron_server.run.prepare import prepare

MOST_BUILDS = 3
"""Of each part in a whole `validate`, and in a whole start of a server."""
CPU = ServerSettings(device="cpu")
SAMPLE = {"zo": {"scope": "sample"}}


def facts_of(**settings: Any) -> ModelFacts:
    return measure_model(build_split_model(ModelSpec.model_validate(settings)), 0)


# -- how often -----------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[Part]:
    """Calls of digits_cnn's own factories: whatever is laid around the front, each of its builds comes through here."""
    counted = Counter[Part]()

    def noting(part: Part, factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            counted[part] += 1
            return factory()

        return build

    def family(spec: ModelSpec) -> SplitModel:
        model = digits_cnn(spec)
        head = noting("auxiliary", model.auxiliary)
        return replace(model, front=noting("front", model.front), auxiliary=head, back=noting("back", model.back))

    monkeypatch.setattr("heron_core.models.families.digits_cnn.digits_cnn", family)
    return counted


METHODS: list[dict[str, Any]] = [
    {}, {"auxiliary_update": "server"}, {"auxiliary_update": "aligned"}, {"zo": {"block_wise": True}},
    {"name": "fsl_sage"}, {"name": "sflv1"}, {"name": "sflv2"}, {"name": "fedavg"}, {"name": "frozen"},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("trainable", ["all", "norm", "lora"])
def test_validate_builds_each_part_once_and_a_front_that_must_be_looked_at_once_more(
    trainable: str, method: dict[str, Any], built: Counter[Part]
) -> None:
    scope = SAMPLE if trainable == "norm" and not method else {}
    describe(RunSpec.model_validate({"model": {"trainable": trainable}, "method": {**method, **scope}}), CPU)
    assert built == {"front": 1 + (trainable != "all"), "auxiliary": 1, "back": 1}


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("trainable", ["all", "norm", "lora"])
def test_a_server_s_start_builds_each_part_three_times_at_most(
    trainable: str, method: dict[str, Any], built: Counter[Part]
) -> None:
    prepare(RunSpec.model_validate({"model": {"trainable": trainable}, "method": method}), CPU)
    assert built["front"] == 2 + (trainable != "all") and built["back"] == 2
    assert max(built.values()) <= MOST_BUILDS


@pytest.mark.parametrize("trainable", ["all", "norm", "lora"])
def test_initial_weights_build_no_more(trainable: str, built: Counter[Part], tmp_path: Path) -> None:
    spec = ModelSpec()
    model = build_split_model(spec)
    save_model(tmp_path / "mine", spec, model.build("front", 0), model.build("back", 0))
    built.clear()
    chosen = RunSpec.model_validate({"model": {"weights": "mine", "trainable": trainable}})
    prepare(chosen, CPU.model_copy(update={"data_folder": tmp_path}))
    assert max(built.values()) <= MOST_BUILDS


CUT = """
from torch import nn
from heron_core.models import CutModule

NETWORKS = []

def build():
    NETWORKS.append(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 10))

def net():
    return CutModule(build, "3", (1, 8, 8), 10)
"""


@pytest.mark.parametrize("trainable", ["all", "norm", "lora"])
def test_a_user_s_network_is_built_to_cut_it_and_then_once_for_each_part(
    trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counted_net.py").write_text(CUT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counted_net", raising=False)
    spec = RunSpec.model_validate({"model": {"name": "counted_net:net", "trainable": trainable}})
    describe(spec, CPU)
    networks: list[int] = sys.modules["counted_net"].NETWORKS
    assert len(networks) == 1 + 2, "the cut; front and back"
    networks.clear()
    prepare(spec, CPU)
    assert len(networks) == 1 + 2 + 2, "the same, and the trainer's own"


# -- what they say -------------------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_modules() -> None:
    model = build_split_model(ModelSpec(norm="batch"))
    facts = measure_model(model, 0)
    for part, found in facts.parts.items():
        module = model.build(part, 0)
        assert {p.name: p.size for p in found.parameters} == {
            f"{part}.{name}": p.numel() for name, p in module.named_parameters()
        }
        assert found.size_bytes == sum(t.numel() * t.element_size() for t in module.state_dict().values())
    assert {p.dtype for p in facts.parts["front"].parameters} == {"float32"}
    assert {b.dtype for b in facts.parts["front"].buffers} == {"float32", "int64"}


def test_layers_know_what_learns_and_what_must_pass_a_gradient_on() -> None:
    front = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 6))
    chosen = replace(tiny.mlp(), front=lambda: front, trainable=lambda name: name in ("front.1.weight", "front.2.bias"))
    layers = measure_model(chosen, 0).parts["front"].layers
    assert [(x.name, x.macs, x.learns, x.passes_on) for x in layers] == [
        ("front.0", 40, False, False), ("front.1", 64, True, False), ("front.3", 48, False, True),
    ]  # fmt: skip
    assert [x.backward_macs for x in layers] == [0, 64, 48]


def test_maps_are_counted_layer_by_layer() -> None:
    back = measure_model(tiny.mlp(), 0).parts["back"]
    assert (back.macs, back.map_bytes, back.widest_bytes) == (6 * 7 + 7 * 3, 4 * (7 + 7 + 3), 4 * (7 + 7))


def test_only_a_front_of_stages_has_stages() -> None:
    assert facts_of(cut="conv2").parts["front"].stages == ("conv1", "conv2")
    assert measure_model(tiny.mlp(), 0).parts["front"].stages == ()
    assert measure_model(tiny.mlp(), 0).parts["front"].kind == "Sequential"


def test_what_cannot_differ_from_sample_to_sample_is_named() -> None:
    assert facts_of().per_sample_obstacle == "front.conv1.conv.weight"
    assert facts_of(trainable="norm").per_sample_obstacle is None


class OnlyInEvaluation(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError("not in training")
        return torch.zeros(len(x), 6)


def test_a_front_that_cannot_train_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match=r"front does not accept input .*: not in training"):
        measure_model(replace(tiny.mlp(), front=OnlyInEvaluation), 0)


def test_measuring_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    measure_model(tiny.mlp(dropout=0.5), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_front_with_parametrized_weights_is_measured() -> None:
    def front() -> nn.Module:
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh())

    facts = measure_model(replace(tiny.mlp(), front=front), 0)
    names = [p.name.rpartition(".")[2] for p in facts.parts["front"].parameters]
    assert sorted(names) == ["bias", "original0", "original1"]
