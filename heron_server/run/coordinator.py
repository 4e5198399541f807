"""The thin driver around the rounds machine: performs its actions, feeds it events. One thread calls it.

Both transports call the same methods: the gRPC service on its event loop, the simulator directly.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from heron_core.arrays import Array
from heron_core.errors import HeronError, NameTaken, StaleTerm, TensorError, UnknownSession, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.codec import check_manifest
from heron_core.wire.frames import Bulk
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer
from heron_server.rounds.actions import (
    Action,
    Aggregate,
    Commit,
    DropFromRound,
    Evaluate,
    Fence,
    Finish,
    OpenRound,
    Restore,
    SkipEvaluation,
    Tell,
)
from heron_server.rounds.admission import check_counts, check_join, rules
from heron_server.rounds.machine import Phase, Rounds
from heron_server.rounds.members import Member
from heron_server.run.peer import Peer, is_same_caller
from heron_server.run.phases import RoundWork, Update
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import Commands
from heron_server.training.worker import Worker
from heron_server.uploads.uploads import Send, Uploads

CUT = UnknownSession("this session was ended here after a silence; join again")
TAKEN_OVER = NameTaken(
    "another process joined with this client's name and instance key and took its place; run one process per state_dir"
)


@dataclass
class Watcher:
    """One session's event stream."""

    send: Callable[[pb.RoundEvent], None]
    cut: Callable[[HeronError], None]


@dataclass
class Pushing:
    """One open PushActivations stream."""

    peer: Peer
    name: str
    session_id: str
    uploads: Uploads
    send: Send


