from __future__ import annotations

import pytest
import tiny
from server.driven import Start, play_round

from heron_core.errors import CheckpointError


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
