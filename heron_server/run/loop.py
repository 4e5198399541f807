"""The loop around the rounds machine: it performs the machine's actions and feeds it what the phases report."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heron_core.errors import HeronError, RunFailed
from heron_server.rounds.actions import (
    Action,
    Aggregate,
    Commit,
    DropFromRound,
    Evaluate,
    Fail,
    Fence,
    Finish,
    NoteFullDisk,
    OpenRound,
    Restore,
    SkipEvaluation,
    Tell,
    TryAgain,
)
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import Phase
from heron_server.run.checkpoints import Start, facts
from heron_server.run.failure import failure_of
from heron_server.run.journal import Journal
from heron_server.run.phases.phases import Phases
from heron_server.run.phases.reports import (
    Aggregated,
    ClientEvaluated,
    ClientFailed,
    Committed,
    Evaluated,
    EvaluationOpened,
    Failed,
    NotStored,
    Report,
    Restored,
    UpdateComplete,
    UploadConsumed,
)
from heron_server.run.sessions import Sessions


class Loop:
    """One thread calls it. Whatever is reported while it is at work waits until the actions in hand are performed, so
    that nothing is nested however much happens at once. An error of any action or report ends the run: nothing more is
    performed, and the driver finds `failure`."""

    def __init__(
        self, run_id: str, rounds: Rounds, phases: Phases, sessions: Sessions, journal: Journal,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._run_id, self._rounds, self._phases = run_id, rounds, phases
        self._sessions, self._journal, self._clock = sessions, journal, clock
        self._waiting: deque[Report | list[Action]] = deque()
        self._at_work = False
        self.failure: HeronError | None = None
        self.finished = rounds.phase is Phase.FINISHED

    def perform(self, actions: list[Action]) -> None:
        """What the machine asked for as a client called, or as time passed."""
        self._feed(actions)
        members = self._rounds.members
        self._journal.presence({name: members.is_connected(name) for name in members.take_changed()})

    def report(self, report: Report) -> None:
        """What a phase has come to."""
        if isinstance(report, Failed):
            self.fail(report.error)
        else:
            self._feed(report)

    def tell(self, events: list[Tell]) -> None:
        """Tells clients how the run ends, also where it has failed."""
        for event in events:
            self._sessions.tell(event)

    def fail(self, error: BaseException) -> None:
        """The run cannot go on; the last checkpoint stays usable. The first error is the one that counts."""
        self._waiting.clear()
        if self.failure is None:
            self.failure = failure_of(error)

    @contextmanager
    def owning_errors(self) -> Iterator[None]:
        """An error inside ends the run, and goes no further."""
        try:
            yield
        except (Exception, SystemExit) as error:
            self.fail(error)

    def _feed(self, item: Report | list[Action]) -> None:
        self._waiting.append(item)
        if self._at_work:
            return
        self._at_work = True
        try:
            with self.owning_errors():
                while self._waiting and self.failure is None:
                    self._performed(self._waiting.popleft())
        finally:
            self._at_work = False

    def _performed(self, item: Report | list[Action]) -> None:
        for action in item if isinstance(item, list) else self._told(item):
            if self.failure is None:
                self._perform(action)

    def _told(self, report: Report) -> list[Action]:
        """The report as the machine's event. One that a later event has made void, of a lost client, is none."""
        rounds, journal, now = self._rounds, self._journal, self._clock()
        match report:
            case UploadConsumed(name):
                journal.upload_consumed(name)
            case UpdateComplete(name) if rounds.is_active(name):
                journal.update_counted(name, self._phases.update_of(name).figures)
                return rounds.update_received(name)
            case ClientFailed(name, reason):
                return rounds.client_failed(name, reason)
            case Aggregated(server_loss, quarantined):
                journal.aggregated(rounds.rounds_done + 1, server_loss, quarantined)
                return rounds.aggregated(now)
            case EvaluationOpened(names):
                return rounds.clients_evaluate(names)
            case ClientEvaluated(name) if rounds.phase is Phase.EVALUATING:
                return rounds.client_evaluated(name)
            case Evaluated():
                return rounds.evaluated()
            case Committed():
                journal.committed()
                return rounds.committed(now)
            case Restored(term):
                journal.stored()
                return rounds.restored(term, now)
            case NotStored(why):
                return rounds.out_of_space(why, now)
        return []

    def _perform(self, action: Action) -> None:
        rounds, phases, number = self._rounds, self._phases, self._rounds.rounds_done + 1
        match action:
            case Tell():
                self._sessions.tell(action)
            case Fence():
                self._sessions.fence(action)
            case OpenRound():
                phases.train(action, rounds.table)
                self._journal.round_began(action, self._clock())
            case DropFromRound(name, reason):
                self._journal.dropped(name, number, reason)
                phases.drop(name)
            case Aggregate(names):
                phases.aggregate(number, {name: rounds.table[name] for name in names})
            case Evaluate(names):
                phases.evaluate(rounds.term, number, names)
            case SkipEvaluation(name):
                phases.skip_evaluation(name)
            case Commit():
                self._journal.round_made(number, rounds.lineup.counted, phases.counts, self._clock())
                start = Start(self._run_id, number, dict(rounds.table), dict(rounds.owners.keys))
                phases.commit(facts(start, self._journal))
            case Restore(reason):
                self._journal.note(reason)
                phases.restore()
            case NoteFullDisk(text):
                self._journal.paused(text)
            case TryAgain():
                phases.try_again()
            case Fail(reason):
                self.fail(RunFailed(f"{reason}; the last checkpoint is usable, go on with --resume"))
            case Finish():
                self.finished = True
