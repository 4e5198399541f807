"""What a run tells those who watch it: displays, logs, and programs of your own.

The run knows nothing of its observers, and none of them can stop it or keep the others from hearing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from heron_server.metrics.figures import RoundRecord

log = logging.getLogger("heron.server")


class Observer:
    """Ignores everything; override what you want to hear. Called on the run's own thread, so be quick."""

    def listening(self, address: str, run_id: str) -> None:
        """The server takes clients at this address. A simulated run does not listen."""

    def note(self, text: str) -> None:
        """A sentence for the operator: a client left, or was dropped from a round; a round was abandoned."""

    def warning(self, text: str) -> None:
        """Something of the run is probably not as it was meant, and what to do: each is said once, as a note unless
        this is overridden."""
        self.note(f"warning: {text}")

    def paused(self, why: str) -> None:
        """The disk is full: the run waits for space, and tries again by itself. A note says when it goes on."""

    def client_joined(self, name: str) -> None:
        """A client has a session; it is present once it listens to the run's events."""

    def client_present(self, name: str) -> None:
        """The client listens to the run's events, for the first time or again."""

    def client_lost(self, name: str) -> None:
        """The client listens no longer: it left, or its connection broke and may come back."""

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        """A participant of round `number` has done `step` of its `steps` local steps; may be said again unchanged."""

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        """Round `number` of `rounds`, with `upload_consumed` to come `uploads` times if no client fails. An abandoned
        round begins once more under its number."""

    def upload_consumed(self, name: str) -> None:
        """An upload of this client has trained the back or, after those of the round, was evaluated. Where the method
        has no uploads: the client's update is here."""

    def round_done(self, record: RoundRecord) -> None:
        """The round is over; `record` is its line in metrics.jsonl. With `server.checkpoint_every` above 1 a kill may
        take it back, and the resumed server tells of it once more."""

    def close(self) -> None:
        """The run is over, however it ended, and nothing more will come."""


class Observers(Observer):
    """Hands every event to all of its observers, in their order; as a context manager it closes them.

    An observer that raises is closed and taken out, and the others get a note that says so.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = list(observers)

    def _each(self, event: Callable[[Observer], None]) -> None:
        failed = []
        for observer in list(self._observers):
            try:
                event(observer)
            except (Exception, SystemExit) as error:
                log.exception("an observer failed")
                self._observers.remove(observer)
                with suppress(Exception, SystemExit):
                    observer.close()
                failed.append(f"{type(observer).__name__} failed and observes the run no longer: {error!r}")
        for text in failed:
            self.note(text)

    def listening(self, address: str, run_id: str) -> None:
        self._each(lambda observer: observer.listening(address, run_id))

    def note(self, text: str) -> None:
        self._each(lambda observer: observer.note(text))

    def warning(self, text: str) -> None:
        self._each(lambda observer: observer.warning(text))

    def paused(self, why: str) -> None:
        self._each(lambda observer: observer.paused(why))

    def client_joined(self, name: str) -> None:
        self._each(lambda observer: observer.client_joined(name))

    def client_present(self, name: str) -> None:
        self._each(lambda observer: observer.client_present(name))

    def client_lost(self, name: str) -> None:
        self._each(lambda observer: observer.client_lost(name))

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        self._each(lambda observer: observer.client_progress(name, number, step, steps))

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self._each(lambda observer: observer.round_began(number, rounds, participants, uploads))

    def upload_consumed(self, name: str) -> None:
        self._each(lambda observer: observer.upload_consumed(name))

    def round_done(self, record: RoundRecord) -> None:
        self._each(lambda observer: observer.round_done(record))

    def close(self) -> None:
        self._each(lambda observer: observer.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
