"""An observer that remembers what it heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heron_server.metrics.observers import Observer


class Heard(Observer):
    """Each event as a tuple of its name and what it said."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in kinds]

    def listening(self, address: str, run_id: str) -> None:
        self.events.append(("listening", address, run_id))

    def note(self, text: str) -> None:
        self.events.append(("note", text))

    def warning(self, text: str) -> None:
        self.events.append(("warning", text))

    def paused(self, why: str) -> None:
        self.events.append(("paused", why))

    def client_joined(self, name: str) -> None:
        self.events.append(("joined", name))

    def client_present(self, name: str) -> None:
        self.events.append(("present", name))

    def client_lost(self, name: str) -> None:
        self.events.append(("lost", name))

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        self.events.append(("progress", name, number, step, steps))

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self.events.append(("round_began", number, rounds, tuple(participants), uploads))

    def upload_consumed(self, name: str) -> None:
        self.events.append(("upload_consumed", name))

    def round_done(self, record: dict[str, Any]) -> None:
        self.events.append(("round_done", record["round"]))

    def close(self) -> None:
        self.events.append(("close",))
