from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
from server.driven import HELD_OUT, PEER, Array, Client, Server, Start, play_round

from heron_core.errors import (
    CheckpointError,
    ConfigError,
    HeronError,
    NameTaken,
    StaleTerm,
    TensorError,
    UnknownSession,
    VersionMismatch,
)
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import manifest_of
from heron_server.storage import checkpoint
from heron_server.uploads.assembly import Upload

# -- a run that goes well ----------------------------------------------------------------------------------------


def test_a_run_trains_averages_evaluates_commits_and_finishes(start: Start) -> None:
    server = start()
    clients = server.clients("ba")
    before = server.coordinator.states.common(0)
    for _ in range(2):
        play_round(clients)
    assert server.coordinator.finished and server.coordinator.rounds_done == 2
    final = server.coordinator.states.common(2)
    for name, value in before.items():  # a adds 1 and b adds 2 each round
        np.testing.assert_allclose(final[name], value + 3, rtol=1e-6)
    assert [len(c.heard("finished")) for c in clients] == [1, 1]
    assert [(r["round"], r["participants"], r["dropped"]) for r in server.history] == [(1, 2, 0), (2, 2, 0)]
    assert len((server.directory.path / "metrics.jsonl").read_text().splitlines()) == 2


def test_canonical_order_gives_the_same_bits_whoever_sends_first(start: Start) -> None:
    digests = []
    for folder, backwards in (("one", False), ("two", True)):
        server = start(folder)
        clients = server.clients("ab" if backwards else "ba")
        for _ in range(2):
            play_round(sorted(clients, key=lambda c: c.name), backwards)
        digests.append(server.coordinator.model_sha256())
    assert digests[0] == digests[1]


def test_the_ledger_adds_up_and_labels_are_charged_apart(start: Start) -> None:
    server = start()
    play_round(server.clients("ab"))
    ledger = server.coordinator.ledger
    assert ledger.activations_up == 2 * 4 * 4 * 6 * 4 and ledger.labels_up == 2 * 4 * 4 * 8
    kinds = [v for k, v in ledger.as_dict().items() if not k.startswith("wire")]
    assert sum(kinds) == ledger.wire_up + ledger.wire_down


def test_a_repeated_update_is_a_duplicate_and_counts_once(start: Start) -> None:
    server = start(federation={"clients": 1})
    (client,) = server.clients("a")
    client.open()
    assert client.submit()
    assert server.coordinator.rounds_done == 0, "its uploads are not consumed yet"
    assert not client.submit()
    for step in range(4):
        client.push(step)
    assert server.coordinator.rounds_done == 1


# -- clients that send what cannot be used -----------------------------------------------------------------------


def spoil(name: str, value: float) -> Callable[[dict[str, Array]], dict[str, Array]]:
    def spoiled(tensors: dict[str, Array]) -> dict[str, Array]:
        tensors[name].reshape(-1)[0] = value
        return tensors

    return spoiled


BAD_UPLOADS: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], str]] = {
    "NaN": (spoil("activations", np.nan), "must be finite, got 1 NaN"),
    "Inf": (spoil("activations", np.inf), "must be finite"),
    "a label out of range": (spoil("labels", 3), r"labels must lie in 0\.\.2"),
    "a wrong shape": (
        lambda t: {**t, "activations": t["activations"][:, :5]},
        r"must be float32 \[4, 6\], got float32 \[4, 5\]",
    ),
    "a wrong dtype": (lambda t: {**t, "activations": t["activations"].astype(np.float64)}, "got float64"),
    "a missing tensor": (lambda t: {"activations": t["activations"]}, r"missing \['labels'\]"),
}


@pytest.mark.parametrize("harm", BAD_UPLOADS)
def test_a_client_with_an_unusable_upload_is_dropped_and_the_others_finish(start: Start, harm: str) -> None:
    spoiled, reason = BAD_UPLOADS[harm]
    server = start(rounds=1)
    bad, good = server.clients("ab")
    for client in (bad, good):
        client.open()
    for step in range(good.credit):
        good.push(step)
    with contextlib.suppress(TensorError):  # a mismatch is told on the stream too, a NaN is found by the worker
        bad.push(0, spoiled(bad.tensors(0)))
    (dropped,) = bad.heard("dropped")
    assert re.search(reason, dropped.reason)
    with pytest.raises(StaleTerm):
        bad.push(1)
    with pytest.raises(StaleTerm):
        bad.submit()
    sent = good.pushing.uploads._assemblies["b"].sequence
    for step in range(sent, 4):
        good.push(step)
    good.submit()
    assert server.coordinator.finished and server.coordinator.failure is None
    assert server.history[0]["participants"] == 1 and list(server.history[0]["dropped_reasons"]) == ["a"]


