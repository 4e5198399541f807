"""Clients that send each sample once, driven by hand: kills at any place, rows that cannot be used, foreign numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from server.driven import PEER, Client, Server, Start, play_round
from tiny import CLASSES

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as split

SAMPLES, STEPS = 8, 4
TABLES: dict[str, Any] = {"rounds": 3, "method": {"name": "frozen"}, "codec": {"reuse": True}}


def rows_of(name: str, numbers: Sequence[int]) -> dict[str, Array]:
    """The same for a sample each time."""
    rngs = [np.random.Generator(np.random.Philox([ord(name[0]), number])) for number in numbers]
    values = [rng.standard_normal(6, dtype=np.float32) for rng in rngs]
    labels = np.array([number % CLASSES for number in numbers], dtype=np.int64)
    return {"activations": np.array(values, np.float32).reshape(-1, 6), "labels": labels}


class Reuser(Client):
    """Upload n of a round has four samples from 2 n on, of which those travel that the server lacks."""

    numbering = b"1" * 16
    held: set[int]

    def open(self, purpose: int = split.PURPOSE_TRAIN, steps: int = STEPS) -> None:
        told = self.begins
        self.place = {"term": told.term, "round": told.round, "purpose": purpose}
        opening = split.FrameHeader(
            run_id=self.reply.run_id, session_id=self.session, steps=steps, numbering=self.numbering, samples=SAMPLES,
            **self.place,
        )  # fmt: skip
        self.pushing = self.coordinator.open_push(PEER, opening, self._answered)
        bits = np.frombuffer(self.answers[-1].position.held, np.uint8)
        self.held = set(np.flatnonzero(np.unpackbits(bits, count=SAMPLES)).tolist())

    def tensors(self, step: int, rows: int = 4) -> dict[str, Array]:
        numbers = [(2 * step + i) % SAMPLES for i in range(rows)]
        new = [number for number in numbers if number not in self.held]
        self.held |= set(numbers)
        return {**rows_of(self.name, new), "numbers": np.array(numbers, dtype=np.uint16)}


class Sender(Reuser):
    """The same uploads without reuse."""

    def open(self, purpose: int = split.PURPOSE_TRAIN, steps: int = STEPS) -> None:
        Client.open(self, purpose, steps)

    def tensors(self, step: int, rows: int = 4) -> dict[str, Array]:
        return rows_of(self.name, [(2 * step + i) % SAMPLES for i in range(rows)])


def join(server: Server, kind: type[Reuser] = Reuser) -> list[Client]:
    return [kind(server.coordinator, name) for name in "ab"]


def undisturbed(start: Start) -> str:
    server = start("undisturbed", **{**TABLES, "codec": {}})
    clients = join(server, Sender)
    for _ in range(3):
        play_round(clients)
    return server.coordinator.model_sha256()


def test_each_sample_comes_once_and_a_killed_server_has_those_that_had_come(start: Start) -> None:
    server = start("killed", **TABLES)
    first, _ = clients = join(server)
    play_round(clients)
    assert server.coordinator.ledger.as_dict()["activations_up"] == 2 * (SAMPLES * 24 + STEPS * 4 * 2)
    first.open()
    assert len(first.held) == SAMPLES
    server.close()
    server = start("killed", resume=True, **TABLES)
    first, _ = clients = join(server)
    for _ in range(2):
        play_round(clients)
    assert server.coordinator.ledger.as_dict()["activations_up"] == 2 * (SAMPLES * 24 + 3 * STEPS * 4 * 2)
    assert server.coordinator.model_sha256() == undisturbed(start)


def test_a_client_that_is_killed_within_a_round_numbers_anew_and_the_bits_are_the_same(start: Start) -> None:
    server = start("killed", **TABLES)
    first, second = clients = join(server)
    play_round(clients)
    first.open()
    first.push(0)
    first.numbering = b"2" * 16
    first.open()
    assert first.answers[-1].position.sequence == 1 and first.held == set()
    second.open()
    second.push(0)
    for step in range(1, STEPS):
        first.push(step)
        second.push(step)
    first.submit()
    second.submit()
    play_round(clients)
    assert server.coordinator.finished and server.coordinator.model_sha256() == undisturbed(start)


def test_a_row_that_cannot_be_used_costs_its_client_the_round_and_is_asked_for_again(start: Start) -> None:
    server = start("bad", **TABLES)
    first, second = clients = join(server)
    for client in clients:
        client.open()
    spoiled = first.tensors(0)
    spoiled["activations"][1, 1] = np.nan
    first.push(0, spoiled)
    second.push(0)
    assert "client 'a', upload 0: activations must be finite" in str(server.heard.events)
    for step in range(1, STEPS):
        second.push(step)
    second.submit()
    assert server.coordinator.rounds_done == 1
    first.open()
    assert first.held == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numbers": np.array([0, 1, 2, 8], np.uint16)}, r"must lie in 0\.\.7, none twice"),
        ({"numbers": np.array([0, 1, 2, 2], np.uint16)}, "3 different of 4"),
        ({"numbers": np.array([0, 1, 2, 3], np.int64)}, "must be uint16"),
        (rows_of("a", [0, 1]), "the server lacks 4 of its 4 samples, activations of 2 came"),
        (rows_of("a", [0, 1, 2, 3, 4]), r"tensor activations must be float32 \[4, 6\], got float32 \[5, 6\]"),
    ],
)
def test_what_does_not_fit_the_samples_that_are_here_is_refused(
    start: Start, change: dict[str, Array], words: str
) -> None:
    first, _ = join(start("bad", **TABLES))
    first.open()
    with pytest.raises(TensorError, match=f"client 'a', round 1, upload 0: .*{words}"):
        first.push(0, {**first.tensors(0), **change})


def test_an_opening_without_numbers_and_more_samples_than_have_room_are_refused(start: Start) -> None:
    first, second = join(start("bad", server={"reuse_budget": 783}, **TABLES))
    with pytest.raises(TensorError, match=r"client .a.: codec\.reuse wants a numbering of 16 bytes"):
        Client.open(first)
    second.open()  # 392 bytes
    first, _ = join(start("small", server={"reuse_budget": 391}, **TABLES))
    with pytest.raises(TensorError, match=r"client rank 0: its 8 samples need 392 B to be kept, and of"):
        first.open()
