"""What one client's message costs the server does not depend on how many other clients there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from server.driven import Client, Server, Start
from work import Seen, instructions

from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.lineup import Lineup
from heron_server.run.phases.reports import UpdateComplete
from heron_server.uploads.uploads import Uploads

FEW, MANY = 8, 64
Event = Callable[[Server, list[Client]], Callable[[], object]]
"""Makes everything ready; what it returns is measured."""


class NoWorker:
    """Its commands never end: nothing of torch is measured."""

    def submit(self, command: object, done: object, failed: object) -> None: ...


def joins(server: Server, clients: list[Client]) -> Callable[[], object]:
    return lambda: clients.append(server.client("next"))


def comes_back(server: Server, clients: list[Client]) -> Callable[[], object]:
    server.coordinator.watch_lost(clients[-1].session)
    return lambda: server.client(clients[-1].name)


def beats(server: Server, clients: list[Client]) -> Callable[[], object]:
    begins, peer = clients[-1].begins, clients[-1].peer
    beat = pb.Beat(session_id=clients[-1].session, term=begins.term, round=begins.round, step=1)
    return lambda: server.coordinator.beat(peer, beat)


def fetches(server: Server, clients: list[Client]) -> Callable[[], object]:
    return clients[-1].fetch


def opens(server: Server, clients: list[Client]) -> Callable[[], object]:
    return clients[-1].open


def uploads(server: Server, clients: list[Client]) -> Callable[[], object]:
    clients[-1].open()
    return lambda: clients[-1].push(0)


def all_at_work(server: Server, clients: list[Client]) -> Uploads:
    """Everyone has sent an upload, one is consumed: what was granted as the round began is told to everyone."""
    found = server.coordinator.uploads
    assert found is not None
    for client in clients:
        client.open()
        client.push(0)
    found.consumed(clients[0].name)
    return found


def is_taken(server: Server, clients: list[Client]) -> Callable[[], object]:
    found = all_at_work(server, clients)
    return lambda: found.consumed(clients[1].name)


def submits(server: Server, clients: list[Client]) -> Callable[[], object]:
    state = clients[-1].state()
    return lambda: clients[-1].submit(state)


def counts(server: Server, clients: list[Client]) -> Callable[[], object]:
    clients[-1].submit()
    training = server.coordinator._phases._training
    assert training is not None
    name = clients[-1].name
    training.updates[name] = training._waiting.pop(name)
    return lambda: server.coordinator._loop.report(UpdateComplete(name))


def leaves(server: Server, clients: list[Client]) -> Callable[[], object]:
    all_at_work(server, clients)
    return clients[-1].leave


def cost(start: Start, number: int, event: Event, order: str) -> int:
    """Instructions of the event among so many clients."""
    here = number - 2 if event is joins else number
    server = start(f"{number}", worker=NoWorker(), server={"order": order}, federation={"clients": number})
    return instructions(event(server, [server.client(f"client-{i:03d}") for i in range(here)]))


@pytest.mark.parametrize(
    "event", [joins, comes_back, beats, fetches, opens, uploads, is_taken, submits, counts, leaves]
)
def test_an_event_of_one_client_costs_the_same_among_many(start: Start, event: Event) -> None:
    assert cost(start, MANY, event, "canonical") <= 1.1 * cost(start, FEW, event, "canonical")


@pytest.mark.parametrize("event", [uploads, is_taken])
def test_so_it_does_where_uploads_are_taken_as_they_come(start: Start, event: Event) -> None:
    assert cost(start, MANY, event, "arrival") <= 1.3 * cost(start, FEW, event, "arrival"), "a heap grows by its log"


def test_a_tick_costs_no_more_than_so_much_for_each_client(start: Start) -> None:
    def tick(server: Server, clients: list[Client]) -> Callable[[], object]:
        for client in clients:
            client.submit()
        return server.coordinator.tick

    assert cost(start, MANY, tick, "canonical") <= MANY / FEW * cost(start, FEW, tick, "canonical")


def test_whether_a_client_takes_part_is_no_search_among_all() -> None:
    few, many = (Lineup(tuple(Seen(f"client-{i:03d}") for i in range(number))) for number in (FEW, MANY))
    assert instructions(lambda: many.awaits("nobody")) <= instructions(lambda: few.awaits("nobody"))
