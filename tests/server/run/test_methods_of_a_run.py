"""What a run does differently by method: what comes back, what is averaged, and which heads the server trains."""

from __future__ import annotations

import numpy as np
import pytest
from server.driven import ALIGNED, Array, Client, Start, play_round

from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.codec import BundleReceiver, empty_arrays, manifest_of


def gradients(client: Client) -> list[tuple[int, float, Array]]:
    """(step, loss, gradient) of each bundle that came, in order."""
    found = []
    for event in client.bulks:
        if event.rest.HasField("cut_gradients"):
            told = event.rest.cut_gradients
            arrays = empty_arrays([("activations", "float32", (4, 6))])
            receiver = BundleReceiver(list(arrays.values()), "test")
            assert told.manifest == manifest_of(arrays)
            receiver.write(told.offset, event.payload)
            assert receiver.complete
            found.append((told.step, told.loss, arrays["activations"]))
    return found


@pytest.mark.parametrize("name", ["sflv1", "sflv2", "heron"])
def test_a_client_whose_activations_overflow_the_loss_is_dropped_and_the_others_learn_on(
    start: Start, name: str
) -> None:
    server = start(rounds=1, method={"name": name}, federation={"clients": 3})
    clients = server.clients("abc")
    spoiled = clients[1]
    for client in clients:
        client.open()
    spoiled.push(0, {"activations": np.full((4, 6), 3e38, np.float32), "labels": np.arange(4) % 3})
    for step in range(4):
        for client in (clients[0], clients[2]):
            client.push(step)
    for client in (clients[0], clients[2]):
        client.submit()
    assert "client 'b', upload 0: the server's loss must be finite" in spoiled.heard("dropped")[0].reason
    assert server.coordinator.finished and server.coordinator.failure is None
    assert server.history[0]["participants"] == 2 and np.isfinite(server.history[0]["server_loss"])
    assert all(np.isfinite(t).all() for t in server.tensors.values())
    if name != "heron":
        assert gradients(spoiled) == []
        assert all(np.isfinite(loss) and np.isfinite(g).all() for c in clients for _, loss, g in gradients(c))


@pytest.mark.parametrize("name", ["sflv1", "sflv2"])
def test_every_upload_is_answered_with_its_cut_gradients_of_as_many_bytes(start: Start, name: str) -> None:
    server = start(rounds=1, method={"name": name})
    clients = server.clients("ab")
    play_round(clients)
    assert server.coordinator.finished
    for client in clients:
        assert [step for step, _, _ in gradients(client)] == [0, 1, 2, 3]
    ledger = server.coordinator.ledger.as_dict()
    answered = sum(bulk.payload_bytes for client in clients for bulk in client.bulks)
    assert answered == ledger["activations_up"] == 2 * 4 * 4 * 6 * 4
    kinds = {kind: count for kind, count in ledger.items() if not kind.startswith("wire")}
    assert sum(kinds.values()) == ledger["wire_up"] + ledger["wire_down"]


def test_a_stream_that_comes_back_gets_the_newest_gradients_again_until_the_next_upload(start: Start) -> None:
    server = start(rounds=1, method={"name": "sflv2"})
    broken, other = server.clients("ab")
    broken.open()
    other.open()
    broken.push(0)
    other.push(0)
    (first,) = gradients(broken)
    for again in (2, 3):
        server.coordinator.push_closed(broken.pushing)
        broken.open()
        assert broken.answers[-2].position.sequence == 1, "the position comes first"
        assert len(gradients(broken)) == again
    step, loss, gradient = gradients(broken)[-1]
    assert (step, loss) == first[:2] and np.array_equal(gradient, first[2])
    other.push(1)
    broken.push(1)
    server.coordinator.push_closed(broken.pushing)
    broken.open()
    assert [step for step, _, _ in gradients(broken)] == [0, 0, 0, 1, 1]


def test_gradients_that_came_while_the_stream_was_broken_are_sent_when_it_is_back(start: Start) -> None:
    server = start(rounds=1, method={"name": "sflv1"})
    other, broken = server.clients("ab")
    for client in (other, broken):
        client.open()
    broken.push(0)
    server.coordinator.push_closed(broken.pushing)
    other.push(0)
    assert gradients(broken) == []
    broken.open()
    assert [step for step, _, _ in gradients(broken)] == [0]


