"""What clients may ask of a run: who they are and what they send is checked here, the rounds machine decides.

One thread calls it. Both transports call the same methods: the gRPC service on its event loop, the simulator directly.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from time import monotonic

from heron_core.arrays import Array
from heron_core.data.contract import InputContract
from heron_core.data.facts import DataFacts
from heron_core.errors import HeronError, StaleTerm, TensorError, Unreachable
from heron_core.graphs.graph_set import GraphSet
from heron_core.models.digest import state_sha256
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.codec import Expected, check_manifest
from heron_core.wire.frames import Bulk
from heron_server.aggregation.client_states import states_of
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observers
from heron_server.planning.warnings.long_rounds import LongRounds
from heron_server.rounds.admission import check_counts, check_join, rules
from heron_server.rounds.gathering import Owners
from heron_server.rounds.machine import Rounds
from heron_server.run.checkpoints import Checkpoints
from heron_server.run.deadlines import Deadlines
from heron_server.run.joining.door import Door
from heron_server.run.joining.offer import Offer
from heron_server.run.journal import Journal
from heron_server.run.loop import Loop
from heron_server.run.peer import Peer, check_name
from heron_server.run.phases.make import make_phases
from heron_server.run.phases.reporting_worker import ReportingWorker
from heron_server.run.phases.training import Update
from heron_server.run.sessions import Handing, Pushing, Sessions, Watcher
from heron_server.run.standing import MOST_WORDS, Standing
from heron_server.run.story import run_story
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import Commands
from heron_server.training.worker import Worker
from heron_server.uploads.turns import patience
from heron_server.uploads.uploads import Send, Uploads


class Coordinator:
    """One run on this server, from its beginning or, with `resume`, from the last checkpoint in `run_dir`."""

    def __init__(
        self, spec: RunSpec, settings: ServerSettings, trainer: Commands, run_dir: RunDir, worker: Worker,
        resume: bool = False, observers: Observers | None = None, clock: Callable[[], float] = monotonic,
        own_data: DataFacts | None = None, long_rounds: LongRounds | None = None, graphs: GraphSet | None = None,
    ) -> None:  # fmt: skip
        """`own_data`: facts of the server's test set, where clients bring their own; `long_rounds`: see `Journal`;
        `graphs`: what clients without torch run."""
        self.spec, self.trainer, self.settings, self.clock = spec, trainer, settings, clock
        self.states = states_of(spec, (first := trainer.client_tensors()).tensors, first.buffers)
        self._journal = Journal(spec, trainer.metrics, run_dir, observers or Observers(), clock, long_rounds)
        self.ledger, self.records = self._journal.ledger, self._journal.records
        self.checkpoints = Checkpoints(run_dir, self.states, trainer, spec.rounds, settings.checkpoint_every)
        start = (self.checkpoints.resume if resume else self.checkpoints.begin)(spec, self._journal)
        self.run_id = start.run_id
        self.offer = Offer(spec, graphs)
        self._door = Door(spec, settings, trainer.classes, own_data, self._journal, self.run_id, self.offer)
        owners = Owners(start.owners)
        self._rounds = Rounds(rules(spec, settings), run_dir.raise_term(), start.table, owners, start.rounds_done)
        self._worker = ReportingWorker(worker, lambda said: self._loop.report(said), clock, settings.round_deadline_s)
        self._phases = make_phases(
            spec, settings, trainer, self.states, self.ledger, self.checkpoints, self._worker, clock
        )
        self._handing = Handing(self._rounds, self.states, self._journal)
        self.sessions = Sessions(self._rounds.members, self._handing.small_state)
        self._loop = Loop(self.run_id, self._rounds, self._phases, self.sessions, self._journal, clock)
        self.standing = Standing(self.run_id, self._rounds, self._phases, self.sessions, self.states, self._loop)
        self._deadlines = Deadlines(patience(spec, settings), self._rounds, self._phases)
        self._draining = False

    # -- FederationService ---------------------------------------------------------------------------------------

    def join(self, peer: Peer, request: pb.JoinRequest) -> pb.JoinReply:
        """A session of its own for `peer`, or none where it has to load its data first.

        Raises VersionMismatch, ConfigError, NotAdmitted, NameTaken, JoinRefused, DataError where its data cannot be
        this run's, or Unreachable once the server stops.
        """
        check_join(request)
        check_name(peer, request.client_name)
        met = self._door.meet(request)
        session_id = uuid.uuid4().hex if met.may_enter and not request.dry_run else ""
        if session_id:
            self._admit(peer, request, session_id)
            self._door.came(request.client_name, met, request)
        elif not request.dry_run:  # before it loads gigabytes for nothing
            key = sha256(request.instance_key).digest()
            self._rounds.check_join(request.client_name, key, proved=bool(peer.identity))
        return pb.JoinReply(
            run_id=self.run_id, run_spec_json=self.spec.model_dump_json(), session_id=session_id,
            heartbeat_s=self.settings.heartbeat_s, silence_s=self.settings.silence_s, graphs=self.offer.sha256,
            class_names=self._door.class_names, warnings=met.warnings, software=self._door.software.message(),
        )  # fmt: skip

    def _admit(self, peer: Peer, request: pb.JoinRequest, session_id: str) -> None:
        if self._draining or self.failure is not None:
            raise Unreachable("the server is stopping; try again once it is back")
        name, key = request.client_name, sha256(request.instance_key).digest()
        actions = self._rounds.join(name, key, session_id, self.clock(), proved=bool(peer.identity))
        self.sessions.joined(peer, session_id)
        self._loop.perform(actions)
        self._journal.joined(name)

    def watch(
        self, peer: Peer, session_id: str, send: Callable[[pb.RoundEvent], None], cut: Callable[[HeronError], None]
    ) -> None:
        """The session's event stream; raises UnknownSession."""
        self.sessions.member(peer, session_id)
        self.sessions.watch(session_id, Watcher(send, cut))
        self._loop.perform(self._rounds.watch_opened(session_id, self.clock()))

    def beat(self, peer: Peer, beat: pb.Beat) -> None:
        """A sign of life, with the place reached; raises UnknownSession."""
        name = self.sessions.member(peer, beat.session_id).name
        self._rounds.beat(beat.session_id, self.clock())
        now = (self._rounds.term, self._rounds.rounds_done + 1)
        if (beat.term, beat.round) == now and self._rounds.is_active(name):
            step, replayed = min(beat.step, self.spec.method.local_steps), min(beat.replayed, self.states.most_replayed)
            self._deadlines.stepped(name, beat.session_id, step, replayed, self.clock())
            self._journal.progress(name, beat.round, beat.step)

    def watch_lost(self, session_id: str) -> None:
        """The session's event stream has ended or broken."""
        if self.sessions.unwatch(session_id):
            self._loop.perform(self._rounds.watch_lost(session_id, self.clock()))

    def leave(self, peer: Peer, request: pb.LeaveRequest) -> pb.LeaveReply:
        """The client ends in good order; raises UnknownSession."""
        name = self.sessions.member(peer, request.session_id).name
        self._journal.left(name, request.reason[:MOST_WORDS])
        self._loop.perform(self._rounds.leave(request.session_id, request.reason[:MOST_WORDS]))
        return pb.LeaveReply()

    def model(self, peer: Peer, request: pb.FetchModelRequest) -> Mapping[str, Array]:
        """The client state of a version, as this client gets it; raises UnknownSession or StaleTerm."""
        name = self.standing.check_version(peer, request)
        return self._handing.state(name, request.version, request.holds)

    def fetched(self, peer: Peer, request: pb.FetchModelRequest, size_bytes: int) -> None:
        """All that `model` gave is through; raises UnknownSession."""
        member = self.sessions.member(peer, request.session_id)
        self._handing.given(member, request.version)
        self._journal.fetched(member.name, size_bytes, to_evaluate=request.version > self._rounds.rounds_done)

    def moved(self, peer: Peer, session_id: str, what: str, size_bytes: int) -> None:
        """So many bytes of a client state are through, in the direction that `what` names; raises UnknownSession."""
        name = self.sessions.member(peer, session_id).name
        self._deadlines.moved(name, what, size_bytes, self.clock())

    def check_update(self, peer: Peer, header: pb.UpdateHeader, manifest: tensors_pb2.Manifest) -> bool:
        """Before an update's bytes are read: False if it is here already. Raises StaleTerm or TensorError."""
        name = self.standing.check_update(peer, header)
        if self._phases.has_update(name):
            return False
        with self._costs_the_round(name):
            check_manifest(manifest, self.expected_update, f"client {name!r}, update of round {header.round}")
            check_counts(header, name, self.trainer.classes)
        return True

    def submit(self, peer: Peer, header: pb.UpdateHeader, state: dict[str, Array]) -> None:
        """A whole update; counted once all its uploads are consumed. Raises TensorError for NaN and Inf, and StaleTerm
        where its round was abandoned while its bytes were on their way."""
        name = self.sessions.member(peer, header.session_id).name
        self.standing.check_place(header)
        with self._costs_the_round(name):
            self.states.check_values(state, f"client {name!r}, update of round {header.round}")
        if self._rounds.is_active(name):
            self._deadlines.measured(name, header.figures.step_seconds_median)
            self._phases.update(name, Update(header.num_samples, header.held_out_samples, state, header.figures))

    # -- SplitService --------------------------------------------------------------------------------------------

    def open_push(self, peer: Peer, opening: split.FrameHeader, send: Send) -> Pushing:
        """A PushActivations stream; raises UnknownSession, StaleTerm or TensorError."""
        name = self.sessions.member(peer, opening.session_id).name
        uploads = self._phases.uploads
        if opening.run_id != self.run_id or uploads is None:
            raise StaleTerm(f"no uploads are wanted now in run {self.run_id}; wait for the next event")
        with self._costs_the_round(name):
            uploads.open(name, opening, send)
        return Pushing(peer, name, opening.session_id, uploads, send)

    def frame(self, pushing: Pushing, bulk: Bulk[split.ActivationFrame]) -> None:
        """One frame of an open stream; a bad one costs its client the round."""
        self.sessions.member(pushing.peer, pushing.session_id)
        if pushing.uploads is not self._phases.uploads:
            raise StaleTerm("the round or evaluation of these uploads is over; drop them and wait for the next event")
        with self._costs_the_round(pushing.name):
            pushing.uploads.frame(pushing.name, bulk)
        self._deadlines.framed(pushing.name, self.clock())

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
        self.standing.loses_round(name, reason)

    # -- time and the end ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Call about twice a second."""
        with self._loop.owning_errors():
            now = self.clock()
            self._worker.check(now)
            self._loop.perform(self._rounds.tick(now))
            uploads = self._phases.uploads
            for name, reason in self._deadlines.late(now).items():
                if self._phases.uploads is uploads:  # nobody is late for a round that ended meanwhile
                    self.client_failed(name, reason)

    def fail(self, error: BaseException) -> None:
        """Something of the server has failed that nobody else answers for: the run ends."""
        self._loop.fail(error)

    def drain(self, reason: str) -> None:
        """The server stops: says so to everyone, and lets nobody in any more."""
        self._draining = True
        self._loop.tell(self._rounds.drain(reason))

    # -- looking -------------------------------------------------------------------------------------------------

    def story(self) -> str:
        """Tables and last events, for whoever wonders what the run waits for."""
        return run_story(self._rounds, self._phases.uploads, self._deadlines, self.clock())

    @property
    def expected_update(self) -> Expected:
        """(name, dtype, shape) of what a client sends up."""
        return self.states.expected_update

    @property
    def uploads(self) -> Uploads | None:
        """Those of the phase in progress, if it takes any."""
        return self._phases.uploads

    @property
    def failure(self) -> HeronError | None:
        """Why the run cannot go on."""
        return self._loop.failure

    @property
    def finished(self) -> bool:
        """Are all rounds done?"""
        return self._loop.finished

    @property
    def rounds_done(self) -> int:
        """Rounds that are over; a kill may take back those since the last checkpoint."""
        return self._rounds.rounds_done

    @property
    def contract(self) -> InputContract | None:
        """How the clients' stored values become the model's inputs, as most of them say it."""
        return self._door.contract

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels; empty where nobody knows them."""
        return self._door.class_names

    @property
    def clients(self) -> int:
        """Clients of the run: those with a rank, drawn or not."""
        return len(self._rounds.table)

    @property
    def clients_present(self) -> int:
        """Clients that listen now."""
        return self._rounds.members.num_connected

    def model_sha256(self) -> str:
        """SHA-256 over what is one for all of the client states, without moments, and the back's state."""
        common = self.states.common(self._rounds.rounds_done)
        client = {f"client.{n}": t for n, t in common.items() if not n.startswith("moments.")}
        return state_sha256({**client, **self.trainer.back_tensors()})
