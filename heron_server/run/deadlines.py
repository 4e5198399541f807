"""Which clients are late with what the phase in progress waits for: each is measured by what it owes alone."""

from __future__ import annotations

from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import Phase
from heron_server.run.phases.phases import Phases
from heron_server.uploads.turns import Patience, Turns
from heron_server.uploads.uploads import Uploads

MIB = 1 << 20


class Deadlines:
    """The clocks are made as a phase takes uploads, so that none outlives it. Every `now` is the same clock's."""

    def __init__(self, patience: Patience, rounds: Rounds, phases: Phases) -> None:
        self._patience, self._rounds, self._phases = patience, rounds, phases
        self._uploads: Uploads | None = None
        self._turns = Turns(patience, 0.0, {})
        self._step_seconds: dict[str, float] = {}
        """Median of the last round that each client was in, by its own word."""

    def measured(self, name: str, step_seconds: float) -> None:
        """What a local step took, as the client's update says."""
        if step_seconds > 0:
            self._step_seconds[name] = step_seconds

    def stepped(self, name: str, session_id: str, step: int, replayed: int, now: float) -> None:
        """A participant has done so many local steps, or before the first replayed so many clients' rounds."""
        turns = self._of_phase(now)
        turns.stepped(name, session_id, step, now)
        turns.reached(name, f"replay in {session_id}", (replayed,), now)

    def framed(self, name: str, now: float) -> None:
        """A frame of the client's uploads is here: a whole micro-batch is progress, or another MiB of one."""
        turns = self._of_phase(now)
        if self._uploads is not None:
            whole, more_bytes = self._uploads.place(name)
            turns.reached(name, "uploads", (whole, more_bytes // MIB), now)

    def moved(self, name: str, what: str, size_bytes: int, now: float) -> None:
        """So much of a client state on its way is through: another MiB is progress."""
        self._of_phase(now).reached(name, what, (size_bytes // MIB,), now)

    def late(self, now: float) -> dict[str, str]:
        """By name, why the client's time is over."""
        return self._of_phase(now).late(self._owing(), now)

    def __str__(self) -> str:
        return str(self._turns)

    def _of_phase(self, now: float) -> Turns:
        if self._phases.uploads is not self._uploads:
            self._uploads = self._phases.uploads
            self._turns = Turns(self._patience, now, self._step_seconds)
        return self._turns

    def _owing(self) -> dict[str, int]:
        """What clients owe: the scheduler knows of uploads, the round of updates and evaluations."""
        rounds, uploads = self._rounds, self._uploads
        if uploads is None:
            return {}
        owing = uploads.scheduler.owing()
        unsent = {name for name in owing if not uploads.client_done(name)}
        if rounds.phase is Phase.EVALUATING:
            return {name: owing[name] for name in unsent & rounds.lineup.evaluating}
        due = {name for name in owing if name in unsent or not self._phases.has_update(name)}
        return {name: owing[name] for name in due if rounds.is_active(name)}
