"""The transitions of what the driver does alone: each phase of it has a deadline, and one that finds the disk full
pauses the run and is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from heron_server.rounds import events
from heron_server.rounds.actions import Action, Fail, NoteFullDisk, TryAgain
from heron_server.rounds.in_progress import RoundInProgress
from heron_server.rounds.phase import Phase
from heron_server.text.story import told

STORAGE_RETRY_S = 5.0
"""Between two attempts at a full disk."""
DRIVER_AT_WORK = {
    Phase.AGGREGATING: "averaging the clients' updates",
    Phase.EVALUATING: "evaluating on the server",
    Phase.COMMITTING: "writing the checkpoint",
    Phase.RESTORING: "going back to the last round",
}
"""Phases that wait for nobody else; EVALUATING where no clients evaluate."""


@dataclass
class FullDisk:
    """Why a run is paused, and since when."""

    interrupted: Phase
    """COMMITTING or RESTORING: what is tried again."""
    why: str
    since: float
    tried: float
    """When it was tried last."""


@dataclass
class StoringRounds(RoundInProgress):
    """A round in progress whose driver may fail to end, or to find space."""

    full_disk: FullDisk | None = None
    """From the first attempt that found the disk full to the one that succeeds."""

    @told
    def out_of_space(self, why: str, now: float) -> list[Action]:
        """The disk is full: what was to be made durable is not. It is tried again every few seconds."""
        self._require(Phase.COMMITTING, Phase.RESTORING)
        interrupted, self.phase = self.phase, Phase.PAUSED
        if self.full_disk is not None:
            self.full_disk.tried = now
            return []
        self.full_disk = FullDisk(interrupted, why, now, now)
        text = f"{why}; tried again every {STORAGE_RETRY_S:g} s, for at most {self.rules.space_wait_s:g} s"
        return [NoteFullDisk(text), *(events.full_disk(member.session_id) for member in self.members.connected)]

    @property
    def restoring(self) -> bool:
        """The round in progress was abandoned, and the last checkpoint is not loaded yet."""
        phase = self.phase if self.phase is not Phase.PAUSED or self.full_disk is None else self.full_disk.interrupted
        return phase is Phase.RESTORING

    def _tick_driver(self, now: float) -> list[Action]:
        """Time passes for what the driver does alone."""
        if self.phase is Phase.PAUSED:
            return self._tick_full_disk(now)
        if self.phase not in DRIVER_AT_WORK or self.lineup.evaluating:
            return []
        self._since = min(self._since, now)
        if now - self._since <= self.rules.round_deadline_s:
            return []
        at_work = DRIVER_AT_WORK[self.phase]
        return [Fail(f"{at_work} has taken more than {self.rules.round_deadline_s:g} s (server.round_deadline_s)")]

    def _tick_full_disk(self, now: float) -> list[Action]:
        paused = self.full_disk
        assert paused is not None, "a run is paused by a full disk"
        if now - paused.since >= self.rules.space_wait_s:
            waited = f"in {self.rules.space_wait_s:g} s (server.space_wait_s) no space came free"
            return [Fail(f"{paused.why}, and {waited}")]
        if now - paused.tried < STORAGE_RETRY_S:
            return []
        self.phase, self._since = paused.interrupted, now
        return [TryAgain()]
