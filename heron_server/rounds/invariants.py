"""What holds of a run between any two events, whatever came before."""

from __future__ import annotations

from collections.abc import Iterator

from heron_server.rounds.phase import Phase
from heron_server.rounds.storing import StoringRounds


def check(rounds: StoringRounds) -> None:
    """AssertionError, with the story, for the first that does not hold."""
    for holds, claim in (*_of_the_run(rounds), *_of_clients(rounds), *_of_the_round(rounds)):
        assert holds, f"{rounds.where()}: {claim} does not hold; what came before:\n{rounds.story.tell()}"


Claims = Iterator[tuple[bool, str]]


def _of_the_run(rounds: StoringRounds) -> Claims:
    rules = rounds.rules
    over = rounds.rounds_done >= rules.rounds
    yield (rounds.phase is Phase.FINISHED) == over, "a run is finished once its rounds are done, and only then"
    yield (rounds.phase is not Phase.PAUSED) or rounds.full_disk is not None, "a run is paused by a full disk"
    storing = rounds.phase in (Phase.COMMITTING, Phase.RESTORING, Phase.PAUSED)
    yield storing or rounds.full_disk is None, "a full disk is nobody's business but of what is being stored"
    yield not over or not rounds.abandoned.times, "a committed round clears what was counted of abandoned ones"


def _of_clients(rounds: StoringRounds) -> Claims:
    members, table = list(rounds.members), rounds.table
    yield sorted(table.values()) == list(range(len(table))), "ranks are 0, 1, 2, ..."
    places = len(table.keys() | rounds.members.names)
    yield rounds.rules.open_ended or places <= rounds.rules.clients, "there is a part of the data for each place"
    yield len({m.session_id for m in members}) == len({m.name for m in members}) == len(members), "one session a name"
    yield all(m.watched for m in members if m.connected), "who is connected has opened its event stream"


def _of_the_round(rounds: StoringRounds) -> Claims:
    lineup, phase = rounds.lineup, rounds.phase
    taking_part, submitted, dropped = set(lineup.participants), lineup.submitted, lineup.dropped.keys()
    yield submitted | dropped <= taking_part, "only participants submit or are dropped"
    yield not submitted & dropped, "nobody is dropped who has submitted"
    yield taking_part <= rounds.table.keys(), "participants have ranks"
    yield sorted(taking_part, key=rounds.table.__getitem__) == list(lineup.participants), "each once, in rank order"
    enough = lineup.left >= lineup.needed(rounds.rules)
    if phase is Phase.TRAINING:
        yield lineup.is_awaiting, "a round that trains waits for somebody"
    if phase in (Phase.TRAINING, Phase.AGGREGATING, Phase.EVALUATING, Phase.COMMITTING):
        yield enough, "a round goes on with enough clients"
    if phase in (Phase.AGGREGATING, Phase.EVALUATING, Phase.COMMITTING):
        yield bool(submitted) and not lineup.is_awaiting, "a round is averaged once all that is awaited is here"
    if phase is Phase.RESTORING:
        yield not enough and rounds.abandoned.times > 0, "only a round with too few clients is given up"
    yield not lineup.evaluating or phase is Phase.EVALUATING, "clients evaluate while the round is evaluated"
    yield lineup.evaluating <= submitted, "only those that count evaluate"
