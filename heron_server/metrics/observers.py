"""What the coordinator tells whoever shows it to a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class Observer:
    """Ignores everything; displays override what they show. A context manager that closes itself."""

    _on_listening: Callable[[str], None] | None = None

    def when_listening(self, callback: Callable[[str], None]) -> None:
        """Calls back with the address once the server takes clients."""
        self._on_listening = callback

    def note(self, text: str) -> None:
        """A sentence for the operator: a client came, went, was dropped; a round was abandoned."""

    def listening(self, address: str, run_id: str) -> None:
        """The server takes clients at this address. Overriding methods call this one last."""
        if self._on_listening is not None:
            self._on_listening(address)

    def clients_present(self, count: int) -> None:
        """How many clients are connected now; may be told again without a change."""

    def round_began(self, number: int, rounds: int, participants: int, steps: int) -> None:
        """A round with this many optimiser steps ahead."""

    def step_done(self) -> None:
        """One optimiser step on the back."""

    def round_done(self, record: dict[str, Any]) -> None:
        """A committed round's metrics record."""

    def close(self) -> None:
        """Nothing more will come: a live display leaves the terminal as it found it. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
