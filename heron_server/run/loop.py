"""The loop around the rounds machine: it performs the machine's actions and feeds it what the phases report."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from heron_core.errors import HeronError, Internal
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
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import Phase
from heron_server.run.checkpoints import Start, facts
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
    Report,
    Restored,
    UpdateComplete,
    UploadConsumed,
)
from heron_server.run.sessions import Sessions


class Loop:
    """One thread calls it. Whatever is reported while it is at work waits until the actions in hand are performed, so
    that nothing is nested however much happens at once."""

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
        self._journal.present([member.name for member in self._rounds.members.connected])

    def report(self, report: Report) -> None:
        """What a phase has come to."""
        self._feed(report)

    def _feed(self, item: Report | list[Action]) -> None:
        self._waiting.append(item)
        if self._at_work:
            return
        self._at_work = True
        try:
            while self._waiting:
                item = self._waiting.popleft()
                for action in item if isinstance(item, list) else self._told(item):
                    self._perform(action)
        finally:
            self._at_work = False

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
            case Aggregated(server_loss):
                journal.aggregated(server_loss)
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
                return rounds.restored(term, now)
            case Failed(error):
                self._fail(error)
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
                self._journal.evaluated(number, rounds.lineup.counted, phases.counts, self._clock())
                phases.commit(facts(Start(self._run_id, number, dict(rounds.table)), self._journal))
            case Restore(reason):
                self._journal.note(reason)
                phases.restore()
            case Finish():
                self.finished = True

    def _fail(self, error: Exception) -> None:
        """The run cannot go on; the last checkpoint stays usable."""
        self.failure = error if isinstance(error, HeronError) else Internal(f"a bug in the server: {error!r}")
        self.failure.__cause__ = error
