"""Clients that send a sample again once it has moved, driven by hand: rounds done again, kills, untrue claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from server.driven import PEER, Client, Server, Start, play_round
from tiny import CLASSES

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as split

SAMPLES, STEPS = 8, 4
TABLES: dict[str, Any] = {"rounds": 4, "codec": {"reuse": True}}


def rows_of(name: str, values: list[tuple[int, int]]) -> dict[str, Array]:
    """Of samples as they were sent in a round: (sample, round)."""
    rngs = [np.random.Generator(np.random.Philox([ord(name[0]), *value])) for value in values]
    rows = [rng.standard_normal(6, dtype=np.float32) for rng in rngs]
    labels = np.array([number % CLASSES for number, _ in values], dtype=np.int64)
    return {"activations": np.array(rows, np.float32).reshape(-1, 6), "labels": labels}


def moves(number: int, round_: int) -> bool:
    return (number + round_) % 3 == 0


class Mover(Client):
    """Upload n of a round has four samples from 2 n on, of which those travel that the server lacks or that move."""

    numbering = b"1" * 16
    here: Array

    def open(self, purpose: int = split.PURPOSE_TRAIN, steps: int = STEPS) -> None:
        told = self.begins
        self.place = {"term": told.term, "round": told.round, "purpose": purpose}
        opening = split.FrameHeader(
            run_id=self.reply.run_id, session_id=self.session, steps=steps, numbering=self.numbering, samples=SAMPLES,
            **self.place,
        )  # fmt: skip
        self.pushing = self.coordinator.open_push(PEER, opening, self._answered)
        self.here = np.frombuffer(self.answers[-1].position.held, "<u4") > 0

    def tensors(self, step: int, rows: int = 4) -> dict[str, Array]:
        numbers, round_ = [(2 * step + i) % SAMPLES for i in range(rows)], self.place["round"]
        sent = np.array([moves(n, round_) or not self.here[n] for n in numbers])
        self.here = self.here | np.isin(np.arange(SAMPLES), numbers)
        new = [(n, round_) for n, goes in zip(numbers, sent, strict=True) if goes]
        return {**rows_of(self.name, new), "sent": np.packbits(sent), "numbers": np.array(numbers, np.uint16)}


class Sender(Client):
    """The same uploads without reuse: each sample as it was sent last."""

    def tensors(self, step: int, rows: int = 4) -> dict[str, Array]:
        numbers, round_ = [(2 * step + i) % SAMPLES for i in range(rows)], self.place["round"]
        last = [(n, max(r for r in range(1, round_ + 1) if r == 1 or moves(n, r))) for n in numbers]
        return rows_of(self.name, last)


def join(server: Server, kind: type[Client] = Mover, names: str = "ab") -> list[Any]:
    return [kind(server.coordinator, name) for name in names]


def all_moved(client: Client) -> dict[str, Array]:
    """An upload's samples in other places than any round brings them to."""
    numbers = np.arange(4, dtype=np.uint16)
    return {**rows_of(client.name, [(n, 99) for n in range(4)]), "sent": np.packbits([1] * 4), "numbers": numbers}


def undisturbed(start: Start) -> str:
    server = start("undisturbed", **{**TABLES, "codec": {}})
    clients = join(server, Sender)
    for _ in range(TABLES["rounds"]):
        play_round(clients)
    return server.coordinator.model_sha256()


def test_the_server_trains_on_each_sample_as_it_was_sent_last(start: Start) -> None:
    server = start("moving", **TABLES)
    clients = join(server)
    for _ in range(TABLES["rounds"]):
        play_round(clients)
    assert server.coordinator.model_sha256() == undisturbed(start)


def test_a_round_that_a_killed_server_does_again_begins_with_what_was_here_before_it(start: Start) -> None:
    server = start("killed", **TABLES)
    clients = join(server)
    play_round(clients)
    for client in clients:
        client.open()
        client.push(0, all_moved(client))
    server.close()
    server = start("killed", resume=True, **TABLES)
    clients = join(server)
    for _ in range(TABLES["rounds"] - 1):
        play_round(clients)
    assert server.coordinator.finished and server.coordinator.model_sha256() == undisturbed(start)


def test_a_round_that_is_abandoned_leaves_nothing_of_what_it_brought(start: Start) -> None:
    server = start("abandoned", **TABLES, federation={"clients": 2, "min_clients": 2})
    first, second = clients = join(server)
    play_round(clients)
    for client in clients:
        client.open()
        client.push(0, all_moved(client))
    second.leave()
    assert server.coordinator.rounds_done == 1
    second = Mover(server.coordinator, "b")
    assert (first.begins.round, first.begins.term) == (2, 2)
    for _ in range(TABLES["rounds"] - 1):
        play_round([first, second])
    assert server.coordinator.finished and server.coordinator.model_sha256() == undisturbed(start)


def test_a_client_that_begins_anew_has_nothing_here(start: Start) -> None:
    server = start("anew", **TABLES)
    first, second = clients = join(server)
    play_round(clients)
    first.numbering = b"2" * 16
    first.open()
    assert not first.here.any()
    second.open()
    assert second.here.all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sent": np.packbits([1, 1, 1, 0])}, "of 4 came, 3 were announced and 1 of the others are not here"),
        ({**rows_of("a", [(0, 1)]), "sent": np.packbits([1, 0, 0, 0])}, "1 were announced and 3 of the others"),
        ({"sent": np.zeros(2, np.uint8)}, r"tensor sent must be uint8 \[1\], got uint8 \[2\]"),
        ({"numbers": np.array([0, 1, 2, 2], np.uint16)}, "3 different of 4"),
    ],
)  # fmt: skip
def test_a_client_that_says_what_is_not_so_is_refused_by_name(
    start: Start, change: dict[str, Array], words: str
) -> None:
    first, _ = join(start("bad", **TABLES))
    first.open()
    with pytest.raises(TensorError, match=f"client 'a', round 1, upload 0: .*{words}"):
        first.push(0, {**first.tensors(0), **change})


def test_an_upload_that_does_not_say_what_it_brings_is_refused(start: Start) -> None:
    first, _ = join(start("bad", **TABLES))
    first.open()
    tensors = first.tensors(0)
    del tensors["sent"]
    with pytest.raises(TensorError, match=r"client 'a', round 1, upload 0: .*sent"):
        first.push(0, tensors)
