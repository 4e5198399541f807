"""The client's session: a state machine without I/O. All transitions live here.

Events are methods; what to do next is `action`. An illegal event raises IllegalEvent and changes nothing.

state       action   leaves it by
OFFLINE     Join     joined -> IDLE (or the work it had), unreachable -> OFFLINE, refused -> FAILED
IDLE        Wait     RoundBegins -> TRAINING, EvaluationBegins -> EVALUATING, Finished -> DONE, Draining -> OFFLINE
TRAINING    Train    work_done -> IDLE, RoundEnds or Dropped of this round -> IDLE, a newer RoundBegins -> TRAINING
EVALUATING  Evaluate work_done -> IDLE, RoundBegins -> TRAINING
any         -        connection_lost -> OFFLINE (work in progress is kept for the same term), stop -> STOPPED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from heron_core.errors import HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split


class IllegalEvent(Exception):
    """A bug on our own side: this event cannot happen in this state."""


class State(Enum):
    OFFLINE = auto()
    IDLE = auto()
    TRAINING = auto()
    EVALUATING = auto()
    DONE = auto()
    FAILED = auto()
    STOPPED = auto()


ENDED = {State.DONE, State.FAILED, State.STOPPED}


@dataclass(frozen=True)
class Assignment:
    """What the server asked this client to do: train or evaluate."""

    term: int
    round: int
    rank: int
    clients: int
    version: int


@dataclass
class Session:
    """Where one client stands towards its server."""

    state: State = State.OFFLINE
    session_id: str = ""
    run_id: str = ""
    assignment: Assignment | None = None
    failed_joins: int = 0
    notice: str = ""
    """The server's last word, for the operator."""
    error: HeronError | None = None

    def joined(self, session_id: str, run_id: str) -> None:
        """The server gave this client a session."""
        self._require(State.OFFLINE)
        self.state, self.session_id, self.run_id = State.IDLE, session_id, run_id
        self.failed_joins, self.notice = 0, ""

    def unreachable(self) -> None:
        """The server did not answer a Join."""
        self._require(State.OFFLINE)
        self.failed_joins += 1

    def refused(self, error: HeronError) -> None:
        """The server said no, or the work failed for good."""
        self._require(*(set(State) - ENDED))
        self.state, self.error = State.FAILED, error

    def connection_lost(self) -> None:
        """The streams broke; the assignment is kept until the server says otherwise."""
        self._require(*(set(State) - ENDED))
        self.state, self.session_id = State.OFFLINE, ""

    def stop(self) -> None:
        """The operator wants to end."""
        if self.state not in ENDED:
            self.state = State.STOPPED

    def work_done(self) -> None:
        """The assignment is finished, or given up."""
        self._require(State.TRAINING, State.EVALUATING)
        self.state, self.assignment = State.IDLE, None

    def server_event(self, event: pb.RoundEvent) -> None:
        """A RoundEvent that came down; those about rounds this client has no part in change nothing."""
        self._require(State.IDLE, State.TRAINING, State.EVALUATING)
        kind = event.WhichOneof("event")
        if kind == "round_begins":
            begins = event.round_begins
            self._assign(
                State.TRAINING,
                Assignment(begins.term, begins.round, begins.rank, begins.clients, begins.version),
            )
        elif kind == "evaluation_begins":
            ev = event.evaluation_begins
            self._assign(State.EVALUATING, Assignment(ev.term, ev.round, ev.rank, ev.clients, ev.version))
        elif kind == "round_ends":
            self._end_of(event.round_ends.term, event.round_ends.round)
        elif kind == "dropped":
            self.notice = event.dropped.reason
            self._end_of(event.dropped.term, event.dropped.round)
        elif kind == "waiting":
            self.notice = event.waiting.reason
        elif kind == "draining":
            self.notice = event.draining.reason
            self.state, self.session_id = State.OFFLINE, ""
        elif kind == "finished":
            self.state, self.notice, self.assignment = State.DONE, event.finished.summary, None

    def opening(self, purpose: split.Purpose, steps: int) -> split.FrameHeader:
        """The first frame of a stream that sends so many uploads of the assignment."""
        mine = self.assignment
        assert mine is not None, "there is work to send"
        return split.FrameHeader(
            run_id=self.run_id, session_id=self.session_id, term=mine.term, round=mine.round, purpose=purpose,
            steps=steps,
        )  # fmt: skip

    def _assign(self, state: State, assignment: Assignment) -> None:
        self.state, self.assignment = state, assignment

    def _end_of(self, term: int, round_number: int) -> None:
        mine = self.assignment
        if mine is not None and (mine.term, mine.round) == (term, round_number):
            self.state, self.assignment = State.IDLE, None

    def _require(self, *states: State) -> None:
        if self.state not in states:
            raise IllegalEvent(f"not in state {self.state.name}")