def bad_state(harm: str, state: dict[str, Array]) -> dict[str, Array]:
    name = next(iter(state))
    if harm == "NaN":
        state[name].reshape(-1)[0] = np.nan
    elif harm == "shape":
        state[name] = state[name].reshape(-1)[1:]
    elif harm == "dtype":
        state[name] = state[name].astype(np.float64)
    else:
        del state[name]
    return state


@pytest.mark.parametrize("harm", ["NaN", "shape", "dtype", "missing"])
def test_a_client_with_an_unusable_update_is_dropped_and_the_others_finish(start: Start, harm: str) -> None:
    server = start(rounds=1)
    bad, good = server.clients("ab")
    with pytest.raises(TensorError, match="client 'a', update of round 1"):
        bad.submit(bad_state(harm, bad.state()))
    good.open()
    for step in range(4):
        good.push(step)
    good.submit()
    assert server.coordinator.finished
    final = server.coordinator.states.common(1)
    assert all(np.isfinite(a).all() for a in final.values())


@pytest.mark.parametrize("header", [{"num_samples": 0}, {"num_samples": 1 << 50}, {"held_out_samples": 1 << 50}])
def test_implausible_counts_are_refused(start: Start, header: dict[str, int]) -> None:
    server = start()
    (client, _) = server.clients("ab")
    with pytest.raises(TensorError, match="samples"):
        client.submit(**header)


def test_a_wrong_number_of_uploads_is_refused(start: Start) -> None:
    server = start()
    (client, _) = server.clients("ab")
    with pytest.raises(TensorError, match="a round has 4 uploads, got 5"):
        client.open(steps=5)


def test_when_a_drop_releases_uploads_that_drop_another_the_rest_goes_on_in_order(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(rounds=1, federation={"clients": 3, "min_clients": 1}, server={"quorum": 0.1})
    trained: list[tuple[str, int]] = []
    train = server.trainer.train

    def watched(name: str, rank: int, number: int, upload: Upload) -> None:
        train(name, rank, number, upload)
        trained.append((name, upload.number))

    monkeypatch.setattr(server.trainer, "train", watched)
    first, nan, good = server.clients("abc")
    for client in (nan, good):
        client.open()
        for step in range(2):
            client.push(step, spoil("activations", np.nan)(client.tensors(step)) if client is nan else None)
    assert trained == []
    first.leave()
    assert trained == [("c", 0), ("c", 1)]
    for step in (2, 3):
        good.push(step)
    good.submit()
    assert server.coordinator.finished and len(nan.heard("dropped")) == 1


# -- abandoned rounds and stale work -----------------------------------------------------------------------------


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


# -- sessions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"protocol_version": 99}, VersionMismatch, rf"speaks protocol version {PROTOCOL_VERSION}, the client 99"),
        ({"client_name": "../etc"}, ConfigError, "a client name is"),
        ({"client_name": "x" * 65}, ConfigError, "a client name is"),
        ({"client_name": "a\n"}, ConfigError, "a client name is"),
        ({"instance_key": b"short"}, ConfigError, "instance key 16 bytes, got .* and 5 bytes"),
    ],
)
def test_a_join_that_makes_no_sense_is_refused(
    start: Start, fields: dict[str, Any], error: type[HeronError], message: str
) -> None:
    server = start()
    good = {"protocol_version": PROTOCOL_VERSION, "client_name": "a", "instance_key": b"k" * 16}
    with pytest.raises(error, match=message):
        server.coordinator.join(PEER, pb.JoinRequest(**{**good, **fields}))
    assert server.coordinator.clients_present == 0


def test_a_takeover_cuts_the_old_session_and_goes_on_from_its_position(start: Start) -> None:
    server = start(rounds=1)
    old, other = server.clients("ab")
    other.open()
    old.open()
    old.push(0)
    with pytest.raises(NameTaken):
        Client(server.coordinator, "a", key=b"x" * 16)
    new = server.client("a")
    assert old.cut and not new.cut
    for call in (lambda: old.push(1), old.submit, old.open, old.leave):
        with pytest.raises(UnknownSession):
            call()
    new.open()
    assert new.answers[0].position.sequence == 1
    server.coordinator.push_closed(old.pushing)
    for step in range(4):
        if step:
            new.push(step)
        other.push(step)
    new.submit()
    other.submit()
    assert server.coordinator.finished


