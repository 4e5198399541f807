from __future__ import annotations

import weakref
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from integration.worlds import InProcessWorld, Member

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner, _Abandoned
from heron_client.session.session import Assignment, Session, State
from heron_client.transport.interface import Accept, PushStream
from heron_core.errors import HeronError, Internal, RunFailed, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.frames import Bulk
from heron_simulator.forwarding import Forwarding
from heron_simulator.simulator import simulate

MINE = Assignment(term=1, round=1, rank=0, clients=2, version=0)


class Events:
    """A Transport that only has events."""

    def __init__(self, *events: pb.RoundEvent) -> None:
        self.events = deque(events)
        self.disconnected = False

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        return self.events.popleft() if self.events else None

    def disconnect(self) -> None:
        self.disconnected = True


def at_work(transport: Events) -> Runner:
    runner = Runner(ClientSettings(name="a"), transport, b"k" * 16)
    runner.session = Session(State.TRAINING, session_id="s", run_id="r", assignment=MINE)
    return runner


ENDS = pb.RoundEvent(round_ends=pb.RoundEnds(term=1, round=1))


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (pb.RoundEvent(draining=pb.Draining(reason="stopped")), State.OFFLINE),
        (pb.RoundEvent(finished=pb.Finished()), State.DONE),
    ],
)
def test_what_follows_the_end_of_a_session_is_left_alone(event: pb.RoundEvent, state: State) -> None:
    transport = Events(event, ENDS)
    runner = at_work(transport)
    with pytest.raises(_Abandoned):
        runner._check_still_mine(MINE)
    assert runner.session.state is state
    assert transport.disconnected == (state is State.OFFLINE)


def test_work_goes_on_while_the_news_is_of_others() -> None:
    runner = at_work(
        Events(pb.RoundEvent(waiting=pb.Waiting(reason="x")), pb.RoundEvent(round_ends=pb.RoundEnds(term=9)))
    )
    runner._check_still_mine(MINE)
    assert runner.session.state is State.TRAINING


def test_a_newer_round_ends_the_work_in_hand_and_is_taken_up() -> None:
    runner = at_work(Events(pb.RoundEvent(round_begins=pb.RoundBegins(term=2, round=1, clients=2))))
    with pytest.raises(_Abandoned):
        runner._check_still_mine(MINE)
    assert runner.session.assignment == Assignment(2, 1, 0, 2, 0)


def test_an_idle_client_holds_nothing_of_a_round_that_ended_without_it() -> None:
    transport = Events(ENDS)
    runner = at_work(transport)
    runner._work, runner._state = object(), (1, 0, {})  # type: ignore[assignment]

    def train() -> Any:
        runner._check_still_mine(MINE)
        yield

    runner._train = train  # type: ignore[method-assign]
    next(runner.run())
    assert runner.session.state is State.IDLE
    assert runner._work is None and runner._state is None


# -- whole rounds, over a transport that breaks ------------------------------------------------------------------


def spec_of(name: str) -> RunSpec:
    method = {"objective": name, "micro_batch": 2} if name == "cut_gradient" else {"name": name}
    return RunSpec.model_validate(
        {
            "rounds": 2,
            "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
            "method": {**method, "local_steps": 3, "batch_size": 4},
            "federation": {"clients": 2},
        }
    )


class Counted:
    """A push stream that breaks where cut gradients would come, once for each step that `breaks` names."""

    def __init__(self, stream: PushStream, breaks: set[int]) -> None:
        self._stream, self._breaks = stream, breaks

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        event = self._stream.receive(timeout_s)
        if event is not None and event.rest.HasField("cut_gradients"):
            step = event.rest.cut_gradients.step
            if step in self._breaks:
                self._breaks.remove(step)
                raise Unreachable("broken before the cut gradients came")
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Wrapped:
    """An in-process transport, with its push streams counted and broken."""

    def __init__(self, transport: Any, breaks: set[int]) -> None:
        self._transport, self._breaks = transport, breaks
        self.pushes = 0
        self.updates: list[list[str]] = []

    def open_push(self, opening: split.FrameHeader) -> Any:
        self.pushes += 1
        return Counted(self._transport.open_push(opening), self._breaks)

    def submit(self, header: pb.UpdateHeader, arrays: Any) -> pb.SubmitUpdateReply:
        self.updates.append(list(arrays))
        reply: pb.SubmitUpdateReply = self._transport.submit(header, arrays)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def simulated(name: str, breaks: tuple[int, ...] = ()) -> tuple[str, list[Wrapped]]:
    wrapped: list[Wrapped] = []

    def around(transport: Any) -> Any:
        wrapped.append(Wrapped(transport, set(breaks)))
        return wrapped[-1]

    return simulate(spec_of(name), around=around).summary["model_sha256"], wrapped


