"""`evaluate_every`: the model is evaluated after each nth round and after the last; what is learned is the same."""

from __future__ import annotations

import pytest
from server.driven import HELD_OUT, Server, Start, play_round
from server.run.test_rare_checkpoints import ROUNDS, play
from server.run.test_resuming import log_of, without_times

from heron_core.errors import CheckpointError
from heron_core.pb.v1 import split_pb2 as split
from heron_server.storage.shelf import rounds_found


def evaluated(server: Server) -> list[int]:
    return [record["round"] for record in log_of(server) if record["accuracy"] is not None]


@pytest.mark.parametrize(("every", "rounds"), [(2, [2, 4, 5]), (5, [5])])
def test_rounds_between_are_not_evaluated_and_the_weights_are_the_same(
    start: Start, every: int, rounds: list[int]
) -> None:
    each, _ = play(start, "each")
    server, _ = play(start, evaluate_every=every)
    assert evaluated(each) == [1, 2, 3, 4, 5] and evaluated(server) == rounds
    assert server.coordinator.model_sha256() == each.coordinator.model_sha256()
    assert server.coordinator.ledger.as_dict() == each.coordinator.ledger.as_dict()
    between = server.history[0]
    assert (between["loss"], between["metrics"], between["samples"], between["metric"]["value"]) == (None, {}, 0, None)
    assert between["server_loss"] == each.history[0]["server_loss"] is not None
    assert [server.history[number - 1]["loss"] for number in rounds] == [each.history[n - 1]["loss"] for n in rounds]
    summary = server.coordinator.records.summary("r", 2, "abc", {}, {}, 0, 0)
    assert summary["accuracy"] == each.history[-1]["accuracy"] and summary["best_round"] in rounds


def test_a_kill_between_two_evaluations_ends_with_the_same_bits_and_records(start: Start) -> None:
    undisturbed, _ = play(start, "undisturbed", evaluate_every=3)
    first, clients = play(start, rounds=1, evaluate_every=3)
    clients[0].open()
    clients[0].push(0)
    first.close()
    second = start(rounds=ROUNDS, resume=True, evaluate_every=3)
    clients = second.clients("ab")
    for _ in range(ROUNDS - 1):
        play_round(clients)
    assert second.coordinator.finished and evaluated(second) == [3, 5]
    assert second.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert without_times(log_of(second)) == without_times(log_of(undisturbed))


def test_clients_evaluate_in_the_rounds_that_ask_for_it_and_fetch_nothing_in_the_others(start: Start) -> None:
    server, clients = play(start, rounds=1, evaluate_every=2, data={"source": "client"})
    assert server.coordinator.rounds_done == 1 and not clients[0].heard("evaluation_begins")
    assert server.coordinator.ledger.evaluation_up == server.coordinator.ledger.evaluation_down == 0
    play_round(clients)
    assert [event.version for event in clients[0].heard("evaluation_begins")] == [2]
    for client in clients:
        client.answers.clear()
        client.open(split.PURPOSE_EVALUATE, steps=2)
        client.push(0)
        client.push(1, client.tensors(1, rows=2), rows=2)
    assert server.coordinator.rounds_done == 2 and server.history[1]["samples"] == 2 * HELD_OUT
    play_round(clients)
    assert server.coordinator.rounds_done == 3 and server.history[2]["samples"] == 0, "nothing of round 2 is left over"


def test_the_best_checkpoint_is_one_of_those_whose_rounds_were_evaluated(start: Start) -> None:
    server, _ = play(start, rounds=4, evaluate_every=2, server={"keep_checkpoints": 1})
    kept = list(rounds_found(server.directory.path / "checkpoints"))
    assert kept in ([2, 4], [4])


def test_a_run_cannot_be_cut_short_to_a_round_that_was_not_evaluated(start: Start) -> None:
    first, _ = play(start, rounds=3, evaluate_every=2)
    first.close()
    words = "round 3 was not evaluated .evaluate_every = 2., .* --resume-after 2"
    with pytest.raises(CheckpointError, match=words):
        start(rounds=3, resume=True, evaluate_every=2)
    second = start(rounds=4, resume=True, evaluate_every=2)
    play_round(second.clients("ab"))
    assert second.coordinator.finished and evaluated(second) == [2, 4]