def test_only_the_present_client_state_can_be_fetched(start: Start) -> None:
    server = start()
    (client, _) = server.clients("ab")
    for version in (1, 99):
        with pytest.raises(StaleTerm, match=f"client state {version} is not the current one"):
            server.coordinator.model(PEER, pb.FetchModelRequest(session_id=client.session, version=version))
    with pytest.raises(UnknownSession):
        server.coordinator.model(PEER, pb.FetchModelRequest(session_id="nobody", version=0))


def test_the_silent_client_whose_turn_it_is_is_dropped_at_the_step_deadline(start: Start) -> None:
    server = start(rounds=1, server={"step_deadline_s": 5, "silence_s": 1000})
    silent, good = server.clients("ab")
    for client in (silent, good):
        client.open()
    for step in range(2):
        good.push(step)
    for now in (0.0, 4.0, 5.0):
        server.now = now
        server.coordinator.tick()
    assert not silent.heard("dropped")
    server.now = 5.5
    server.coordinator.tick()
    assert "late: nothing came for 5 s" in silent.heard("dropped")[0].reason
    for step in (2, 3):
        good.push(step)
    good.submit()
    assert server.coordinator.finished


def test_a_client_lost_in_a_round_is_dropped_and_plays_the_next(start: Start) -> None:
    server = start(server={"grace_s": 10, "silence_s": 1000})
    lost, good = server.clients("ab")
    for client in (lost, good):
        client.open()
    lost.push(0)
    good.push(0)
    server.coordinator.push_closed(lost.pushing)
    server.coordinator.watch_lost(lost.session)
    server.now = 11
    server.coordinator.tick()
    back = server.client("a")
    assert back.heard("waiting") and not back.heard("round_begins")
    for step in (1, 2, 3):
        good.push(step)
    good.submit()
    assert server.coordinator.rounds_done == 1 and server.history[0]["dropped"] == 1
    play_round([back, good])
    assert server.coordinator.finished and server.history[1]["dropped"] == 0


def test_draining_is_told(start: Start) -> None:
    server = start()
    clients = server.clients("ab")
    server.coordinator.drain("stopped")
    assert [c.heard("draining")[0].reason for c in clients] == ["stopped"] * 2


# -- evaluation by the clients -----------------------------------------------------------------------------------


def evaluating(start: Start) -> tuple[Server, list[Client]]:
    server = start(rounds=1, data={"source": "client"})
    clients = server.clients("ab")
    play_round(clients)
    for client in clients:
        assert client.heard("evaluation_begins")[0].version == 1
        client.answers.clear()
        client.open(split.PURPOSE_EVALUATE, steps=2)
    return server, clients


def test_clients_evaluate_on_their_held_out_samples(start: Start) -> None:
    server, clients = evaluating(start)
    before = server.trainer.save()
    for client in clients:
        client.push(0)
        client.push(1, client.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished
    assert server.coordinator._phases.counts.samples == 2 * HELD_OUT
    assert server.history[0]["accuracy"] is not None and server.coordinator.ledger.evaluation_up > 0
    assert all(np.array_equal(a, before[n]) for n, a in server.trainer.save().items())


@pytest.mark.parametrize("harm", ["NaN", "a label out of range", "a wrong shape"])
def test_an_unusable_evaluation_is_skipped_and_the_round_commits(start: Start, harm: str) -> None:
    server, (bad, good) = evaluating(start)
    spoiled, _ = BAD_UPLOADS[harm]
    with contextlib.suppress(TensorError):
        bad.push(0, spoiled(bad.tensors(0)))
    good.push(0)
    assert not server.coordinator.finished
    good.push(1, good.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished and server.history[0]["participants"] == 2
    assert server.coordinator._phases.counts.samples == HELD_OUT
    assert np.isfinite(server.history[0]["loss"])


def test_a_client_that_leaves_while_it_evaluates_is_skipped(start: Start) -> None:
    server, (leaver, good) = evaluating(start)
    leaver.leave()
    good.push(0)
    good.push(1, good.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished


# -- resuming ----------------------------------------------------------------------------------------------------


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


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_can_be_resumed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    clients = server.clients("ab")
    play_round(clients)
    with monkeypatch.context() as full:

        def refuse(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(checkpoint.os, "fsync", refuse)
        play_round(clients)
    failure = server.coordinator.failure
    assert isinstance(failure, CheckpointError) and "No space left" in str(failure)
    assert server.coordinator.rounds_done == 1 and not server.coordinator.finished
    server.close()
    again = start(resume=True)
    play_round(again.clients("ab"))
    assert again.coordinator.finished
    assert len(again.history) == 2
