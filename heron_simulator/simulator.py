"""The simulator: the product's server and N of its clients in one process and one thread, over an in-process transport.

Clients take turns whenever they wait; uploads are handed over as objects, so the ledger charges what the same messages
would weigh on the wire.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from torch import nn

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.interface import Accept, PushStream, Transport
from heron_client.transport.received import from_server
from heron_core.arrays import Array
from heron_core.config import validate
from heron_core.data import Shares
from heron_core.errors import ConfigError, HeronError, Internal, Interrupted, UnknownSession
from heron_core.models.split_model import AssembledModel
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.process import signals
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.bulk import state_chunks, update_chunks
from heron_core.wire.codec import manifest_of
from heron_core.wire.frames import Bulk
from heron_server.config import ServerSettings
from heron_server.metrics.charges import Charges
from heron_server.metrics.figures import Summary
from heron_server.metrics.observers import Observer, Observers
from heron_server.planning.facts import ModelFacts
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer
from heron_server.run.prepare import finish_run, prepare
from heron_server.run.sessions import Pushing
from heron_server.storage.run_dir import RunDir
from heron_server.training.worker import InlineWorker

NO_DEADLINES = {
    "silence_s": inf, "step_deadline_s": inf, "round_deadline_s": inf, "space_wait_s": 0.0, "abandoned_pause_s": 0.0,
}  # fmt: skip
"""In one thread a client is never late: it waits for its turn to compute. A full disk ends the run at once, and an
abandoned round begins again at once."""
ClientTables = Mapping[str, object]
"""What a client's file may say, not yet checked."""


@dataclass(frozen=True)
class Simulation:
    """What a simulated run leaves: its summary (as in summary.json), the assembled model in evaluation mode, and what
    planning knows of it."""

    summary: Summary
    model: nn.Module
    facts: ModelFacts


def simulate(
    run_spec: RunSpec,
    *,
    clients: int | None = None,
    settings: ServerSettings | None = None,
    client_settings: ClientTables | Sequence[ClientTables] | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    around: Callable[[Transport], Transport] | None = None,
) -> Simulation:
    """Runs `run_spec` with N simulated clients; `clients` overrides federation.clients.

    `client_settings` are keys of the client's file (such as data) for every client, or one such table for each.
    The observers hear what happens, and are closed at the end. `around` may wrap each client's transport. Without
    `run_dir` nothing is left on the disk. Raises the HeronError that ended the run or one of the clients; Interrupted,
    within a local step, where this is a command that a signal ends. A program of your own gets its KeyboardInterrupt.
    """
    if clients is not None:
        run_spec = with_clients(run_spec, clients)
    participants = _participants(run_spec.federation.clients, client_settings or {})
    stopped = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals.stopping(stopped.set))
        told = stack.enter_context(Observers(observers))
        folder = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heron-")))
        settings = (settings or ServerSettings()).model_copy(update={"run_dir": folder, **NO_DEADLINES})
        directory = RunDir(folder, settings.keep_checkpoints)
        stack.callback(directory.close)
        trainer, facts = prepare(run_spec, settings)
        coordinator = Coordinator(run_spec, settings, trainer, directory, InlineWorker(), resume, told)
        try:
            _run_clients(coordinator, participants, around or (lambda transport: transport), stopped)
        except _Stopped:
            raise _interrupted(coordinator, run_dir) from None
        summary = finish_run(coordinator, facts, directory, curves=run_dir is not None)
        trained = trainer.trained()
        return Simulation(summary, AssembledModel(trained.front, trained.back).eval(), facts)


def with_clients(run_spec: RunSpec, clients: int) -> RunSpec:
    """The same run for another number of clients; raises ConfigError where its settings forbid that."""
    tables = run_spec.model_dump()
    tables["federation"]["clients"] = clients
    tables["federation"]["min_clients"] = min(clients, run_spec.federation.min_clients)
    return validate(RunSpec, tables, f"the run with {clients} clients")


def _participants(count: int, given: ClientTables | Sequence[ClientTables]) -> list[ClientSettings]:
    """Every client's settings; raises ConfigError. Where one table serves all, they are called client-0 and so on."""
    width = len(str(count - 1))
    if isinstance(given, Mapping):
        tables = [{**given, "name": f"client-{i:0{width}d}"} for i in range(count)]
    else:
        tables = [{"name": f"client-{i:0{width}d}", **table} for i, table in enumerate(given)]
    found = [validate(ClientSettings, table, f"the settings of {table['name']}") for table in tables]
    if len(found) != count:
        raise ConfigError(f"federation.clients = {count} wants as many client files, or one for all, got {len(given)}")
    if len({settings.name for settings in found}) != count:
        raise ConfigError(f"every client needs a name of its own, got {', '.join(s.name for s in found)}; change one")
    return found


def _interrupted(coordinator: Coordinator, run_dir: Path | None) -> Interrupted:
    done, rounds = coordinator.rounds_done, coordinator.spec.rounds
    kept = f"everything up to there is saved in {run_dir}: go on with --resume" if run_dir else "nothing is kept"
    return Interrupted(f"stopped by a signal after round {done} of {rounds}; {kept}")


