"""`server.checkpoint_every`: rounds between checkpoints are held in memory; a kill repeats them, nothing else does."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from server.driven import Client, Server, Start, play_round
from server.run.test_full_disk import refuse, wait
from server.run.test_resuming import log_of, without_times

from heron_server.storage.shelf import rounds_found

RARE = {"checkpoint_every": 3}
ROUNDS = 5


def without_bytes(server: Server) -> list[dict[str, Any]]:
    """Its log's records but for times, and for bytes since the run began, among which are those of repeated rounds."""
    return [{key: of for key, of in record.items() if key != "wire_bytes"} for record in without_times(log_of(server))]


def play(start: Start, folder: str = "run", rounds: int = ROUNDS, **options: Any) -> tuple[Server, list[Client]]:
    server = start(folder, rounds=ROUNDS, **options)
    clients = server.clients("ab")
    for _ in range(rounds):
        play_round(clients)
    return server, clients


def on_the_disk(server: Server) -> list[int]:
    return list(rounds_found(server.directory.path / "checkpoints"))


@pytest.fixture
def undisturbed(start: Start) -> Server:
    return play(start, "undisturbed")[0]


def test_a_checkpoint_is_written_after_each_nth_round_and_after_the_last(start: Start, undisturbed: Server) -> None:
    server, clients = play(start, rounds=2, server={**RARE, "keep_checkpoints": 9})
    assert on_the_disk(server) == [0] and server.coordinator.rounds_done == 2 == len(log_of(server))
    play_round(clients)
    assert on_the_disk(server) == [0, 3]
    for _ in range(2):
        play_round(clients)
    assert on_the_disk(server) == [0, 3, 5] and server.coordinator.finished
    assert server.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert not (server.directory.path / "unsaved.json").exists()


@pytest.mark.parametrize("in_mid_round", [False, True])
def test_a_kill_repeats_the_rounds_since_the_last_checkpoint_charges_them_twice_and_ends_with_the_same_bits(
    start: Start, undisturbed: Server, in_mid_round: bool
) -> None:
    """Killed after round 2 of 5, and once more after round 1 was repeated."""
    first, clients = play(start, rounds=2, server=RARE)
    term, sent = clients[0].begins.term, first.coordinator.ledger.as_dict()
    if in_mid_round:
        clients[0].open()
        clients[0].push(0)
    first.close()
    second = start(rounds=ROUNDS, resume=True, server=RARE)
    assert second.coordinator.rounds_done == 0 == len(log_of(second))
    assert second.coordinator.ledger.as_dict() == sent
    clients = second.clients("ab")
    assert clients[0].begins.term > term and clients[0].begins.round == 1
    play_round(clients)
    second.close()
    third = start(rounds=ROUNDS, resume=True, server=RARE)
    assert third.coordinator.records.repeated["rounds"] == 3
    clients = third.clients("ab")
    for _ in range(ROUNDS):
        play_round(clients)
    assert third.coordinator.finished
    assert third.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert without_bytes(third) == without_bytes(undisturbed)
    charged, once = third.coordinator.ledger.as_dict(), undisturbed.coordinator.ledger.as_dict()
    repeated = third.coordinator.records.repeated
    assert repeated["rounds"] == 3 and repeated["wire_up"] > 0
    assert charged["wire_up"] - repeated["wire_up"] == once["wire_up"]
    assert charged["wire_down"] - repeated["wire_down"] == once["wire_down"]
    third.close()
    saved = start(rounds=ROUNDS, resume=True).coordinator.records
    assert saved.repeated == repeated and saved.summary("", 2, "", charged, {}, 0, 0)["repeated"] == repeated


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"run_id": "another", "rounds_done": 2}', "with another id", "with less sent"]
)
def test_what_was_sent_since_is_not_believed_where_it_cannot_be(start: Start, text: str) -> None:
    first, _ = play(start, rounds=1, server=RARE)
    path, kept = first.directory.path / "unsaved.json", first.coordinator.ledger.as_dict()
    found = json.loads(path.read_text())
    if text == "with another id":
        text = json.dumps({**found, "run_id": "another"})
    elif text == "with less sent":
        text = json.dumps({**found, "ledger": {**kept, "control": -1}})
    first.close()
    path.write_text(text)
    second = start(rounds=ROUNDS, resume=True, server=RARE)
    assert second.coordinator.records.repeated["rounds"] == 0
    assert set(second.coordinator.ledger.as_dict().values()) == {0}


def test_an_abandoned_round_goes_back_to_the_round_before_it_again_and_again(
    start: Start, undisturbed: Server
) -> None:
    server, clients = play(start, rounds=2, server={**RARE, "quorum": 1.0})
    held = server.tensors
    for _ in range(2):
        clients[0].open()
        clients[0].push(0)
        server.coordinator.client_failed("a", "told so")
        assert server.coordinator.rounds_done == 2 and on_the_disk(server) == [0]
        assert all((tensor == held[name]).all() for name, tensor in server.tensors.items())
    for _ in range(3):
        play_round(clients)
    assert server.coordinator.finished
    assert server.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()


def test_whoever_stops_writes_what_is_held_and_goes_on_from_there(start: Start, undisturbed: Server) -> None:
    first, clients = play(start, rounds=2, server=RARE)
    clients[0].open()
    clients[0].push(0)
    assert not first.coordinator.checkpoints.all_saved
    first.coordinator.checkpoints.save_held()
    assert first.coordinator.checkpoints.all_saved and on_the_disk(first) == [0, 2]
    first.close()
    second = start(rounds=ROUNDS, resume=True, server=RARE)
    assert second.coordinator.rounds_done == 2 and second.coordinator.records.repeated["rounds"] == 0
    clients = second.clients("ab")
    for _ in range(3):
        play_round(clients)
    assert second.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()


def test_a_round_that_found_the_disk_full_is_written_once_there_is_space(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(rounds=ROUNDS, server=RARE)
    clients = server.clients("ab")
    with monkeypatch.context() as disk:
        refuse(disk, errno.ENOSPC, only_the_log=True)
        play_round(clients)
        assert server.coordinator.rounds_done == 0
    wait(server, 5, *clients)
    assert server.coordinator.rounds_done == 1 == len(log_of(server)) and on_the_disk(server) == [0, 1]


def test_a_round_between_two_checkpoints_flushes_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server, clients = play(start, rounds=0, server=RARE)
    with monkeypatch.context() as disk:
        refuse(disk, errno.EIO)  # any flush to the disk would end the run
        for _ in range(2):
            play_round(clients)
    assert server.coordinator.rounds_done == 2 and server.coordinator.failure is None


def test_going_back_by_hand_forgets_what_was_sent_since(start: Start, tmp_path: Path) -> None:
    first, _ = play(start, rounds=4, server=RARE)
    assert (tmp_path / "run" / "unsaved.json").exists()
    first.directory.go_back(first.coordinator.spec, 3)
    first.close()
    second = start(rounds=ROUNDS, resume=True, server=RARE)
    assert second.coordinator.rounds_done == 3 and second.coordinator.records.repeated["rounds"] == 0
