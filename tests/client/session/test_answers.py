"""A client that is told nonsense about the run or a round leaves and says what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.worlds import InProcessWorld, Member

from heron_client.session.session import State
from heron_client.transport.interface import Accept, Transport
from heron_core.arrays import Array
from heron_core.errors import BadReply, HeronError, ModelError, ServerTensorError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_simulator.forwarding import Forwarding

SPEC = RunSpec.model_validate(
    {
        "rounds": 2,
        "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
        "method": {"local_steps": 2, "batch_size": 8},
        "federation": {"clients": 1},
    }
)


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Callable[..., HeronError]]:
    """The error that ends a client whose server's answers go through `around`, and whether the server was told."""
    with closing(InProcessWorld(SPEC, tmp_path / "run")) as world:

        def ended(around: Callable[[Transport], Transport]) -> HeronError:
            runner = Member("a", through=around).runner(world.transport())
            with pytest.raises(HeronError) as error:
                for _ in runner.run():
                    world.turn()
            assert runner.session.state is State.FAILED
            return error.value

        yield ended


def joins(**fields: Any) -> Callable[[Transport], Transport]:
    """The answer to Join has these fields."""

    class Answering(Forwarding):
        def join(self, request: pb.JoinRequest) -> pb.JoinReply:
            reply = super().join(request)
            for name, value in fields.items():
                setattr(reply, name, value)
            return reply

    return Answering


@pytest.mark.parametrize(
    ("heartbeat_s", "silence_s"),
    [(0.0, 30.0), (-1.0, 30.0), (0.01, 30.0), (nan, 30.0), (inf, inf), (1e12, 1e13), (5.0, nan), (5.0, 5.0)],
)
def test_times_by_which_nobody_can_live_are_refused(
    ended: Callable[..., HeronError], heartbeat_s: float, silence_s: float
) -> None:
    error = ended(joins(heartbeat_s=heartbeat_s, silence_s=silence_s))
    assert type(error) is BadReply
    assert f"a heartbeat every {heartbeat_s:g} s and takes {silence_s:g} s of silence" in str(error)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_a_run_spec_that_is_no_json_is_refused(ended: Callable[..., HeronError], text: str) -> None:
    error = ended(joins(run_spec_json=text))
    assert type(error) is BadReply and "run spec must be JSON" in str(error)


def test_a_model_for_which_there_is_no_memory_is_named(ended: Callable[..., HeronError]) -> None:
    tables = SPEC.model_dump()
    tables["model"]["widths"] = [1 << 44, 8]
    error = ended(joins(run_spec_json=RunSpec.model_validate(tables).model_dump_json()))
    assert type(error) is ModelError and str(error).startswith("the run's model mlp cannot be built here: ")


@pytest.mark.parametrize("field", ["session_id", "run_id"])
def test_an_answer_without_session_or_run_is_refused(ended: Callable[..., HeronError], field: str) -> None:
    assert "must name a session and a run" in str(ended(joins(**{field: ""})))


@pytest.mark.parametrize(
    "fields", [{"round": 0}, {"round": 3}, {"rank": 1}, {"clients": 0}, {"clients": 1 << 31}, {"clients": 7, "rank": 6}]
)
def test_a_round_or_a_rank_that_the_run_does_not_have_is_refused(
    ended: Callable[..., HeronError], fields: dict[str, int]
) -> None:
    class Answering(Forwarding):
        def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
            event = super().next_event(timeout_s)
            if event is not None and event.HasField("round_begins"):
                for name, value in fields.items():
                    setattr(event.round_begins, name, value)
            return event

    error = ended(Answering)
    assert type(error) is BadReply and "its run has 2 rounds and 1 clients" in str(error)


def test_a_client_state_that_is_not_finite_is_the_server_s_fault_not_the_data_s(
    ended: Callable[..., HeronError],
) -> None:
    class Spoiling(Forwarding):
        def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
            arrays = super().fetch_model(request, accept)
            next(iter(arrays.values())).flat[0] = np.nan
            return arrays

    error = ended(Spoiling)
    assert type(error) is ServerTensorError
    assert str(error).startswith("the server's client state: tensor ") and "the data" not in str(error)


def test_a_client_that_is_stopped_in_a_wait_still_leaves_its_session(tmp_path: Path) -> None:
    left: list[str] = []
    with closing(InProcessWorld(SPEC, tmp_path / "run")) as world:

        class Stopped(Forwarding):
            def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
                runner.stop()
                raise Unreachable("stopped while waiting")

            def leave(self, request: pb.LeaveRequest) -> None:
                left.append(request.reason)
                super().leave(request)

        runner = Member("a", through=Stopped).runner(world.transport())
        for _ in runner.run():
            world.turn()
        assert runner.session.state is State.STOPPED
        assert left == ["stopped by its operator"] and world.coordinator.clients_present == 0
