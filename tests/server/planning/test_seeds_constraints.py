"""What cannot be said in slopes is refused, and what can is counted."""

from __future__ import annotations

from typing import Any

import pytest
from plans import digits, facts_of

from heron_core.spec.run_spec import FederationSpec, RunSpec
from heron_server.planning.constraints.seeds import client_state
from heron_server.planning.paper import paper_round_bytes
from heron_server.planning.sections.traffic import traffic_section
from heron_server.planning.traffic import round_traffic
from heron_server.text.units import bytes_text
from heron_simulator.simulator import simulate

AVERAGED: dict[str, Any] = {"moments": "averaged"}


def spec_of(method: dict[str, Any] | None = None, zo: dict[str, Any] | None = None, **tables: Any) -> RunSpec:
    chosen = {"local_steps": 4, "zo": {"distribution": "rademacher", **(zo or {})}, **(method or {})}
    return digits(**{"method": chosen, "codec": {"client_state": "seeds"}, **tables})


def refused(spec: RunSpec) -> list[str]:
    return list(client_state(spec, facts_of(spec)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_of({"name": "sflv2"}), "with sflv2 none does"),
        (spec_of(zo={"distribution": "sphere"}), 'set method.zo.distribution = "rademacher"'),
        (spec_of(zo={"scope": "sample"}), 'not method.zo.scope = "sample"'),
        (spec_of(zo={"block_wise": True}), "not method.zo.block_wise"),
        (spec_of(zo={"exact_stages": 1}), "method.zo.exact_stages = 1 gives stages"),
        (spec_of({"proximal": 2000.0}), "a step overshoots its start"),
        (spec_of({"moments": "kept"}), 'method.moments = "kept"'),
        (spec_of(AVERAGED), "they are the head's too"),
        (spec_of(federation={"aggregation": "median"}), 'not "median"'),
        (spec_of(federation={"server_average": {"name": "fedadam"}}), '"fedadam" steps on'),
        (spec_of({"local_steps": 2000}), "would send more bytes than the weights"),
    ],
)
def test_what_slopes_cannot_say_is_refused_with_the_reason(spec: RunSpec, words: str) -> None:
    found = refused(spec)
    assert len(found) == 1 and words in found[0]
    assert refused(spec.model_copy(update={"codec": digits().codec})) == []


def test_a_round_of_slopes_is_planned_to_the_byte() -> None:
    spec = spec_of({"auxiliary_update": "zo", "batch_size": 8, **AVERAGED}, rounds=2)
    assert refused(spec) == []
    weights = spec.model_copy(update={"rounds": 1, "codec": digits().codec})
    planned, first = round_traffic(spec, facts_of(spec)), round_traffic(weights, facts_of(spec))
    ledger = simulate(spec).summary["ledger"]
    sent = planned.client_state_up + planned.client_state_down
    assert paper_round_bytes(spec, facts_of(spec)) < planned.activations_up + sent, "the front's share of what is sent"
    assert ledger["client_state_up"] == 2 * planned.client_state_up
    assert ledger["client_state_down"] == first.client_state_down + planned.client_state_down


def test_after_the_first_fetch_the_papers_front_costs_a_five_hundredth_of_its_weights() -> None:
    spec = spec_of({"local_steps": 20, "auxiliary_update": "zo", **AVERAGED}, model={"name": "resnet18"})
    assert spec.federation.participants == 3 and spec.method.zo.num_directions == 1
    facts, front = facts_of(spec), 75_840 * 4
    traffic = round_traffic(spec, facts)
    assert (traffic.client_state_up, traffic.client_state_down) == (3 * 160, 3 * 552)
    assert front / 552 >= 500
    section = traffic_section(spec, facts)
    assert ("client state down, seeds", "552 B") in [row[:2] for row in section.rows]
    assert any(f"fetches {bytes_text(3 * 305_960 + 8)}." in line for line in section.text)
    for clients, each in ((30, 32 + 10 * 4 + 30 * 172), (1_500, 3 * 305_960 + 8)):
        drawn = spec.model_copy(update={"federation": FederationSpec(clients=clients, clients_per_round=3)})
        assert round_traffic(drawn, facts).client_state_down == 3 * each, "those of all since, or the weights"
