"""What of the client state travels, and what of it is perturbed."""

from __future__ import annotations

from typing import Any

import pytest
from plans import FRONT, HEAD, facts_of, paper

from heron_core.spec.run_spec import RunSpec
from heron_server.planning.client_state import StateBytes, client_state, perturbed, state_bytes

BUFFERS = 3 * (64 + 64) * 4 + 3 * 8
HERON: dict[str, Any] = {"name": "heron", "auxiliary_update": "zo"}
"""As the paper has it."""


def bytes_of(spec: RunSpec) -> StateBytes:
    return state_bytes(client_state(spec.method, facts_of(spec)))


@pytest.mark.parametrize(
    ("method", "up", "down", "charged"),
    [
        (HERON, FRONT + HEAD, FRONT + HEAD, 2 * FRONT),
        ({"name": "heron"}, FRONT + HEAD, FRONT + HEAD, 2 * FRONT),
        ({"name": "heron", "auxiliary_update": "server"}, FRONT, FRONT + HEAD, 2 * FRONT),
        ({"name": "fsl_sage"}, FRONT, FRONT + HEAD, 2 * FRONT),
        ({"name": "sflv2"}, FRONT, FRONT, 2 * FRONT),
        ({"objective": "cut_gradient"}, FRONT, FRONT, 2 * FRONT),
        ({"name": "frozen"}, 0, FRONT + HEAD, FRONT),
    ],
)
def test_what_of_the_client_state_travels_and_what_the_paper_charges_of_it(
    method: dict[str, Any], up: int, down: int, charged: int
) -> None:
    state = bytes_of(paper(**method))
    assert (state.up, state.down) == (4 * up + BUFFERS, 4 * down + BUFFERS)
    assert state.paper_up + state.paper_down == 4 * charged


def test_moments_that_persist_travel_too_and_reset_ones_do_not() -> None:
    sizes = {moments: bytes_of(paper(name="heron", moments=moments)) for moments in ("reset", "kept", "averaged")}
    assert sizes["kept"].up - sizes["reset"].up == 2 * 4 * (FRONT + HEAD) + 8
    assert sizes["averaged"] == sizes["kept"]
    assert sizes["kept"].paper_up == sizes["reset"].paper_up


@pytest.mark.parametrize(("head", "size"), [("zo", FRONT + HEAD), ("first_order", FRONT), ("server", FRONT)])
def test_a_head_is_perturbed_only_where_zeroth_order_moves_it(head: str, size: int) -> None:
    spec = paper(auxiliary_update=head)
    assert sum(parameter.size for parameter in perturbed(spec.method, facts_of(spec))) == size


def test_stages_with_an_exact_gradient_are_not_perturbed() -> None:
    spec = paper(name="heron", zo={"exact_stages": 1})
    assert {p.name.split(".")[1] for p in perturbed(spec.method, facts_of(spec))} == {"stem"}
