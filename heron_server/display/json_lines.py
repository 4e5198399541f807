"""What a program or a log file sees while a run goes on: one JSON object for each event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import TextIO

from heron_core.json_text import to_json
from heron_server.display.lines import Lines
from heron_server.metrics.figures import RoundRecord
from heron_server.metrics.observers import Observer

PROGRESS_EVERY_S = 1.0


class JsonDisplay(Observer):
    """One JSON object a line: `event` says what happened, `time` when (UTC). NaN is null."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._lines, self._clock = Lines(stream), clock
        self._present = 0
        self._progress_at: dict[str, float] = {}
        """When each client's progress was last written."""

    def note(self, text: str) -> None:
        self._event("note", text=text)

    def warning(self, text: str) -> None:
        self._event("warning", text=text)

    def listening(self, address: str, run_id: str) -> None:
        self._event("listening", address=address, run_id=run_id)

    def paused(self, why: str) -> None:
        self._event("paused", why=why)

    def client_joined(self, name: str) -> None:
        self.note(f"{name} joined")

    def client_present(self, name: str) -> None:
        self._present += 1
        self._event("clients", present=self._present)

    def client_lost(self, name: str) -> None:
        self._present -= 1
        self._event("clients", present=self._present)

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        now = self._clock()
        if now - self._progress_at.get(name, -inf) >= PROGRESS_EVERY_S:
            self._progress_at[name] = now
            self._event("progress", client=name, round=number, step=step, steps=steps)

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self._event("round_began", round=number, rounds=rounds, participants=len(participants), steps=uploads)

    def round_done(self, record: RoundRecord) -> None:
        self._event("round_done", **record)

    def _event(self, event: str, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.write(to_json({"event": event, "time": now, **facts}))
