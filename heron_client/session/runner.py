"""The client's driver: performs what the session says, over any transport.

`Runner.run()` is a generator that yields whenever it waits for the server. The daemon simply exhausts it (its gRPC
transport waits inside each call); the simulator steps many of them in turn in one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from heron_client.compute.meter import PeakMeter, Proportional
from heron_client.compute.workspace import Workspace
from heron_client.config import ClientSettings
from heron_client.session.answers import LOST, check_assignment, check_session
from heron_client.session.back_off import BackOff
from heron_client.session.fetching import fetch_state
from heron_client.session.in_hand import RoundInHand
from heron_client.session.joining import Joining
from heron_client.session.session import ENDED, Assignment, Session, State
from heron_client.transport.interface import Transport
from heron_client.uploads.uploader import Uploader, WorkLost
from heron_core.arrays import Array
from heron_core.errors import HeronError, Internal, NameTaken, StaleTerm, TensorError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.methods import method_of, uploads_per_round

if TYPE_CHECKING:
    from heron_client.compute.backend import BuildBackend
    from heron_core.data import Shares

log = logging.getLogger("heron.client")
T = TypeVar("T")

WAIT_S = 0.5


class _Abandoned(Exception):
    """The assignment in hand is no longer the session's."""


class Runner:
    """One client from first Join to the end of the run."""

    def __init__(
        self, settings: ClientSettings, transport: Transport, instance_key: bytes, *, measure_memory: bool = True,
        on_alive: Callable[[], None] = lambda: None, shares: Shares | None = None, build: BuildBackend | None = None,
    ) -> None:  # fmt: skip
        """`shares`: experiment data that several clients of one process have in common. `build`: makes the backend of a
        run by torch; None: with what the settings say. ConfigError: what the settings name is not installed."""
        self._settings, self._transport = settings, transport
        self._measure, self._on_alive, self._pss = measure_memory, on_alive, Proportional()
        self.session = Session()
        self._joining = Joining(settings, transport, instance_key, build, shares)
        self._work: RoundInHand | None = None
        self._state: tuple[int, int, dict[str, Array]] | None = None
        """Term, version and arrays of the client state that was fetched last."""
        self._back_off = BackOff(settings.retry_max_s, settings.retry_for_s)
        self._stopping = False

    def stop(self) -> None:
        """Ends the session where that is legal, soon. Any thread may call it, at any moment."""
        self._stopping = True
        self._transport.stop()

    @property
    def losses(self) -> Sequence[float]:
        """Of each local step of the round in hand that is done."""
        return () if self._work is None else self._work.local.figures.losses

    def run(self) -> Iterator[None]:
        """Runs to the session's end; raises its error, if any."""
        session = self.session
        while session.state not in ENDED:
            self._on_alive()
            if self._stopping:
                session.stop()
                continue
            try:
                yield from self._act()
            except _Abandoned:
                if session.state is State.IDLE:
                    self._work = self._state = None  # its round is over: nothing of it is of use
            except WorkLost as error:
                log.warning("leaving this round: %s", error)
                self._work = None
                self._leave(str(error))
                self._transport.disconnect()
                session.connection_lost()
            except HeronError as error:
                if not self._stopping:  # else it is the end of a wait that `stop` has ended
                    self._meet(error)
        if session.state is State.STOPPED and session.session_id:
            self._leave("stopped by its operator")
        self._transport.disconnect()
        if session.error is not None:
            raise session.error

    def _act(self) -> Iterator[None]:
        state = self.session.state
        if state is State.OFFLINE:
            yield from self._join()
        elif state is State.IDLE:
            yield from self._wait()
        elif state is State.TRAINING:
            yield from self._train()
        else:
            yield from self._evaluate()

    def _meet(self, error: HeronError) -> None:
        """Comes back after a break, gives up this round where that is all that the error costs, or ends."""
        session, working = self.session, self.session.state in (State.TRAINING, State.EVALUATING)
        if isinstance(error, LOST):
            log.warning("lost the server: %s", error)
            self._transport.disconnect()
            session.connection_lost()
        elif working and type(error) in (StaleTerm, TensorError):  # not what the server sent: a ServerTensorError
            level = logging.WARNING if isinstance(error, TensorError) else logging.INFO
            log.log(level, "giving up this round: %s", error)
            self._work = None
            session.work_done()
        else:
            if session.session_id:
                self._leave(str(error))
            session.refused(error)

    def _join(self) -> Iterator[None]:
        while self._back_off.waiting:
            yield
            if self._stopping:
                return
        try:
            reply = self._joining.ask()
        except (Unreachable, Internal, NameTaken) as error:
            if self._stopping or (isinstance(error, NameTaken) and not self._back_off.offline):
                raise
            self._missed(error)
            return
        self.session.joined(reply.session_id, reply.run_id)
        check_session(reply)
        if self._joining.build(reply):
            self._work = self._state = None
        self._back_off.succeeded()
        runtime = self._joining.building.said
        log.info("joined run %s as %s; %s runs the model", reply.run_id, self._settings.name, runtime)
        self._transport.watch(reply.session_id, reply.heartbeat_s, reply.silence_s)

    def _missed(self, error: HeronError) -> None:
        """The server did not let this client in; a later attempt may succeed."""
        if not self._back_off.offline:
            log.warning("waiting for the server: %s", error)
        self.session.unreachable()
        if not self._back_off.failed(self.session.failed_joins):
            limit_s = self._settings.retry_for_s
            self.session.refused(Unreachable(f"no server for {limit_s:g} s (retry_for_s): {error}"))

    @property
    def _workspace(self) -> Workspace | None:
        return self._joining.workspace

    def _wait(self) -> Iterator[None]:
        event = self._transport.next_event(WAIT_S)
        if event is None:
            yield
            return
        self._take(event)

    def _take(self, event: pb.RoundEvent) -> None:
        before = self.session.notice
        self.session.server_event(event)
        if self.session.notice and self.session.notice != before:
            log.info("server: %s", self.session.notice)
        if self.session.state is State.OFFLINE:
            self._transport.disconnect()

    def _check_still_mine(self, assignment: Assignment) -> None:
        """Looks at what the server said meanwhile; raises _Abandoned once the assignment is another's or nobody's."""
        while self._holds(assignment):
            event = self._transport.next_event(0)
            if event is None:
                return
            self._take(event)
        raise _Abandoned

    def _holds(self, assignment: Assignment) -> bool:
        mine = self.session.assignment == assignment and self.session.state in (State.TRAINING, State.EVALUATING)
        return mine and not self._stopping

    def _fetch(self, assignment: Assignment) -> dict[str, Array]:
        if self._state is not None and self._state[:2] == (assignment.term, assignment.version):
            return self._state[2]
        assert self._workspace is not None
        replayed, session = count(1), self.session.session_id

        def after_each() -> None:
            self._on_alive()
            self._transport.report(assignment.term, assignment.round, 0, next(replayed))
            self._check_still_mine(assignment)

        arrays = fetch_state(self._transport, self._workspace.replica, session, assignment.version, after_each)
        self._state = (assignment.term, assignment.version, arrays)
        return arrays

    def _train(self) -> Iterator[None]:
        assignment, workspace = self.session.assignment, self._workspace
        assert assignment is not None and workspace is not None
        check_assignment(assignment, workspace.spec)
        method = workspace.spec.method
        opening = self.session.opening(split.PURPOSE_TRAIN, uploads_per_round(method))
        work = self._work
        if work is None or work.assignment != assignment:
            if workspace.prepare(assignment.rank, assignment.clients):
                histogram = f", class histogram {text}" if (text := workspace.class_histogram_text) else ""
                log.info("rank %d, %d samples%s", assignment.rank, workspace.num_samples, histogram)
            local = workspace.local_round(assignment.round, assignment.rank, self._fetch(assignment))
            self._state = None  # the model has it now
            meter = PeakMeter() if self._measure else None
            work = self._work = RoundInHand(assignment, local, Uploader(opening), meter)
        if work.local.sent is not None:
            work.local.sent.sign(opening)
        try:
            if method_of(method).uploads:
                stream = self._transport.open_push(opening)
                yield from self._guarded(work.uploader.attach(stream, WAIT_S), assignment)
                work.attached()
            while work.advance():
                self._on_alive()
                self._transport.report(assignment.term, assignment.round, work.local.steps_done)
                self._check_still_mine(assignment)
                yield from self._exchange(work)
            self._transport.report(assignment.term, assignment.round, work.local.steps_done)
            yield from self._guarded(work.uploader.settle(WAIT_S), assignment)
            self._submit(work)
        finally:
            work.uploader.close()
        self._work = None  # an idle client holds its model only
        self.session.work_done()

    def _exchange(self, work: RoundInHand) -> Iterator[None]:
        """Hands over the pending upload, if there is one, and waits for what it wants back."""
        if work.pending is not None:
            yield from self._guarded(work.uploader.push(work.pending, WAIT_S), work.assignment)
            work.handed_over()
        if work.awaiting is not None:
            waiting = work.uploader.gradients(work.awaiting, WAIT_S)
            work.answered((yield from self._guarded(waiting, work.assignment)))

    def _guarded(self, waiting: Generator[None, None, T], assignment: Assignment) -> Generator[None, None, T]:
        while True:
            try:
                next(waiting)
            except StopIteration as end:
                result: T = end.value
                return result
            self._on_alive()
            self._check_still_mine(assignment)
            yield

    def _submit(self, work: RoundInHand) -> None:
        workspace, session = self._workspace, self.session
        assert workspace is not None
        header = pb.UpdateHeader(
            run_id=session.run_id, term=work.assignment.term, round=work.assignment.round,
            session_id=session.session_id, num_samples=workspace.num_samples, held_out_samples=workspace.num_held_out,
            figures=work.figures(workspace.class_histogram, self._pss() if self._measure else 0),
        )  # fmt: skip
        self._transport.submit(header, work.local.update())

    def _evaluate(self) -> Iterator[None]:
        assignment, workspace = self.session.assignment, self._workspace
        assert assignment is not None and workspace is not None
        check_assignment(assignment, workspace.spec)
        self._work = None  # evaluation overwrites the parameters under it
        workspace.prepare(assignment.rank, assignment.clients)
        opening = self.session.opening(split.PURPOSE_EVALUATE, workspace.evaluation_steps)
        uploader = Uploader(opening)
        state = self._fetch(assignment)
        stream = self._transport.open_push(opening)
        try:
            yield from self._guarded(uploader.attach(stream, WAIT_S), assignment)
            for upload in workspace.evaluation_uploads(assignment.round, assignment.rank, state):
                yield from self._guarded(uploader.push(upload, WAIT_S), assignment)
            yield from self._guarded(uploader.settle(WAIT_S), assignment)
        finally:
            uploader.close()
        self.session.work_done()  # `_state` stays while idle: the next round often starts from it, and fetches nothing

    def _leave(self, reason: str) -> None:
        try:
            self._transport.leave(pb.LeaveRequest(session_id=self.session.session_id, reason=reason[:500]))
        except HeronError as error:
            log.debug("could not say good-bye: %s", error)
