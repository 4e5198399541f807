"""The live display on a terminal: two or three lines that stay at the bottom, notes scroll above them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from heron_core.process.console import printable
from heron_server.display.client_line import ClientLine
from heron_server.display.phrases import clients_text, rate_text, results
from heron_server.metrics.figures import RoundRecord
from heron_server.metrics.observers import Observer
from heron_server.metrics.pace import Pace
from heron_server.text.units import seconds_text

UPDATES_PER_SECOND = 4


class RichDisplay(Observer):
    """Events only count; what is shown is made when the live display asks for it, a few times a second."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._console = Console(file=stream, highlight=False)
        self._pace = Pace(clock)
        self._address = ""
        self._present = 0
        self._clients = ClientLine()
        self._last: RoundRecord | None = None
        self._evaluated: RoundRecord | None = None
        """The last round that was."""
        self._live: Live | None = None
        self._closed = False
        self._paused = False
        """For want of space on the disk, until the next round begins or this one is done."""

    def note(self, text: str) -> None:
        self._console.print(Text(printable(text), style="dim"))

    def warning(self, text: str) -> None:
        self._console.print(Text(f"warning: {printable(text)}", style="yellow"))

    def listening(self, address: str, run_id: str) -> None:
        self._address = address
        self.note(f"listening on {address}, run {run_id}")
        self._start()

    def paused(self, why: str) -> None:
        self.note(f"paused: {why}")
        self._paused = True

    def client_joined(self, name: str) -> None:
        self.note(f"{name} joined")

    def client_present(self, name: str) -> None:
        self._present += 1
        self._clients.present(name)

    def client_lost(self, name: str) -> None:
        self._present -= 1
        self._clients.lost(name)

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        self._clients.progress(name, step, steps)

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self._pace.round_began(number, rounds, uploads)
        self._paused = False
        self._clients.round_began(participants)
        self._start()

    def upload_consumed(self, name: str) -> None:
        self._pace.upload_consumed()

    def round_done(self, record: RoundRecord) -> None:
        self._last, self._paused = record, False
        if record["metric"]["value"] is not None:
            self._evaluated = record
        self._clients.round_done()
        self._pace.round_done()

    def close(self) -> None:
        self._closed = True
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self) -> None:
        if self._live is None and not self._closed:
            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=UPDATES_PER_SECOND
            )
            self._live.start()

    def _render(self) -> RenderableType:
        if not self._pace.rounds:
            here = clients_text(self._present)
            return Text(f"waiting for clients at {self._address}; {here} here", style="bold")
        lines: list[RenderableType] = [self._bar(), Text("  ".join(self._facts()))]
        if clients := self._clients.text(self._console.width):
            lines.append(Text(clients, style="dim"))
        return Group(*lines)

    @property
    def _done(self) -> bool:
        return self._last is not None and self._last["round"] >= self._pace.rounds

    def _bar(self) -> Table:
        pace = self._pace
        left_s = pace.time_left_s
        left = "done" if self._done else f"{seconds_text(left_s)} left" if left_s is not None else ""
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text(f"round {pace.number}/{pace.rounds}", style="bold"),
            ProgressBar(total=pace.rounds, completed=pace.position, width=min(40, self._console.width // 3)),
            Text(f"{100 * pace.position / pace.rounds:.0f} %"),
            Text(left, style="cyan"),
        )
        return row

    def _facts(self) -> list[str]:
        facts = ["paused: the disk is full"] if self._paused else []
        facts += self._results()
        if not self._done:
            facts.append(clients_text(self._present))
        if self._pace.upload_rate is not None:
            facts.append(rate_text(self._pace.upload_rate))
        return facts

    def _results(self) -> list[str]:
        """What is known of the model: where not each round is evaluated, of an earlier round."""
        last, evaluated = self._last, self._evaluated
        if last is None or evaluated is None or last is evaluated:
            return [] if last is None else results(last)
        return [f"after round {evaluated['round']}:", *results(evaluated)]
