"""What arXiv 2601.09076 charges of the bytes that Heron counts: the second column of the plan and of the ledger."""

from __future__ import annotations

from collections.abc import Mapping

from heron_core.spec.run_spec import RunSpec
from heron_server.planning.client_state import StateBytes, client_state, state_bytes
from heron_server.planning.facts import ModelFacts
from heron_server.planning.traffic import round_traffic


def paper_round_bytes(spec: RunSpec, facts: ModelFacts) -> int:
    """Of one round: activations, cut gradients, and the front's weights both ways; no head, buffers, labels or moments.
    fedavg, which is not in its tables: the whole model's weights both ways.

    Its HERON row of its vision table: 20 rounds x (12.207 GiB + 5 clients x 2 x 75,840 x 4 B) = 244.197 GiB.
    """
    traffic, state = round_traffic(spec, facts), state_bytes(client_state(spec.method, facts))
    up, down = (_share(traffic.client_state_up, state.paper_up, state.up),
                _share(traffic.client_state_down, state.paper_down, state.down))  # fmt: skip
    return traffic.activations_up + traffic.cut_gradients_down + up + down


def paper_charge(ledger: Mapping[str, int], state: StateBytes) -> dict[str, int]:
    """The paper's charge for what a ledger counted, in bytes by kind, and their total.

    Activations, cut gradients, and of every client state that really went up or down the trainable weights of the front
    (in fedavg of the whole model): their share of its bytes. No head, buffers, labels, moments, evaluation or control.
    """
    charged = {
        "activations_up": ledger["activations_up"],
        "cut_gradients_down": ledger["cut_gradients_down"],
        "client_state_up": _share(ledger["client_state_up"], state.paper_up, state.up),
        "client_state_down": _share(ledger["client_state_down"], state.paper_down, state.down),
    }
    return charged | {"total": sum(charged.values())}


def _share(sent: int, charged: int, whole: int) -> int:
    """Of the bytes that were sent, also where slopes went in the place of a client state of `whole` bytes."""
    return sent * charged // max(1, whole)
