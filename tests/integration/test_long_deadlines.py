"""Deadlines of two minutes and of an hour, over real gRPC, by a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

from integration.worlds import PATIENCE_S, GrpcWorld, Member, MovedClock

from heron_client.transport.interface import Transport
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.run_spec import RunSpec
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import empty_arrays, expected_batch, manifest_of
from heron_core.wire.frames import Bulk
from heron_simulator.forwarding import Forwarding


def spec(**method: Any) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": 1, "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
        "method": {"local_steps": 2, "batch_size": 8, **method}, "federation": {"clients": 2, "min_clients": 1},
    })  # fmt: skip


class World:
    """A server, an honest client b in a thread, and a that the test drives by hand over a transport of its own."""

    def __init__(self, folder: Path, **method: Any) -> None:
        self.clock = MovedClock()
        self.server = GrpcWorld(spec(**method), folder, self.clock, heartbeat_s=0.05, silence_s=1e9)
        self.summary: dict[str, Any] = {}
        self.local_steps = self.server.coordinator.spec.method.local_steps
        self.hand = self.server.transport()
        self.joined = self.hand.join(
            pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"a" * 16)
        )
        self.hand.watch(self.joined.session_id, self.joined.heartbeat_s, 1e9)
        self._honest = threading.Thread(target=lambda: self.summary.update(self.server.run(Member("b"))))
        self._honest.start()
        self.begins: pb.RoundBegins = self.comes("round_begins")

    def comes(self, kind: str) -> Any:
        """The next event of this kind that a hears."""
        deadline = monotonic() + PATIENCE_S
        while monotonic() < deadline:
            event = self.hand.next_event(0.5)
            if event is not None and event.WhichOneof("event") == kind:
                return getattr(event, kind)
        raise AssertionError(f"no {kind} came\n{self.server.coordinator.story()}")

    def moves_to(self, now: float) -> None:
        self.server.tick()
        self.clock.now = now
        self.server.tick()

    def owes(self, name: str) -> bool:
        return name in self.server.coordinator._deadlines._owing()

    def ends(self) -> dict[str, Any]:
        """The run's one round, once b has brought it to its end."""
        self._honest.join(PATIENCE_S)
        assert self.summary, self.server.coordinator.story()
        return dict(self.summary["history"][0])

    def close(self) -> None:
        self.hand.disconnect()
        self._honest.join(PATIENCE_S)
        self.server.close()


def test_a_client_from_which_nothing_comes_in_its_turn_is_dropped_after_120_s_and_the_other_goes_on(
    tmp_path: Path,
) -> None:
    with closing(World(tmp_path / "run")) as world:
        world.moves_to(120)
        assert world.owes("a") and world.server.coordinator.rounds_done == 0
        world.moves_to(120.25)
        assert world.comes("dropped").reason.startswith("late: no progress for 120 s while it was its turn")
        assert world.ends()["dropped_reasons"].keys() == {"a"}


def test_bytes_that_trickle_for_120_s_are_no_progress(tmp_path: Path) -> None:
    with closing(World(tmp_path / "run")) as world:
        place = {"term": world.begins.term, "round": world.begins.round, "purpose": split.PURPOSE_TRAIN}
        opening = split.FrameHeader(
            run_id=world.joined.run_id, session_id=world.joined.session_id, steps=2, **place
        )
        stream, uploads = world.hand.open_push(opening), world.server.coordinator.uploads
        assert uploads is not None
        manifest = manifest_of_an_upload(world)
        for offset in range(60):
            header = split.FrameHeader(offset=offset, batch_rows=8, **place)
            if not offset:
                header.manifest.CopyFrom(manifest)
            stream.send(Bulk(split.ActivationFrame(header=header), (b"x",)))
            until(lambda taken=offset + 1: uploads.place("a") == (0, taken))
            assert world.owes("a"), f"at {world.clock.now} s"
            world.moves_to(2.0 * (offset + 1))
        world.moves_to(120.25)
        assert "no progress" in world.comes("dropped").reason
        assert world.ends()["dropped_reasons"].keys() == {"a"}


def manifest_of_an_upload(world: World) -> Any:
    expected = expected_batch(world.server.coordinator.trainer.uploaded, rows=8)
    return manifest_of(empty_arrays(expected))


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread does."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, "it did not come"


def test_at_the_round_s_3600_s_only_the_one_whose_turn_it_is_loses_it(tmp_path: Path) -> None:
    """It goes on with its local steps all the time; the honest one waits behind it for an hour."""
    with closing(World(tmp_path / "run", local_steps=80, upload_period=40)) as world:
        for step in range(1, 37):
            world.hand.report(world.begins.term, 1, step)
            world.server.rounds.hear("a", 1, step, 80)
            assert world.owes("a") and not world.owes("b")
            world.moves_to(100.0 * step)
        world.moves_to(3600.25)
        reason = "late: the round's 3600 s are over, and its turn took more than 120 s"
        assert world.comes("dropped").reason == reason
        done = world.ends()
        assert (done["participants"], done["dropped_reasons"]) == (1, {"a": reason})


class Slow(Forwarding):
    """Each of its local steps takes 10 s of the server's clock; it goes on once the server has heard of the last."""

    def __init__(self, inner: Transport, name: str, world: GrpcWorld, clock: MovedClock, steps: int) -> None:
        super().__init__(inner)
        self._name, self._world, self._clock, self._steps = name, world, clock, steps

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        self._inner.report(term, round_number, step, replayed)
        self._world.rounds.hear(self._name, round_number, step, self._steps)
        self._clock.now += 10.0


def test_a_client_of_10_s_a_local_step_that_uploads_every_20th_is_waited_for(tmp_path: Path) -> None:
    clock = MovedClock()
    run = spec(local_steps=40, upload_period=20)
    with closing(GrpcWorld(run, tmp_path / "run", clock, heartbeat_s=0.05, silence_s=1e9)) as world:
        slow = Member("a", through=lambda inner: Slow(inner, "a", world, clock, 40))
        (done,) = world.run(slow, Member("b"))["history"]
        assert (done["participants"], done["dropped"]) == (2, 0) and clock.now >= 400
