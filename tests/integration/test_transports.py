"""One suite over both transports: what a client meets does not depend on what carries its messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_client.testing import check_transport
from heron_client.transport.interface import PushStream, Transport
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.run_spec import RunSpec
from heron_core.wire import bulk
from heron_core.wire.frames import Bulk
from heron_server.run import sessions
from heron_simulator.forwarding import Forwarding
from heron_simulator.simulator import simulate

Open = Callable[..., World]


def spec(**tables: Any) -> RunSpec:
    small: dict[str, Any] = {
        "rounds": 2,
        "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
        "method": {"local_steps": 2, "batch_size": 8},
        "federation": {"clients": 2},
    }
    return RunSpec.model_validate({**small, **tables})


class Spoiled:
    """A transport that hands everything on, and spoils what a test says."""

    def __init__(self, inner: Transport, spoil_state: Any = None, spoil_frame: Any = None) -> None:
        self._inner, self._spoil_state, self._spoil_frame = inner, spoil_state, spoil_frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Any]) -> pb.SubmitUpdateReply:
        spoiled = {name: array.copy() for name, array in arrays.items()}
        if self._spoil_state is not None:
            self._spoil_state(spoiled)
        return self._inner.submit(header, spoiled)

    def open_push(self, opening: split.FrameHeader) -> Any:
        stream = self._inner.open_push(opening)
        return stream if self._spoil_frame is None else SpoiledPush(stream, self._spoil_frame)


class SpoiledPush:
    def __init__(self, inner: PushStream, spoil: Any) -> None:
        self._inner, self._spoil = inner, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        self._spoil(frame.rest.header)
        self._inner.send(frame)


def not_a_number(state: dict[str, Any]) -> None:
    next(iter(state.values())).flat[0] = np.nan


def other_state_shape(state: dict[str, Any]) -> None:
    name = next(iter(state))
    state[name] = state[name].reshape(-1)


def other_cut_shape(header: split.FrameHeader) -> None:
    if header.manifest.tensors:
        header.manifest.tensors[0].shape.append(1)


class TransportSuite:
    """Subclasses say which world."""

    world: Callable[..., World]

    @pytest.fixture
    def open_world(self, tmp_path: Path) -> Iterator[Open]:
        with ExitStack() as stack:

            def open_world(run: RunSpec, **settings: Any) -> World:
                world = type(self).world(run, tmp_path / "run", **settings)
                stack.callback(world.close)
                return world

            yield open_world

    def test_clients_join_and_the_run_ends_for_all(self, open_world: Open) -> None:
        summary = open_world(spec()).run(Member("a"), Member("b"))
        assert summary["errors"] == {}
        assert [(r["participants"], r["dropped"]) for r in summary["history"]] == [(2, 0), (2, 0)]
        assert summary["per_client"].keys() == {"a", "b"}

    def test_states_that_are_too_large_for_one_message_travel_in_calls_of_their_own_with_the_same_bits(
        self, open_world: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = simulate(spec()).summary
        monkeypatch.setattr(bulk, "CHUNK_BYTES", 8)
        monkeypatch.setattr(sessions, "CHUNK_BYTES", 8)
        large = open_world(spec()).run(Member("client-0"), Member("client-1"))
        assert large["errors"] == {} and large["model_sha256"] == small["model_sha256"]
        for kind in ("client_state_up", "client_state_down", "activations_up"):
            assert large["ledger"][kind] == small["ledger"][kind] > 0
        assert large["ledger"]["control"] > small["ledger"]["control"]

    def test_it_keeps_the_contract_of_a_transport(self, open_world: Open) -> None:
        world = open_world(spec(federation={"clients": 1}))
        report = check_transport(world.transport, world.turn)
        assert len(report.passed) == 10

    def test_late_joiner_takes_part_from_a_later_round_on(self, open_world: Open) -> None:
        late = spec(rounds=60, federation={"clients": 3, "min_clients": 2})
        summary = open_world(late, start_wait_s=0.001).run(Member("a"), Member("b"), Member("c", after=1))
        participants = [record["participants"] for record in summary["history"]]
        assert participants[0] == 2
        assert participants[-1] == 3
        assert participants == sorted(participants)

    def test_observers_hear_how_far_a_client_is_before_it_submits(self, open_world: Open) -> None:
        world = open_world(spec(), heartbeat_s=0.05)

        class Patient(Forwarding):
            """Submits once its last local step is heard of."""

            def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Any]) -> pb.SubmitUpdateReply:
                world.rounds.hear("a", header.round, 2, 2)
                return super().submit(header, arrays)

        summary = world.run(Member("a", through=Patient), Member("b"))
        assert summary["errors"] == {} and summary["rounds_done"] == 2

    def test_own_data_is_evaluated_by_the_clients_on_what_they_hold_out(self, open_world: Open, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        members = []
        for name, samples in (("a", 40), ("b", 60)):
            path = tmp_path / f"{name}.npz"
            x = rng.normal(size=(samples, 1, 8, 8)).astype(np.float32)
            np.savez(path, x=x, y=np.arange(samples) % 10)
            members.append(Member(name, data={"source": "npz", "path": path}))
        summary = open_world(spec(data={"source": "client", "holdout": 0.25})).run(*members)
        assert summary["errors"] == {}
        held_out = 10 + 15
        for record in summary["history"]:
            correct = record["accuracy"] * held_out
            assert correct == pytest.approx(round(correct), abs=1e-9), "counts of 25 samples, no more and no less"
            assert record["loss"] > 0
        ledger, paper, rounds = summary["ledger"], summary["ledger_paper"], len(summary["history"])
        assert ledger["evaluation_up"] == 2 * held_out * (8 * 4 + 8)
        assert ledger["client_state_down"] == ledger["client_state_up"] == rounds * ledger["evaluation_down"]
        assert paper["client_state_down"] == paper["client_state_up"], "what only the last evaluation needed is none's"
        assert {n: sum(c["class_histogram"]) for n, c in summary["per_client"].items()} == {"a": 30, "b": 45}

    @pytest.mark.parametrize(
        ("spoiled", "reason"),
        [
            ({"spoil_state": not_a_number}, "must be finite, got 1 NaN or Inf"),
            ({"spoil_state": other_state_shape}, r"must be float32 \[.*\], got float32 \[.*\]"),
            ({"spoil_frame": other_cut_shape}, r"activations must be float32 \[8, 8\], got float32 \[8, 8, 1\]"),
        ],
        ids=["state NaN", "state shape", "activations shape"],
    )
    def test_unusable_tensor_costs_its_client_the_round_and_no_one_else(
        self, open_world: Open, spoiled: dict[str, Any], reason: str
    ) -> None:
        bad = Member("bad", through=lambda inner: Spoiled(inner, **spoiled))
        world = open_world(spec(federation={"clients": 3}), grace_s=0.0)
        summary = world.run(Member("a"), bad, Member("c"))
        assert summary["errors"] == {}, "it is not the end of its sender's process"
        for record in summary["history"]:
            assert (record["participants"], record["dropped"]) == (2, 1)
            assert re.search(reason, record["dropped_reasons"]["bad"])
        assert np.isfinite(summary["loss"])


@pytest.mark.parametrize("name", ["heron", "sflv2", "fedavg"])
def test_the_simulator_s_ledger_is_what_grpc_carries(name: str, tmp_path: Path) -> None:
    """One client, so that nothing hangs on who comes first; heartbeats, which only gRPC charges, are rare."""
    run = spec(method={"name": name, "local_steps": 2, "batch_size": 8}, federation={"clients": 1})
    ledgers = []
    for kind in (InProcessWorld, GrpcWorld):
        with closing(kind(run, tmp_path / kind.__name__, heartbeat_s=29.0, silence_s=60.0)) as world:
            ledgers.append(world.run(Member("a"))["ledger"])
    assert ledgers[0] == ledgers[1]
    assert ledgers[0]["wire_up"] > 0


class TestInProcess(TransportSuite):
    world = InProcessWorld


class TestGrpc(TransportSuite):
    world = GrpcWorld

    def test_a_rule_that_bears_hostile_clients_gives_the_simulators_bits(self, open_world: Open) -> None:
        federation = {"clients": 5, "min_clients": 5, "aggregation": "multi_krum", "hostile": 1}
        run = spec(federation=federation, guard={"clip_gradient": 0.5})
        summary = open_world(run).run(*(Member(f"client-{place}") for place in range(5)))
        assert summary["errors"] == {}
        assert summary["model_sha256"] == simulate(run).summary["model_sha256"]