class _Stopped(Exception):
    """A signal has come. No error of Heron's: a client would tell its server of that."""


def _run_clients(
    coordinator: Coordinator, participants: list[ClientSettings], around: Callable[[Transport], Transport],
    stopped: threading.Event,
) -> None:  # fmt: skip
    def go_on() -> None:
        if stopped.is_set():
            raise _Stopped

    runners, shares = [], Shares()
    for settings in participants:
        key = hashlib.blake2b(settings.name.encode(), digest_size=16).digest()
        transport = around(InProcess(coordinator, settings.name))
        client = Runner(settings, transport, key, measure_memory=False, on_alive=go_on, shares=shares)
        runners.append((settings.name, client.run()))
    while runners:
        coordinator.tick()
        still = []
        for name, runner in runners:
            if coordinator.failure is not None:
                raise coordinator.failure
            try:
                next(runner)
                still.append((name, runner))
            except StopIteration:
                pass
            except HeronError as error:
                if coordinator.failure is not None:
                    raise coordinator.failure from None
                raise type(error)(f"{name}: {error}") from error
        runners = still
    if coordinator.failure is not None:
        raise coordinator.failure
    if not coordinator.finished:
        raise Internal("every simulated client stopped before the run was over")


class InProcess(Transport):
    """A client's Transport that calls the coordinator directly and never waits; charges what gRPC would carry.

    `identity`: whose calls these are, as a certificate would prove it. Empty: anybody's, as in plain text.
    """

    def __init__(self, coordinator: Coordinator, identity: str = "") -> None:
        self._peer = Peer("in-process", identity)
        self._coordinator, self._charges = coordinator, Charges(coordinator.ledger)
        self._session_id = ""
        self._events: deque[pb.RoundEvent] = deque()
        self._cut: HeronError | None = None

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        call = self._charges.call("Join")
        call.up(request)
        reply = self._coordinator.join(self._peer, request)
        call.down(reply)
        return reply

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        self._session_id, self._cut = session_id, None
        self._events.clear()
        call = self._charges.call("WatchRounds")

        def send(event: pb.RoundEvent) -> None:
            call.down(event)
            self._events.append(event)

        self._coordinator.watch(self._peer, session_id, send, self._be_cut)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        if self._events:
            return self._events.popleft()
        if self._cut is not None:
            raise self._cut
        return None

    def report(self, term: int, round_number: int, step: int) -> None:
        """Beats at once. Nothing is charged: over gRPC the number of beats depends on the time that a round takes."""
        with suppress(UnknownSession):  # the client hears of that by its next event
            beat = pb.Beat(session_id=self._session_id, term=term, round=round_number, step=step)
            self._coordinator.beat(self._peer, beat)

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        call = self._charges.call("FetchModel")
        call.up(request)
        state = self._coordinator.model(self._peer, request)
        for chunk in state_chunks(state):
            call.down(chunk)
        self._coordinator.fetched(self._peer, request, sum(array.nbytes for array in state.values()))
        with from_server():
            accept(manifest_of(state))
        return {name: array.copy() for name, array in state.items()}

    def open_push(self, opening: split.FrameHeader) -> InProcessPush:
        return InProcessPush(self._coordinator, self._peer, self._charges, opening)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        call, chunks = self._charges.call("SubmitUpdate"), update_chunks(header, arrays)
        call.up(next(chunks))  # as over gRPC: the first is looked at before the others are read
        fresh = self._coordinator.check_update(self._peer, header, manifest_of(arrays))
        for chunk in chunks:
            call.up(chunk)
        if fresh:
            self._coordinator.submit(self._peer, header, dict(arrays))
        reply = pb.SubmitUpdateReply()
        call.down(reply)
        return reply

    def leave(self, request: pb.LeaveRequest) -> None:
        call = self._charges.call("Leave")
        call.up(request)
        call.down(self._coordinator.leave(self._peer, request))

    def disconnect(self) -> None:
        if self._session_id:
            self._coordinator.watch_lost(self._session_id)
        self._session_id = ""

    def stop(self) -> None:
        """Nothing here waits."""

    def _be_cut(self, error: HeronError) -> None:
        self._cut = error


class InProcessPush(PushStream):
    """A PushStream that hands frames over as they are."""

    def __init__(
        self, coordinator: Coordinator, peer: Peer, charges: Charges, opening: split.FrameHeader
    ) -> None:  # fmt: skip
        self._coordinator, self._call = coordinator, charges.call("PushActivations")
        self._events: deque[Bulk[split.PushEvent]] = deque()
        self._call.up(split.ActivationFrame(header=opening))
        self._pushing: Pushing = coordinator.open_push(peer, opening, self._answered)

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        self._call.up(frame)
        self._coordinator.frame(self._pushing, frame)

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        self._coordinator.push_closed(self._pushing)

    def _answered(self, event: Bulk[split.PushEvent]) -> None:
        self._call.down(event)
        self._events.append(event)
