from __future__ import annotations

import contextlib
import re
from math import inf, nan

import numpy as np
import pytest
from server.driven import BAD_UPLOADS, Array, Start, play_round, spoil

from heron_core.errors import (
    StaleTerm,
    TensorError,
)
from heron_server.uploads.assembly import Upload


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


def test_a_class_histogram_has_the_classes_of_the_run_or_costs_its_client_the_round(start: Start) -> None:
    """In each checkpoint, it ended the run once two clients had said millions of classes."""
    server = start(rounds=1)
    bad, good = server.clients("ab")
    with pytest.raises(TensorError, match="'a': a class histogram must have 3 counts or none, got 100000"):
        bad.submit(histogram=[1] * 100_000)
    play_round([good])
    assert bad.heard("dropped") and server.coordinator.finished
    assert server.coordinator.records.clients["b"]["class_histogram"] == []


@pytest.mark.parametrize(("histogram", "step_seconds"), [([1 << 50, 0, 0], 0.0), ([], inf), ([], nan), ([], -1.0)])
def test_figures_that_cannot_be_are_refused(start: Start, histogram: list[int], step_seconds: float) -> None:
    (client, _) = start().clients("ab")
    with pytest.raises(TensorError, match=r"at most 1099511627776 samples|step_seconds_median must be 0 or more"):
        client.submit(histogram=histogram, step_seconds=step_seconds)


def test_what_a_peer_has_a_say_in_is_kept_short(start: Start) -> None:
    server = start()
    (client, _) = server.clients("ab")
    server.coordinator.client_failed("a", "x" * 1_000_000)
    assert client.heard("dropped")[0].reason == 500 * "x"


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
