"""What a person sees while a run goes on where no line can be changed afterwards: lines of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TextIO

from heron_core.process.console import printable
from heron_server.display.lines import Lines
from heron_server.display.phrases import clients_text, rate_text, results
from heron_server.metrics.figures import RoundRecord
from heron_server.metrics.observers import Observer
from heron_server.metrics.pace import Pace
from heron_server.text.units import seconds_text


class PlainDisplay(Observer):
    """One line a round, and each note."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._lines, self._pace = Lines(stream), Pace(clock)

    def note(self, text: str) -> None:
        self._lines.write(printable(text))

    def listening(self, address: str, run_id: str) -> None:
        self._lines.write(f"listening on {address}, run {run_id}; waiting for clients")

    def paused(self, why: str) -> None:
        self.note(f"paused: {why}")

    def client_joined(self, name: str) -> None:
        self.note(f"{name} joined")

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self._pace.round_began(number, rounds, uploads)

    def upload_consumed(self, name: str) -> None:
        self._pace.upload_consumed()

    def round_done(self, record: RoundRecord) -> None:
        rate = self._pace.upload_rate
        self._pace.round_done()
        self._lines.write(round_line(record, self._pace, rate))


def round_line(record: RoundRecord, pace: Pace, upload_rate: float | None) -> str:
    """`round 3/10  accuracy 84.12 % (majority 10.20 %)  loss 0.41  3 clients  12.3 s  4 uploads/s  2 min 05 s left`."""
    parts = [f"round {record['round']}/{pace.rounds or '?'}", *results(record)]
    parts.append(clients_text(record["participants"]))
    if record["dropped"]:
        parts.append(f"{record['dropped']} dropped")
    parts.append(seconds_text(record["wall_s"]))
    if upload_rate is not None:
        parts.append(rate_text(upload_rate))
    if pace.time_left_s and record["round"] < pace.rounds:
        parts.append(f"{seconds_text(pace.time_left_s)} left")
    return "  ".join(parts)
