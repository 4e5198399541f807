"""What a program or a log file sees while a run goes on: one JSON object for each event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TextIO

from heron_core.json_text import to_json
from heron_server.display.lines import Lines
from heron_server.metrics.observers import Observer


class JsonDisplay(Observer):
    """One JSON object a line: `event` says what happened, `time` when (UTC). NaN is null."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._present: int | None = None

    def note(self, text: str) -> None:
        self._event("note", text=text)

    def listening(self, address: str, run_id: str) -> None:
        self._event("listening", address=address, run_id=run_id)
        super().listening(address, run_id)

    def clients_present(self, count: int) -> None:
        if count != self._present:
            self._present = count
            self._event("clients", present=count)

    def round_began(self, number: int, rounds: int, participants: int, steps: int) -> None:
        self._event("round_began", round=number, rounds=rounds, participants=participants, steps=steps)

    def round_done(self, record: dict[str, Any]) -> None:
        self._event("round_done", **record)

    def _event(self, event: str, **facts: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.write(to_json({"event": event, "time": now, **facts}))
