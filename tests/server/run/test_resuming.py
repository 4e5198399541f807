from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiny
from server.driven import Server, Start, play_round

from heron_core.errors import CheckpointError
from heron_server.storage.run_dir import RunDir


def test_a_killed_server_resumes_with_a_higher_term_and_ends_with_the_same_bits(start: Start) -> None:
    undisturbed = start("undisturbed")
    clients = undisturbed.clients("ab")
    for _ in range(2):
        play_round(clients)
    first = start("killed")
    clients = first.clients("ab")
    play_round(clients)
    clients[0].open()
    clients[0].push(0)  # lost with the server
    run_id, term = first.coordinator.run_id, clients[0].begins.term
    first.close()
    second = start("killed", resume=True)
    assert (second.coordinator.run_id, second.coordinator.rounds_done) == (run_id, 1)
    clients = second.clients("ab")
    assert clients[0].begins.term > term and clients[0].begins.round == 2
    play_round(clients)
    assert second.coordinator.finished
    assert second.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert [r["round"] for r in second.history] == [1, 2]


def test_going_back_takes_back_the_rounds_since_and_ends_with_the_same_bits(start: Start, tmp_path: Path) -> None:
    """All three rounds are done when the last checkpoint turns out to be torn, and the one before it."""
    undisturbed = start("undisturbed", rounds=3)
    clients = undisturbed.clients("ab")
    for _ in range(3):
        play_round(clients)
    first = start(rounds=3, server={"keep_checkpoints": 3})
    clients = first.clients("ab")
    for _ in range(3):
        play_round(clients)
    term = clients[0].begins.term
    first.close()
    for number in (2, 3):
        path = tmp_path / "run" / "checkpoints" / f"round-{number:06d}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"is torn .* the newest good one is that after round 1"):
        start(rounds=3, resume=True)
    with closing(RunDir(tmp_path / "run")) as directory:
        directory.go_back(tiny.spec(rounds=3), 1)
    again = start(rounds=3, resume=True, server={"keep_checkpoints": 3})
    assert again.coordinator.rounds_done == 1 == len(log_of(again))
    clients = again.clients("ab")
    assert clients[0].begins.term > term and clients[0].begins.round == 2
    clients[0].open()
    again.coordinator.client_failed("a", "told so")  # the round is abandoned: it goes back to the same checkpoint
    again.coordinator.client_failed("b", "told so")
    for _ in range(2):
        play_round(clients)
    assert again.coordinator.finished
    assert again.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert [record["round"] for record in log_of(again)] == [1, 2, 3] == [r["round"] for r in again.history]
    assert without_times(log_of(again)) == without_times(log_of(undisturbed))
    assert again.coordinator.ledger.as_dict() == undisturbed.coordinator.ledger.as_dict()


def log_of(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (server.directory.path / "metrics.jsonl").read_text().splitlines()]


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "wall_s"} for record in records]


def test_a_model_whose_code_has_changed_is_not_resumed(start: Start) -> None:
    start().close()
    with pytest.raises(CheckpointError, match="does not fit the model: its code has changed since"):
        start(resume=True, model=tiny.conv("group"))


def test_resuming_a_finished_run_tells_everyone_so(start: Start) -> None:
    first = start(rounds=1)
    play_round(first.clients("ab"))
    first.close()
    second = start(resume=True, rounds=1)
    assert second.coordinator.finished
    assert second.client("a").heard("finished")[0].summary == "the run has ended after 1 rounds"


def test_a_finished_run_goes_on_for_more_rounds_and_ends_with_the_bits_of_one_that_had_them_from_the_start(
    start: Start, tmp_path: Path
) -> None:
    undisturbed = start("undisturbed", rounds=3)
    clients = undisturbed.clients("ab")
    for _ in range(3):
        play_round(clients)
    first = start(rounds=1)
    play_round(first.clients("ab"))
    first.directory.write_summary({"rounds_done": 1})
    assert first.coordinator.finished
    first.close()
    second = start(rounds=3, resume=True)
    assert not second.coordinator.finished and not (tmp_path / "run" / "summary.json").exists()
    clients = second.clients("ab")
    for _ in range(2):
        play_round(clients)
    assert second.coordinator.finished
    assert second.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert without_times(log_of(second)) == without_times(log_of(undisturbed))
    second.close()
    assert start(rounds=3, resume=True).coordinator.finished  # its settings are the frozen ones now


@pytest.mark.parametrize("table", ["method.optimizer", "server_optimizer"])
def test_other_rounds_are_refused_where_a_learning_rate_comes_down_over_them(start: Start, table: str) -> None:
    moving = {"schedule": "linear"}
    tables: dict[str, Any] = {"method": {"optimizer": moving}} if "." in table else {table: moving}
    first = start(rounds=3, **tables)
    play_round(first.clients("ab"))
    first.close()
    with pytest.raises(CheckpointError, match=rf"over its rounds = 3 \({table}\.schedule\), got rounds = 4"):
        start(rounds=4, resume=True, **tables)
    start(rounds=3, resume=True, **tables).close()


def test_fewer_rounds_than_are_done_are_refused(start: Start) -> None:
    first = start()
    clients = first.clients("ab")
    for _ in range(2):
        play_round(clients)
    first.close()
    with pytest.raises(CheckpointError, match=r"2 rounds are done, rounds = 1 .*--resume-after 1"):
        start(rounds=1, resume=True)
