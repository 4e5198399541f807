"""However much happens at once, nothing is nested: the simulator runs every command inline."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from server.driven import Client, Start, play_round

from heron_server.uploads.assembly import Upload


def spoiled(client: Client) -> dict[str, np.ndarray]:
    tensors = client.tensors(0)
    tensors["activations"][0, 0] = np.nan
    return tensors


def deepest(start: Start, folder: str, clients: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Frames on the stack where a client's leave releases the uploads of all others, each of which costs its client
    the round, and so the round, which begins anew."""
    names = [chr(ord("a") + i) for i in range(clients)]
    server = start(
        folder, federation={"clients": clients}, method={"batch_size": 4, "local_steps": 4}, server={"quorum": 0.1}
    )
    depths: list[int] = []
    train = server.trainer.train

    def watched(name: str, rank: int, number: int, upload: Upload) -> None:
        depths.append(len(inspect.stack(0)))
        train(name, rank, number, upload)

    monkeypatch.setattr(server.trainer, "train", watched)
    first, *rest = server.clients("".join(names))
    for client in rest:
        client.open()
        client.push(0, spoiled(client))
    first.leave()
    assert len(depths) == clients - 1 and server.coordinator.failure is None
    assert [client.begins.term for client in rest] == [1] * len(rest), "a new round waits for the one that left"
    assert all(len(client.heard("round_ends")) == 1 for client in rest) and server.coordinator.rounds_done == 0
    return max(depths)


def test_the_stack_is_as_deep_for_many_clients_that_fail_at_once_as_for_few(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deepest(start, "few", 3, monkeypatch) == deepest(start, "many", 12, monkeypatch)


def test_a_round_that_begins_while_another_ends_is_not_nested_in_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(rounds=6)
    clients, depths = server.clients("ab"), []
    end_round = server.trainer.end_round

    def watched(*arguments: object) -> object:
        depths.append(len(inspect.stack(0)))
        return end_round(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(server.trainer, "end_round", watched)
    for _ in range(6):
        play_round(clients)
    assert server.coordinator.finished and len(set(depths)) == 1
