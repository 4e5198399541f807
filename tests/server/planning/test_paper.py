"""The paper's charge for bytes that Heron counted."""

from __future__ import annotations

from heron_server.metrics.ledger import Ledger
from heron_server.planning.client_state import StateBytes
from heron_server.planning.paper import paper_charge


def test_the_paper_s_column_takes_the_front_s_share_of_every_state_and_nothing_that_it_does_not_charge() -> None:
    counted = Ledger(
        activations_up=1000, labels_up=8, cut_gradients_down=300, client_state_up=3 * 80, client_state_down=2 * 100,
        evaluation_up=5, control=70,
    ).as_dict()  # fmt: skip
    charged = paper_charge(counted, StateBytes(down=100, up=80, paper_down=30, paper_up=20))
    assert charged == {
        "activations_up": 1000, "cut_gradients_down": 300, "client_state_up": 3 * 20, "client_state_down": 2 * 30,
        "total": 1420,
    }  # fmt: skip


def test_a_client_that_sends_no_state_is_charged_none() -> None:
    charged = paper_charge(Ledger().as_dict(), StateBytes(down=100, up=0, paper_down=30, paper_up=0))
    assert charged["client_state_up"] == 0