@pytest.mark.parametrize("name", ["sflv1", "sflv2", "cut_gradient"])
def test_a_stream_that_breaks_before_the_cut_gradients_came_costs_nothing_but_time(name: str) -> None:
    undisturbed, calm = simulated(name)
    sha256, broken = simulated(name, breaks=(0, 1, 2))
    assert sha256 == undisturbed
    assert [w.pushes for w in calm] == [2, 2] and [w.pushes for w in broken] == [5, 5]


def test_a_method_without_uploads_opens_no_push_stream() -> None:
    _, wrapped = simulated("fedavg")
    assert [w.pushes for w in wrapped] == [0, 0]
    assert all({n.split(".")[0] for n in update} == {"front", "back"} for w in wrapped for update in w.updates)


@pytest.mark.parametrize("kind", [Internal, RunFailed])
def test_a_server_that_failed_is_one_that_may_come_back(kind: type[HeronError], tmp_path: Path) -> None:
    failures = [kind("its log says why")]

    class FailingOnce(Forwarding):
        def submit(self, header: pb.UpdateHeader, arrays: Any) -> pb.SubmitUpdateReply:
            if failures:
                raise failures.pop()
            return super().submit(header, arrays)

    world = InProcessWorld(spec_of("heron"), tmp_path)
    summary = world.run(Member("a", through=FailingOnce), Member("b"))
    world.close()
    assert not failures
    assert (summary["errors"], summary["rounds_done"]) == ({}, 2)


def test_a_client_follows_a_server_that_resumes_its_run_with_more_rounds(tmp_path: Path) -> None:
    before = [spec_of("heron").model_copy(update={"rounds": 1})]

    class Resumed(Forwarding):
        """One round to its first Join; then the server fails in it, and is back with two."""

        def join(self, request: pb.JoinRequest) -> pb.JoinReply:
            reply = super().join(request)
            if before:
                reply.run_spec_json = before[0].model_dump_json()
            return reply

        def submit(self, header: pb.UpdateHeader, arrays: Any) -> pb.SubmitUpdateReply:
            if before:
                before.clear()
                raise Internal("killed")
            return super().submit(header, arrays)

    world = InProcessWorld(spec_of("heron"), tmp_path)
    summary = world.run(Member("a", through=Resumed), Member("b"))
    world.close()
    assert (summary["errors"], summary["rounds_done"]) == ({}, 2)


class Fetching(Wrapped):
    """Counts how much of what was fetched is still held when the uploads begin."""

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> Any:
        arrays = self._transport.fetch_model(request, accept)
        self.fetched = [weakref.ref(array) for array in arrays.values()]
        return arrays

    def open_push(self, opening: split.FrameHeader) -> Any:
        assert self.fetched and not [ref for ref in self.fetched if ref() is not None]
        return super().open_push(opening)


def test_a_client_at_work_holds_no_second_copy_of_what_it_fetched() -> None:
    wrapped: list[Wrapped] = []

    def around(transport: Any) -> Any:
        wrapped.append(Fetching(transport, set()))
        return wrapped[-1]

    tables = spec_of("heron").model_dump()
    tables["method"]["moments"] = "kept"
    simulate(RunSpec.model_validate(tables), around=around)
    assert [w.pushes for w in wrapped] == [2, 2]


def test_only_what_is_the_client_s_goes_up() -> None:
    _, wrapped = simulated("fsl_sage")
    assert all({n.split(".")[0] for n in update} == {"front"} for w in wrapped for update in w.updates)


class Killed(Exception):
    """Stands for kill -9."""


class Fatal(Wrapped):
    """Dies of the cut gradients of step 1, once."""

    def open_push(self, opening: split.FrameHeader) -> Any:
        return FatalPush(self._transport.open_push(opening))


class FatalPush(Counted):
    def __init__(self, stream: PushStream) -> None:
        super().__init__(stream, set())

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        event = super().receive(timeout_s)
        if event is not None and event.rest.HasField("cut_gradients") and event.rest.cut_gradients.step == 1:
            raise Killed
        return event


def test_a_client_restarted_between_two_cut_gradients_leaves_the_round_at_once_and_is_in_the_next(
    tmp_path: Path,
) -> None:
    world = InProcessWorld(spec_of("sflv2"), tmp_path, quorum=0.1)
    first, other = Member("a", through=lambda t: Fatal(t, set())), Member("b")
    lives = [first.runner(world.transport()).run(), other.runner(world.transport()).run()]
    while lives:
        world.coordinator.tick()
        for life in list(lives):
            try:
                next(life)
            except Killed:
                lives[lives.index(life)] = Member("a").runner(world.transport()).run()
            except StopIteration:
                lives.remove(life)
    history = world.finish({})["history"]
    world.close()
    assert [record["participants"] for record in history] == [1, 2]
    assert "an earlier life" in history[0]["dropped_reasons"]["a"]
