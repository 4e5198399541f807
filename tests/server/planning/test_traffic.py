"""What a round sends, as Heron and as the paper charge it."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import FRONT, HEAD, facts_of, paper

from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.paper import paper_round_bytes
from heron_server.planning.traffic import Traffic, round_traffic, transfer_of
from heron_simulator.simulator import simulate

GIB = 1 << 30


def traffic_of(spec: RunSpec) -> Traffic:
    return round_traffic(spec, facts_of(spec))


def paper_bytes_of(spec: RunSpec) -> int:
    return paper_round_bytes(spec, facts_of(spec))


def test_the_papers_bytes() -> None:
    spec = paper(auxiliary_update="zo")
    weights, one_pass = 5 * 2 * FRONT * 4, 50_000 * 65_536 * 4
    assert 256 * facts_of(spec).activation_bytes == 64 << 20
    assert paper_bytes_of(spec) == 5 * 39 * (64 << 20) + weights
    assert 20 * (one_pass + weights) / GIB == pytest.approx(244.197, abs=5e-4)
    traffic, state = traffic_of(spec), state_bytes(client_state(spec.method, facts_of(spec)))
    assert traffic.labels_up == 5 * 39 * 256 * 8
    assert traffic.client_state_up == traffic.client_state_down == 5 * state.up
    assert state.up > (FRONT + HEAD) * 4, "BatchNorm's buffers travel too"


def test_only_split_learning_with_cut_gradients_sends_as_much_back_as_it_gets() -> None:
    spec = paper(name="sflv2")
    traffic = traffic_of(spec)
    assert traffic.cut_gradients_down == traffic.activations_up == 5 * 39 * (64 << 20)
    one_pass, weights = 50_000 * 65_536 * 4, 5 * 2 * FRONT * 4
    assert paper_bytes_of(spec) == 2 * traffic.activations_up + weights
    assert 16 * (2 * one_pass + weights) / GIB == pytest.approx(390.670, abs=5e-4)


def test_fedavg_sends_the_whole_model_and_no_activations() -> None:
    spec = paper(name="fedavg")
    traffic = traffic_of(spec)
    assert traffic.activations_up == traffic.labels_up == 0
    assert paper_bytes_of(spec) == 5 * 2 * 4 * 11_173_962


def test_only_the_participants_of_a_round_send_anything() -> None:
    spec = paper().model_copy(update={"federation": paper().federation.model_copy(update={"clients_per_round": 2})})
    assert traffic_of(spec).activations_up == 2 * 39 * (64 << 20)


TWO_KINDS = """
import torch
from torch import nn
from heron_core.arrays import TensorSpec
from heron_core.models import SplitModel
from heron_core.models.tasks.classification import Classification

class Front(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 6)
    def forward(self, x):
        z = self.linear(x.flatten(1))
        return z, (z[:, :2] > 0).long()

class Back(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.embedding = nn.Linear(6, 10), nn.Embedding(2, 10)
    def forward(self, z, signs):
        return self.linear(z) + self.embedding(signs).sum(1)

def model():
    cut = (TensorSpec("z", (6,)), TensorSpec("signs", (2,), "int64"))
    return SplitModel(Front, Back, Back, (TensorSpec("input", (1, 8, 8)),), cut, Classification(10))
"""


def test_gradients_come_back_for_the_floats_of_the_cut_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two_kinds.py").write_text(TWO_KINDS)
    monkeypatch.syspath_prepend(tmp_path)
    spec = RunSpec.model_validate({
        "rounds": 1, "federation": {"clients": 2}, "model": {"name": "two_kinds:model"},
        "method": {"name": "sflv2", "local_steps": 2, "batch_size": 8},
    })  # fmt: skip
    own = {"allow_model_code": ["two_kinds:model"]}
    ledger = simulate(spec, settings=ServerSettings(device="cpu"), client_settings=own).summary["ledger"]
    assert ledger["cut_gradients_down"] == 2 * 2 * 8 * 6 * 4 == traffic_of(spec).cut_gradients_down
    assert ledger["activations_up"] == 2 * 2 * 8 * (6 * 4 + 2 * 8) == traffic_of(spec).activations_up


def test_bytes_and_the_budget_s_are_those_of_the_codec() -> None:
    tables = {"rounds": 1, "method": {"name": "sflv2", "local_steps": 2, "batch_size": 8}}
    plain = RunSpec.model_validate(tables)
    spec = RunSpec.model_validate({**tables, "codec": {"uploads": "bf16", "cut_gradients": "int8"}})
    two_uploads = ServerSettings(device="cpu", byte_budget=2 * 8 * (16 * 4 * 4 * 2 + 8))
    with pytest.raises(ConfigError, match=r"server\.byte_budget must hold two whole"):
        simulate(plain, settings=two_uploads)
    floats = transfer_of(plain, facts_of(plain)).upload
    assert transfer_of(spec, facts_of(spec)).upload == floats, "what is evaluated travels as floats still"
    spec = RunSpec.model_validate({**spec.model_dump(), "codec": {**spec.codec.model_dump(), "evaluation": "int8"}})
    assert 2 * transfer_of(spec, facts_of(spec)).upload == two_uploads.byte_budget
    whole, planned = traffic_of(plain), traffic_of(spec)
    ledger = simulate(spec, settings=two_uploads).summary["ledger"]
    assert planned.activations_up == whole.activations_up // 2 == ledger["activations_up"]
    assert planned.cut_gradients_down == whole.cut_gradients_down // 128 * 34 == ledger["cut_gradients_down"]


@pytest.mark.parametrize("name", ["heron", "cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg", "frozen"])
def test_a_run_is_charged_what_its_plan_said(name: str) -> None:
    learns = {} if name == "frozen" else {"moments": "averaged"}
    spec = RunSpec.model_validate({
        "rounds": 2, "federation": {"clients": 2}, "model": {"norm": "batch"},
        "method": {"name": name, "local_steps": 2, "batch_size": 8, **learns},
    })  # fmt: skip
    summary = simulate(spec, settings=ServerSettings(device="cpu")).summary
    planned = vars(traffic_of(spec))
    assert {kind: summary["ledger"][kind] for kind in planned} == {kind: 2 * size for kind, size in planned.items()}
    assert summary["ledger_paper"]["total"] == 2 * paper_bytes_of(spec)
