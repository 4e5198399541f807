from __future__ import annotations

import numpy as np
import pytest
from server.driven import PEER, Start, play_round, spoil

from heron_core.errors import (
    StaleTerm,
)
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.codec import manifest_of
from heron_server.storage.checkpoint import Checkpoint


def test_an_abandoned_round_goes_back_to_the_checkpoint_with_a_term_raised_on_the_disk(start: Start) -> None:
    server = start(server={"quorum": 1.0})
    saved = server.trainer.save()
    leaver, stayer = server.clients("ab")
    for client in (leaver, stayer):
        client.open()
        client.push(0)
    assert not np.array_equal(server.trainer.save()["back.0.weight"], saved["back.0.weight"])
    term = stayer.begins.term
    leaver.leave()
    assert all(np.array_equal(a, saved[n]) for n, a in server.trainer.save().items())
    (ends,) = stayer.heard("round_ends")
    assert (ends.term, ends.round) == (term, 1) and int((server.directory.path / "term").read_text()) == term + 1
    with pytest.raises(StaleTerm):
        stayer.push(1)
    with pytest.raises(StaleTerm, match=f"the server is at term {term + 1}, round 1; the update is of {term}, 1"):
        stayer.submit()
    with pytest.raises(StaleTerm):
        stayer.open()
    back = server.client("a")
    assert back.begins.term == stayer.begins.term == term + 1
    for _ in range(2):
        play_round([back, stayer])
    assert server.coordinator.finished and server.coordinator.failure is None


def test_a_frame_on_the_last_round_s_stream_never_reaches_the_next_round(start: Start) -> None:
    server = start(server={"quorum": 1.0})
    failing, stayer = server.clients("ab")
    for client in (failing, stayer):
        client.open()
    stayer.push(0)
    server.coordinator.client_failed("a", "told so")  # both are here: the round begins anew at once
    assert stayer.begins.term == 2 and server.coordinator.uploads is not stayer.pushing.uploads
    with pytest.raises(StaleTerm, match="these uploads is over"):
        stayer.push(1)
    assert server.coordinator.failure is None
    assert server.trainer.take_mean_loss() is None, "nothing was trained"


def test_an_update_whose_round_is_abandoned_while_its_bytes_come_is_stale(start: Start) -> None:
    server = start(method={"name": "fedavg"}, server={"quorum": 1.0})
    _, slow = server.clients("ab")
    state, begins = slow.state(), slow.begins
    header = pb.UpdateHeader(
        run_id=slow.reply.run_id, term=begins.term, round=begins.round, session_id=slow.session, num_samples=10
    )
    assert server.coordinator.check_update(PEER, header, manifest_of(state))
    server.coordinator.client_failed("a", "told so")  # both are here: the round begins anew at once
    with pytest.raises(StaleTerm, match="the update is of 1, 1"):
        server.coordinator.submit(PEER, header, state)
    assert not server.coordinator._phases.has_update("b")


def test_a_drop_that_abandons_the_round_may_release_the_uploads_of_those_who_submitted(start: Start) -> None:
    server = start(federation={"clients": 3}, server={"quorum": 1.0})
    saved = server.trainer.save()
    leaver, *rest = server.clients("abc")
    for client in rest:
        client.open()
        for step in range(min(4, client.credit)):
            client.push(step)
        client.submit()
    leaver.leave()
    assert server.coordinator.failure is None and server.coordinator.rounds_done == 0
    assert all(np.array_equal(a, saved[n]) for n, a in server.trainer.save().items())


def test_a_nan_that_abandons_the_round_leaves_no_upload_behind(start: Start) -> None:
    server = start(server={"quorum": 1.0})
    saved = server.trainer.save()
    nan, good = server.clients("ab")
    for client in (nan, good):
        client.open()
    good.push(0)
    nan.push(0, spoil("activations", np.nan)(nan.tensors(0)))  # good's step was next in the queue
    assert nan.begins.term == good.begins.term == 2
    assert all(np.array_equal(a, saved[n]) for n, a in server.trainer.save().items())
    uploads = server.coordinator.uploads
    assert uploads is not None and not any(uploads.scheduler._consumed.values())


def test_while_the_checkpoint_is_loaded_no_update_is_taken(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(method={"name": "fedavg"}, server={"quorum": 1.0})
    failing, slow = server.clients("ab")
    state, last = slow.state(), server.directory.last

    def loading() -> Checkpoint:
        with pytest.raises(StaleTerm, match="round 1 was abandoned"):
            slow.submit(state)
        return last()

    monkeypatch.setattr(server.directory, "last", loading)
    server.coordinator.client_failed("a", "told so")
    assert server.coordinator.failure is None and slow.begins.term == 2
    play_round([failing, slow])
    assert server.coordinator.rounds_done == 1


def test_one_bad_client_without_whom_no_round_goes_on_abandons_a_handful_of_attempts_and_is_named(start: Start) -> None:
    server = start(federation={"clients": 2, "min_clients": 2}, server={"abandoned_pause_s": 1.0, "silence_s": 1e9})
    bad, _ = server.clients("ab")
    attempted = 0
    while server.now < 15:
        if bad.begins.term > attempted:
            attempted = bad.begins.term
            server.coordinator.client_failed("a", "its activations are NaN")
        server.now += 0.25
        server.coordinator.tick()
    assert attempted == 4, "at 0, 1, 3 and 7 s; the next is at 15 s"
    (last,) = server.heard.of("note")[-1:]
    assert last[1].endswith("it begins again after 8 s; abandoned 4 times in a row, dropped most often: a 4 times")
    told = [event.reason for event in bad.heard("waiting")]
    assert told[-1].startswith("round 1 was abandoned 4 times in a row; it begins again")
