"""The end of a round's training, on the worker: one client state of many, and heads aligned to the back."""

from __future__ import annotations

from collections.abc import Mapping

from heron_server.aggregation.aggregator import Aggregator, Updates
from heron_server.aggregation.client_states import ClientStates
from heron_server.run.phases.training import Update
from heron_server.training.commands import Commands, RoundEnd


def aggregate(
    round_number: int, updates: Mapping[int, Update], aggregator: Aggregator, states: ClientStates, trainer: Commands
) -> RoundEnd:
    """Adds the round's version to the client states; returns what the server's part of the round came to.  Eq. 8.

    `updates`: by rank, of all that count.
    """
    given = {rank: states.whole_update(round_number, rank, update.state) for rank, update in updates.items()}
    made = aggregator.aggregate(Updates(
        {rank: states.averaged_part(state) for rank, state in given.items()},
        {rank: update.num_samples for rank, update in updates.items()},
        states.averaged_part(states.common(round_number - 1)),
        states.buffers,
        states.reach,
    ))
    averaged, moments = states.stepped(round_number - 1, made.state)
    end = trainer.end_round(round_number, averaged, made.weights)
    states.advance(round_number - 1, averaged, end.client_state, given, moments, made.weights)
    if end.heads_due:
        heads = trainer.align(round_number, {rank: states.own(round_number, rank) for rank in end.heads_due})
        for rank, head in heads.items():
            states.set_own(round_number, rank, head)
    return end
