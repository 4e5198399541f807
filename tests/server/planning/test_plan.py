"""What each method of the family costs, at the paper's setting and in small."""

from __future__ import annotations

from typing import Any

import pytest

from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning import plan
from heron_server.planning.macs import part_layers, step_macs
from heron_server.planning.paper import paper_round_bytes
from heron_simulator.simulator import simulate

GIB = 1 << 30
FRONT, HEAD = 75_840, 655_370
BUFFERS = 3 * (64 + 64) * 4 + 3 * 8
HERON: dict[str, Any] = {"name": "heron", "auxiliary_update": "zo"}
"""As the paper has it."""


def paper(**method: Any) -> RunSpec:
    """The paper's vision setting, one round a pass over 50,000 samples; here 39 whole batches a client."""
    return RunSpec.model_validate({
        "federation": {"clients": 5}, "data": {"source": "client"},
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": "batch", "auxiliary": "flatten_linear"},
        "method": {"local_steps": 39, "batch_size": 256, **method},
    })  # fmt: skip


def model_of(spec: RunSpec) -> SplitModel:
    return build_split_model(spec.model)


def giga(macs: int) -> float:
    return round(macs / 1e9, 3)


@pytest.mark.parametrize(
    ("method", "exact", "printed"),
    [
        (HERON, 39.896, 39.896),
        ({**HERON, "zo": {"num_directions": 4}}, 99.741, 99.741),
        ({**HERON, "zo": {"difference": "central"}}, 59.844, 59.844),
        ({**HERON, "auxiliary_update": "server"}, 39.896, 39.896),
        ({"name": "heron"}, 40.064, 40.232),
        ({"name": "cse_fsl"}, 59.391, 59.844),
        ({"name": "fsl_sage"}, 59.224, 59.844),
        ({"name": "sflv1"}, 58.888, 59.509),
        ({"name": "sflv2"}, 58.888, 59.509),
        ({"name": "frozen"}, 19.948, 19.948),
    ],
)
def test_a_step_s_multiply_accumulates_as_needed_and_as_the_paper_counts(
    method: dict[str, Any], exact: float, printed: float
) -> None:
    spec = paper(**method)
    macs = step_macs(spec, model_of(spec))
    assert (giga(macs.exact), giga(macs.paper)) == pytest.approx((exact, printed), abs=5e-4)


def test_fedavg_trains_the_whole_network_on_the_client() -> None:
    spec = paper(name="fedavg")
    macs = step_macs(spec, model_of(spec))
    assert macs.paper == 3 * 256 * 555_422_720
    stem = next(iter(part_layers(spec, model_of(spec), "front")))
    assert macs.paper - macs.exact == stem.macs


def test_block_wise_probes_start_where_their_stage_does() -> None:
    spec = paper(**HERON, zo={"block_wise": True})
    model = model_of(spec)
    stem, *block = part_layers(spec, model, "front")
    head = part_layers(spec, model, "auxiliary")[0].macs
    deep = sum(layer.macs for layer in block)
    assert step_macs(spec, model).exact == (stem.macs + deep + head) * 2 + (deep + head) + head


@pytest.mark.parametrize(
    ("method", "up", "down", "charged"),
    [
        (HERON, FRONT + HEAD, FRONT + HEAD, 2 * FRONT),
        ({"name": "heron"}, FRONT + HEAD, FRONT + HEAD, 2 * FRONT),
        ({"name": "heron", "auxiliary_update": "server"}, FRONT, FRONT + HEAD, 2 * FRONT),
        ({"name": "fsl_sage"}, FRONT, FRONT + HEAD, 2 * FRONT),
        ({"name": "sflv2"}, FRONT, FRONT, 2 * FRONT),
        ({"name": "frozen"}, 0, FRONT + HEAD, FRONT),
    ],
)
def test_what_of_the_client_state_travels_and_what_the_paper_charges_of_it(
    method: dict[str, Any], up: int, down: int, charged: int
) -> None:
    spec = paper(**method)
    state = plan.state_bytes(spec, plan.client_state(spec, model_of(spec)))
    assert (state.up, state.down) == (4 * up + BUFFERS, 4 * down + BUFFERS)
    assert state.paper_up + state.paper_down == 4 * charged


def test_moments_that_persist_travel_too_and_reset_ones_do_not() -> None:
    sizes = {}
    for moments in ("reset", "kept", "averaged"):
        spec = paper(name="heron", moments=moments)
        sizes[moments] = plan.state_bytes(spec, plan.client_state(spec, model_of(spec)))
    assert sizes["kept"].up - sizes["reset"].up == 2 * 4 * (FRONT + HEAD) + 8
    assert sizes["averaged"] == sizes["kept"]
    assert sizes["kept"].paper_up == sizes["reset"].paper_up


def test_only_split_learning_with_cut_gradients_sends_as_much_back_as_it_gets() -> None:
    spec = paper(name="sflv2")
    traffic = plan.round_traffic(spec, model_of(spec))
    assert traffic.cut_gradients_down == traffic.activations_up == 5 * 39 * (64 << 20)
    one_pass, weights = 50_000 * 65_536 * 4, 5 * 2 * FRONT * 4
    assert paper_round_bytes(spec, model_of(spec)) == 2 * traffic.activations_up + weights
    assert 16 * (2 * one_pass + weights) / GIB == pytest.approx(390.670, abs=5e-4)


def test_fedavg_sends_the_whole_model_and_no_activations() -> None:
    spec = paper(name="fedavg")
    model = model_of(spec)
    traffic = plan.round_traffic(spec, model)
    assert traffic.activations_up == traffic.labels_up == 0
    assert paper_round_bytes(spec, model) == 5 * 2 * 4 * 11_173_962


def test_only_the_participants_of_a_round_send_anything() -> None:
    spec = paper().model_copy(update={"federation": paper().federation.model_copy(update={"clients_per_round": 2})})
    assert plan.round_traffic(spec, model_of(spec)).activations_up == 2 * 39 * (64 << 20)


@pytest.mark.parametrize(("head", "perturbed"), [("zo", FRONT + HEAD), ("first_order", FRONT), ("server", FRONT)])
def test_a_head_is_perturbed_only_where_zeroth_order_moves_it(head: str, perturbed: int) -> None:
    spec = paper(auxiliary_update=head)
    assert plan.client_parameters(spec, model_of(spec))["perturbed"] == perturbed


@pytest.mark.parametrize("name", ["heron", "cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg", "frozen"])
def test_a_run_is_charged_what_its_plan_said(name: str) -> None:
    learns = {} if name == "frozen" else {"moments": "averaged"}
    spec = RunSpec.model_validate({
        "rounds": 2, "federation": {"clients": 2}, "model": {"norm": "batch"},
        "method": {"name": name, "local_steps": 2, "batch_size": 8, **learns},
    })  # fmt: skip
    summary = simulate(spec, settings=ServerSettings(device="cpu")).summary
    counted, model = summary["ledger"], model_of(spec)
    assert {kind: counted[kind] for kind in vars(plan.round_traffic(spec, model))} == {
        kind: 2 * size for kind, size in vars(plan.round_traffic(spec, model)).items()
    }
    assert summary["ledger_paper"]["total"] == 2 * paper_round_bytes(spec, model)