def test_nothing_is_sent_again_once_the_update_is_here_or_the_client_is_out(start: Start) -> None:
    server = start(rounds=1, method={"name": "sflv2"})
    done, other = server.clients("ab")
    for client in (done, other):
        client.open()
    for step in range(4):
        done.push(step)
        if step < 3:
            other.push(step)
    done.submit()
    done.open()
    assert len(gradients(done)) == 4
    uploads = server.coordinator.uploads
    assert uploads is not None and list(uploads._unconfirmed._newest) == ["b"]
    other.leave()
    assert not uploads._unconfirmed._newest and server.coordinator.finished


def test_an_upload_of_an_evaluation_is_never_answered_with_gradients(start: Start) -> None:
    server = start(rounds=1, method={"name": "sflv2"}, data={"source": "client"})
    clients = server.clients("ab")
    play_round(clients)
    for client in clients:
        client.bulks.clear()
        client.open(split.PURPOSE_EVALUATE, steps=2)
        client.push(0)
        client.push(1, client.tensors(1, rows=2), rows=2)
    assert server.coordinator.finished and not any(gradients(client) for client in clients)


def test_sflv1_averages_the_backs_of_those_who_counted_with_their_weights(start: Start) -> None:
    server = start(rounds=1, method={"name": "sflv1"}, federation={"clients": 3, "aggregation": "samples"})
    clients = server.clients("abc")
    for client in clients:
        client.open()
    for step in range(4):
        for client in clients[: 3 if step < 2 else 2]:
            client.push(step)
        if step == 1:
            clients[2].leave()
    backs = [server.trainer._backs.trainee(rank).module.state_dict() for rank in (0, 1)]
    backs = [{n: t.double().numpy().copy() for n, t in back.items()} for back in backs]
    clients[0].submit(num_samples=30)
    clients[1].submit(num_samples=10)
    assert server.coordinator.finished
    for name, tensor in server.trainer.back_tensors().items():
        first, second = (back[name.removeprefix("back.")] for back in backs)
        np.testing.assert_array_equal(tensor, (first * 0.75 + second * 0.25).astype(np.float32))


def test_fedavg_updates_count_at_once_and_both_models_are_the_same(start: Start) -> None:
    server = start(rounds=1, method={"name": "fedavg"})
    first, second = server.clients("ab")
    first.submit()
    assert not server.coordinator.finished and server.heard.of("upload_consumed") == [("upload_consumed", "a")]
    second.submit()
    assert server.coordinator.finished and len(server.heard.of("upload_consumed")) == 2
    held = server.tensors
    for name, tensor in held.items():
        if name.startswith("client.back."):
            np.testing.assert_array_equal(tensor, held[name.removeprefix("client.")])
    assert server.history[0]["server_loss"] is None and server.history[0]["auxiliary_accuracy"] is None
    assert server.coordinator.ledger.activations_up == 0


def test_frozen_clients_submit_nothing_and_the_state_stays(start: Start) -> None:
    server = start(rounds=1, method={"name": "frozen"})
    before = server.coordinator.states.common(0)
    play_round(server.clients("ab"))
    after = server.coordinator.states.common(1)
    assert server.coordinator.finished and not server.coordinator.expected_update
    assert all(np.array_equal(tensor, after[name]) for name, tensor in before.items())


def test_the_server_s_head_goes_down_with_the_next_version(start: Start) -> None:
    server = start(method={"auxiliary_update": "server"})
    clients = server.clients("ab")
    before = clients[0].fetch()
    play_round(clients)
    after = [client.fetch() for client in clients]
    head = server.trainer.client_state()
    for name in ("auxiliary.weight", "auxiliary.bias"):
        assert not np.array_equal(before[name], after[0][name])
        assert all(np.array_equal(fetched[name], head[name]) for fetched in after)


def test_heads_are_aligned_after_every_second_round_also_of_a_client_that_did_not_count(start: Start) -> None:
    server = start(
        rounds=3, method={"name": "fsl_sage", "alignment": ALIGNED}, federation={"clients": 3},
    )  # fmt: skip
    clients = server.clients("abc")
    name = "auxiliary.weight"
    first = clients[0].fetch()[name]
    play_round(clients)
    assert all(np.array_equal(c.fetch()[name], first) for c in clients)
    for client in clients:
        client.answers.clear()
        client.open()
    for step in range(4):
        for client in clients:
            client.push(step)
    with pytest.raises(TensorError):
        clients[2].submit({n: np.full_like(t, np.nan) for n, t in clients[2].state().items()})
    for client in clients[:2]:
        client.submit()
    heads = [client.fetch()[name] for client in clients]
    assert server.coordinator.rounds_done == 2 and server.history[1]["dropped"] == 1
    for n, head in enumerate(heads):
        assert not np.array_equal(head, first)
        assert all(not np.array_equal(head, other) for other in heads[:n])
