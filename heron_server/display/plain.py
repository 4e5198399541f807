"""What a person sees while a run goes on: a live display on a terminal, plain lines elsewhere, or JSON lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TextIO

from heron_core.json_text import to_json
from heron_server.metrics.observers import Observer
from heron_server.metrics.pace import Pace
from heron_server.text.units import number_text, percent_text, printable, seconds_text

NO_CURSOR = ("dumb", "unknown")


def make_display(log_format: str, stream: TextIO) -> Observer:
    """JSON lines if `log_format` is "json"; else the live display on a terminal and plain lines where there is none."""
    if log_format == "json":
        return JsonDisplay(stream)
    if stream.isatty() and os.environ.get("TERM") not in NO_CURSOR:
        from heron_server.display.rich import RichDisplay

        return RichDisplay(stream)
    return PlainDisplay(stream)


class Lines:
    """Whole lines on a stream. A reader that went away, or a full disk, must not end a run: then it falls silent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._broken = stream, False

    def write(self, line: str) -> None:
        if self._broken:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True


class PlainDisplay(Observer):
    """One line a round, and each note."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._lines, self._pace = Lines(stream), Pace(clock)

    def note(self, text: str) -> None:
        self._lines.write(printable(text))

    def listening(self, address: str, run_id: str) -> None:
        self._lines.write(f"listening on {address}, run {run_id}; waiting for clients")
        super().listening(address, run_id)

    def round_began(self, number: int, rounds: int, participants: int, steps: int) -> None:
        self._pace.round_began(number, rounds, steps)

    def step_done(self) -> None:
        self._pace.step_done()

    def round_done(self, record: dict[str, Any]) -> None:
        rate = self._pace.step_rate
        self._pace.round_done()
        self._lines.write(round_line(record, self._pace, rate))


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


def round_line(record: dict[str, Any], pace: Pace, step_rate: float | None) -> str:
    """`round 3/10  accuracy 84.12 % (majority 10.20 %)  loss 0.41  3 clients  12.3 s  41 steps/s  2 min 05 s left`."""
    parts = [f"round {record['round']}/{pace.rounds or '?'}", *results(record)]
    parts.append(clients_text(record["participants"]))
    if record["dropped"]:
        parts.append(f"{record['dropped']} dropped")
    parts.append(seconds_text(record["wall_s"]))
    if step_rate is not None:
        parts.append(rate_text(step_rate))
    if pace.time_left_s and record["round"] < pace.rounds:
        parts.append(f"{seconds_text(pace.time_left_s)} left")
    return "  ".join(parts)


def results(record: dict[str, Any]) -> list[str]:
    """The evaluation's figures; without an evaluation, the server's training loss."""
    if record["accuracy"] is None:
        return [f"server loss {number_text(record['server_loss'])}", "not evaluated"]
    majority = percent_text(record["majority_accuracy"])
    return [f"accuracy {percent_text(record['accuracy'])} (majority {majority})", f"loss {number_text(record['loss'])}"]


def clients_text(count: int) -> str:
    return f"{count} client{'' if count == 1 else 's'}"


def rate_text(step_rate: float | None) -> str:
    return f"{number_text(step_rate, 3)} steps/s"
