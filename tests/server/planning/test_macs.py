"""What a local step costs, at the paper's setting and in small."""

from __future__ import annotations

from typing import Any

import pytest
from plans import facts_of, paper

from heron_core.spec.run_spec import RunSpec
from heron_server.planning.macs import StepMacs, forward_macs, forward_passes, step_macs

HERON: dict[str, Any] = {"name": "heron", "auxiliary_update": "zo"}
"""As the paper has it."""


def macs_of(spec: RunSpec) -> StepMacs:
    return step_macs(spec.method, facts_of(spec))


def giga(macs: int) -> float:
    return round(macs / 1e9, 3)


def test_the_papers_forward_passes() -> None:
    macs = forward_macs(paper(**HERON).method, facts_of(paper()))
    assert (giga(macs["front"]), giga(macs["auxiliary"])) == (19.780, 0.168)


@pytest.mark.parametrize(
    ("method", "exact", "printed"),
    [
        (HERON, 39.896, 39.896),
        ({**HERON, "zo": {"num_directions": 4}}, 99.741, 99.741),
        ({**HERON, "zo": {"difference": "central"}}, 59.844, 59.844),
        ({**HERON, "auxiliary_update": "server"}, 39.896, 39.896),
        ({"name": "heron"}, 40.064, 40.232),
        ({"objective": "cut_gradient", "zo": {"num_directions": 4}}, 98.902, 98.902),
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
    macs = macs_of(paper(**method))
    assert (giga(macs.exact), giga(macs.paper)) == pytest.approx((exact, printed), abs=5e-4)


def test_fedavg_trains_the_whole_network_on_the_client() -> None:
    macs = macs_of(paper(name="fedavg"))
    assert macs.paper == 3 * 256 * 555_422_720
    stem = facts_of(paper()).parts["front"].layers[0]
    assert macs.paper - macs.exact == 256 * stem.macs


def test_block_wise_probes_start_where_their_stage_does() -> None:
    parts = facts_of(paper()).parts
    stem, *block = (256 * layer.macs for layer in parts["front"].layers)
    head, deep = 256 * parts["auxiliary"].macs, sum(block)
    assert macs_of(paper(**HERON, zo={"block_wise": True})).exact == (stem + deep + head) * 2 + (deep + head) + head


def test_an_exact_stage_costs_its_own_backward_pass_and_the_head_s_whole_one() -> None:
    parts = facts_of(paper()).parts
    stem, first, second = (256 * layer.macs for layer in parts["front"].layers)
    head = 256 * parts["auxiliary"].macs
    macs = macs_of(paper(name="heron", zo={"exact_stages": 1}))
    assert macs.exact == 2 * (stem + first + second + head) + first + 2 * second + 2 * head
    assert macs.paper == 2 * (stem + first + second + head) + 2 * (first + second + head)


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ({**HERON, "zo": {"num_directions": 4}}, 5),
        ({"zo": {"num_directions": 4}}, 5),
        ({"zo": {"num_directions": 4, "difference": "central"}}, 9),
        ({"name": "frozen"}, 1),
        ({**HERON, "zo": {"num_directions": 4, "block_wise": True}}, 1 + 4 * (3 / 3 + 2 / 3 + 1 / 3)),
        ({"zo": {"block_wise": True, "difference": "central"}}, 1 + 2 * (3 / 3 + 2 / 3)),
    ],
)
def test_forward_passes_of_a_step(method: dict[str, Any], passes: float) -> None:
    spec = RunSpec.model_validate({"method": method})
    assert forward_passes(spec.method, facts_of(spec)) == pytest.approx(passes)