class Coordinator:
    """One run on this server."""

    def __init__(
        self, spec: RunSpec, settings: ServerSettings, trainer: Commands, run_dir: RunDir, worker: Worker,
        resume: bool = False, observer: Observer | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self.spec, self._settings, self._run_dir, self._clock = spec, settings, run_dir, clock
        self._observer = observer or Observer()
        self._watchers: dict[str, Watcher] = {}
        self._joined_by: dict[str, Peer] = {}
        """Who joined, for each session."""
        self._progress: tuple[str | None, float] = (None, clock())
        self._evaluation_bytes: dict[str, int] = {}
        """Client state fetched to evaluate it, by who keeps it for the next round."""
        self._draining = False
        self.work = RoundWork(spec, settings, trainer, run_dir, worker, self._observer, self._perform, clock)
        self.ledger = self.work.ledger
        start = self.work.resume() if resume else self.work.begin()
        self.run_id: str = start["run_id"]
        self._rounds = Rounds(rules(spec, settings), run_dir.raise_term(), start["table"], start["rounds_done"])
        self.work.rounds = self._rounds
        self.expected_update = self.work.states.expected_update
        self.finished = self._rounds.phase is Phase.FINISHED

    # -- FederationService ---------------------------------------------------------------------------------------

    def join(self, peer: Peer, request: pb.JoinRequest) -> pb.JoinReply:
        """A session of its own for `peer`.

        Raises VersionMismatch, ConfigError, NameTaken, JoinRefused, or Unreachable once the server stops.
        """
        check_join(request)
        session_id = "" if request.dry_run else uuid.uuid4().hex
        if not request.dry_run:
            self._admit(peer, request, session_id)
        return pb.JoinReply(
            run_id=self.run_id, run_spec_json=self.spec.model_dump_json(), session_id=session_id,
            heartbeat_s=self._settings.heartbeat_s, silence_s=self._settings.silence_s,
        )  # fmt: skip

    def _admit(self, peer: Peer, request: pb.JoinRequest, session_id: str) -> None:
        if self._draining:
            raise Unreachable("the server is stopping; try again once it is back")
        name = request.client_name
        self._perform(self._rounds.join(name, request.instance_key, session_id, self._clock()))
        live = {member.session_id for member in self._rounds.members}
        self._joined_by = {old: who for old, who in self._joined_by.items() if old in live} | {session_id: peer}
        self._observer.note(f"{name} joined")

    def _member(self, peer: Peer, session_id: str) -> Member:
        """Whose session it is; raises UnknownSession, also where another peer joined with it."""
        member = self._rounds.members.of_session(session_id)
        if not is_same_caller(self._joined_by[session_id], peer):
            raise UnknownSession("this session is not the caller's; join again")
        return member

    def watch(
        self, peer: Peer, session_id: str, send: Callable[[pb.RoundEvent], None], cut: Callable[[HeronError], None]
    ) -> None:
        """The session's event stream; raises UnknownSession."""
        self._member(peer, session_id)
        self._watchers[session_id] = Watcher(send, cut)
        self._perform(self._rounds.watch_opened(session_id, self._clock()))

    def beat(self, peer: Peer, beat: pb.Beat) -> None:
        """A sign of life; raises UnknownSession."""
        self._rounds.beat(self._member(peer, beat.session_id).session_id, self._clock())

    def watch_lost(self, session_id: str) -> None:
        """The session's event stream has ended or broken."""
        if self._watchers.pop(session_id, None) is not None:
            self._perform(self._rounds.watch_lost(session_id, self._clock()))

    def leave(self, peer: Peer, request: pb.LeaveRequest) -> pb.LeaveReply:
        """The client ends in good order; raises UnknownSession."""
        name = self._member(peer, request.session_id).name
        self._observer.note(f"{name} left: {request.reason[:500]}")
        self._perform(self._rounds.leave(request.session_id, request.reason[:500]))
        return pb.LeaveReply()

    def model(self, peer: Peer, request: pb.FetchModelRequest) -> dict[str, Array]:
        """The client state of a version, as this client gets it; raises UnknownSession or StaleTerm."""
        name = self._member(peer, request.session_id).name
        if request.version not in self.work.states.versions:
            raise StaleTerm(f"client state {request.version} is not the current one; wait for the next event")
        state = self.work.states.of(request.version, self._rounds.table.get(name))
        self._evaluation_bytes.pop(name, None)
        if request.version > self._rounds.rounds_done:
            size = sum(tensor.nbytes for tensor in state.values())
            self._evaluation_bytes[name] = size
            self.ledger.move("client_state_down", "evaluation_down", size)
        return state

    def _open_round(self, term: int, number: int, participants: tuple[str, ...]) -> None:
        """A participant that evaluated this version has it already: its fetch was the round's."""
        for name in participants:
            self.ledger.move("evaluation_down", "client_state_down", self._evaluation_bytes.get(name, 0))
        self._evaluation_bytes.clear()
        self.work.open_round(term, number, participants)

    def check_update(self, peer: Peer, header: pb.UpdateHeader, manifest: tensors_pb2.Manifest) -> bool:
        """Before an update's bytes are read: False if it is here already. Raises StaleTerm or TensorError."""
        name = self._member(peer, header.session_id).name
        self._check_place(header)
        if self.work.has_update(name):
            return False
        if not self._rounds.is_active(name):
            raise StaleTerm(f"client {name!r} has no part in round {header.round} any more; wait for the next")
        with self._costs_the_round(name):
            check_manifest(manifest, self.expected_update, f"client {name!r}, update of round {header.round}")
            check_counts(header, name)
        return True

    def submit(self, peer: Peer, header: pb.UpdateHeader, state: dict[str, Array]) -> None:
        """A whole update; counted once all its uploads are consumed. Raises TensorError for NaN and Inf, and StaleTerm
        where its round was abandoned while its bytes were on their way."""
        name = self._member(peer, header.session_id).name
        self._check_place(header)
        with self._costs_the_round(name):
            self.work.states.check_values(state, f"client {name!r}, update of round {header.round}")
        if self._rounds.is_active(name):
            self.work.update(name, Update(header.num_samples, header.held_out_samples, state, header.figures))

    def _check_place(self, header: pb.UpdateHeader) -> None:
        now = (self.run_id, self._rounds.term, self._rounds.rounds_done + 1)
        if self._rounds.phase is Phase.RESTORING:
            raise StaleTerm(f"round {now[2]} was abandoned; drop its work and wait for the next event")
        if (header.run_id, header.term, header.round) != now:
            raise StaleTerm(
                f"the server is at term {now[1]}, round {now[2]}; the update is of {header.term}, {header.round}"
            )

    # -- SplitService --------------------------------------------------------------------------------------------

    def open_push(self, peer: Peer, opening: split.FrameHeader, send: Send) -> Pushing:
        """A PushActivations stream; raises UnknownSession, StaleTerm or TensorError."""
        name = self._member(peer, opening.session_id).name
        uploads = self.work.uploads
        if opening.run_id != self.run_id or uploads is None:
            raise StaleTerm(f"no uploads are wanted now in run {self.run_id}; wait for the next event")
        with self._costs_the_round(name):
            uploads.open(name, opening, send)
        return Pushing(peer, name, opening.session_id, uploads, send)

    def frame(self, pushing: Pushing, bulk: Bulk[split.ActivationFrame]) -> None:
        """One frame of an open stream; a bad one costs its client the round."""
        self._member(pushing.peer, pushing.session_id)
        if pushing.uploads is not self.work.uploads:
            raise StaleTerm("the round or evaluation of these uploads is over; drop them and wait for the next event")
        if self._progress[0] == pushing.name:
            self._progress = (pushing.name, self._clock())
        with self._costs_the_round(pushing.name):
            pushing.uploads.frame(pushing.name, bulk)

    def push_closed(self, pushing: Pushing) -> None:
        """The stream has ended or broken."""
        pushing.uploads.closed(pushing.name, pushing.send)

    @contextmanager
    def _costs_the_round(self, name: str) -> Iterator[None]:
        """A TensorError inside costs the client this round, and goes on to the client."""
        try:
            yield
        except TensorError as error:
            self.client_failed(name, str(error))
            raise

    def client_failed(self, name: str, reason: str) -> None:
        """What the client sent cannot be used: it is out of this round, the others go on."""
        self._perform(self._rounds.client_failed(name, reason))

    # -- time and the end ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Call about twice a second."""
        now = self._clock()
        self._perform(self._rounds.tick(now))
        uploads = self.work.uploads
        blocked = uploads.intake.blocked_on() if uploads and self._rounds.phase is Phase.TRAINING else None
        if blocked != self._progress[0]:
            self._progress = (blocked, now)
        elif blocked is not None and now - self._progress[1] > self._settings.step_deadline_s:
            late = f"late: nothing came for {self._settings.step_deadline_s:g} s while it was its turn"
            self.client_failed(blocked, late)

    def drain(self, reason: str) -> None:
        """The server stops: says so to everyone, and lets nobody in any more."""
        self._draining = True
        self._perform(self._rounds.drain(reason))

    @property
    def failure(self) -> HeronError | None:
        return self.work.failure

    @property
    def rounds_done(self) -> int:
        return self._rounds.rounds_done

    @property
    def clients(self) -> int:
        """Clients of the run: those with a rank, drawn or not."""
        return len(self._rounds.table)

    @property
    def clients_present(self) -> int:
        return len(self._rounds.members.connected)

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Tell(session_id, event):
                    watcher = self._watchers.get(session_id)
                    if watcher is not None:
                        watcher.send(event)
                case Fence(session_id, taken_over):
                    watcher = self._watchers.pop(session_id, None)
                    if watcher is not None:
                        watcher.cut(TAKEN_OVER if taken_over else CUT)
                case OpenRound(term, number, participants):
                    self._open_round(term, number, participants)
                case DropFromRound(name, reason):
                    self.work.drop(name, reason)
                case Aggregate(names):
                    self.work.aggregate(names)
                case Evaluate(names):
                    self.work.evaluate(names)
                case SkipEvaluation(name):
                    self.work.skip_evaluation(name)
                case Commit():
                    self.work.commit()
                case Restore(reason):
                    self.work.restore(reason)
                case Finish():
                    self.finished = True
        self._observer.clients_present(self.clients_present)
