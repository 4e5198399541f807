"""What is noted of a run: its records and ledger, the log on the disk, and what observers hear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from heron_core.measures import Metric
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_server.metrics.counts import Counts
from heron_server.metrics.figures import RoundRecord
from heron_server.metrics.ledger import Ledger
from heron_server.metrics.observers import Observers
from heron_server.metrics.records import Records
from heron_server.metrics.sparing import Sparing
from heron_server.planning.warnings.long_rounds import LongRounds
from heron_server.rounds.actions import OpenRound
from heron_server.storage.facts import Facts
from heron_server.storage.run_dir import RunDir

SPARE_LINES = 16
"""About clients, at once, beyond one for each."""


class Journal:
    """Decides nothing; the run only tells it."""

    def __init__(
        self, spec: RunSpec, metrics: Sequence[Metric], run_dir: RunDir, observers: Observers,
        clock: Callable[[], float], long_rounds: LongRounds | None = None,
    ) -> None:  # fmt: skip
        """`long_rounds`: what to say where the clients' classes differ: now if those are known, else once they are."""
        self._rounds, self._uploads_each = spec.rounds, uploads_per_round(spec.method)
        self._local_steps = spec.method.local_steps
        self._run_dir, self._observers = run_dir, observers
        self._sparing = Sparing(spec.federation.clients + SPARE_LINES, clock)
        self.ledger, self.records = Ledger(), Records(spec, metrics)
        self._record: RoundRecord | None = None
        self._fetched: dict[str, int] = {}
        """Bytes of the client state that each client has fetched whole to evaluate it, and may train on next."""
        self.up_to_date: frozenset[str] = frozenset()
        """Who had fetched the client state that the round in progress began with, to evaluate it."""
        self._present: set[str] = set()
        """Names of connected clients."""
        self._long_rounds = long_rounds
        """None where there is nothing to say, or no more."""
        self._paused = False
        """For want of space on the disk."""
        self.class_names: tuple[str, ...] = ()
        """The run's, in the order of the labels, once anybody knows them."""
        if long_rounds is not None and long_rounds.counts:
            self._look_at_classes(long_rounds.counts)
            self._long_rounds = None

    def restore(self, facts: Facts) -> None:
        """Ledger and records of a checkpoint; the log on the disk becomes the same, for a crash may have come
        between."""
        self.ledger.restore(facts["ledger"])
        self.records.restore(facts["records"])
        self.class_names = tuple(facts["class_names"])
        self._run_dir.restore_log(self.records.history)
        repeated = self.records.repeated["rounds"]
        again = f"; rounds done again after a kill, in all: {repeated}" if repeated else ""
        self.note(f"resumed {facts['run_id']} after round {facts['rounds_done']} of {self._rounds}{again}")

    def note(self, text: str) -> None:
        """A sentence for the operator."""
        self._observers.note(text)

    def paused(self, why: str) -> None:
        """The run waits for space on the disk."""
        self._paused = True
        self._observers.paused(why)

    def stored(self) -> None:
        """What was to be made durable is."""
        if self._paused:
            self.note("there is space on the disk again; the run goes on")
        self._paused = False

    def joined(self, name: str) -> None:
        """A client has a session."""
        self._of_peers(lambda: self._observers.client_joined(name))

    def left(self, name: str, reason: str) -> None:
        """A client has said its last word."""
        self._of_peers(lambda: self.note(f"{name} left: {reason}"))

    def said(self, text: str) -> None:
        """A sentence for the operator about a client."""
        self._of_peers(lambda: self.note(text))

    def _of_peers(self, tell: Callable[[], None]) -> None:
        """What peers can cause again and again is not said again and again."""
        if self._sparing.allows():
            if count := self._sparing.left_out():
                self.note(f"{count} more lines of clients that came, left or were dropped are left out here")
            tell()

    def presence(self, changed: Mapping[str, bool]) -> None:
        """Who is connected now, of those that came or went since the last call; observers hear of both."""
        for name in (name for name, here in changed.items() if not here and name in self._present):
            self._present.discard(name)
            self._observers.client_lost(name)
        for name in (name for name, here in changed.items() if here and name not in self._present):
            self._present.add(name)
            self._observers.client_present(name)

    def progress(self, name: str, number: int, step: int) -> None:
        """A participant says how many local steps of the round it has done; no more than there are."""
        self._observers.client_progress(name, number, min(step, self._local_steps), self._local_steps)

    def fetched(self, name: str, size: int, *, to_evaluate: bool) -> None:
        """A client has all of a client state; the transport has charged it as the round's own."""
        self._fetched.pop(name, None)
        if to_evaluate:
            self._fetched[name] = size
            self.ledger.move("client_state_down", "evaluation_down", size)

    def round_began(self, opened: OpenRound, now: float) -> None:
        """A round is open. A participant that evaluated its client state has it already: that fetch was the round's."""
        for name in opened.participants:
            self.ledger.move("evaluation_down", "client_state_down", self._fetched.get(name, 0))
        self.up_to_date = frozenset(self._fetched)
        self._fetched.clear()
        self.records.round_began(now)
        uploads = max(1, self._uploads_each) * len(opened.participants)
        self._observers.round_began(opened.round, self._rounds, opened.participants, uploads)

    def dropped(self, name: str, round_number: int, reason: str) -> None:
        """A participant is out of the round."""
        self._of_peers(lambda: self.note(f"{name} is dropped from round {round_number}: {reason}"))
        self.records.dropped(name, reason)

    def upload_consumed(self, name: str) -> None:
        """One upload of this client has trained the back, or is counted."""
        self._observers.upload_consumed(name)

    def update_counted(self, name: str, figures: pb.ClientFigures) -> None:
        """A client's update and uploads are all here."""
        if not self._uploads_each:
            self._observers.upload_consumed(name)
        self.records.client_figures(name, figures)

    def aggregated(self, number: int, server_loss: float | None, quarantined: Mapping[str, int]) -> None:
        """The round's mean server loss, if it had uploads; by client, uploads that nothing was trained on."""
        self.records.server_loss, self.records.quarantined = server_loss, sum(quarantined.values())
        for name, count in sorted(quarantined.items()):
            uploads = "upload was" if count == 1 else "uploads were"
            self.note(f"{count} {uploads} not trained on in round {number}: {name}'s loss was an outlier")

    def round_made(self, number: int, names: Sequence[str], counts: Counts, now: float) -> None:
        """Makes the round's record, before its checkpoint, which holds it too. `counts`: of its evaluation, if any."""
        self.records.wire_bytes = self.ledger.wire_up + self.ledger.wire_down
        self._record = self.records.round_done(number, list(names), counts, now)

    def committed(self) -> None:
        """The round is over, its line in the log: only now observers hear of it."""
        assert self._record is not None, "a round has its record before it is committed"
        self.stored()
        self._observers.round_done(self._record)
        if self._long_rounds is not None:
            self._look_at_classes([client["class_histogram"] for client in self.records.clients.values()])

    def _look_at_classes(self, counts: Sequence[Sequence[int]]) -> None:
        """Warns once of long rounds; `counts`: each client's samples of each class."""
        if self._long_rounds is not None and (text := self._long_rounds.warning(counts)):
            self._long_rounds = None
            self._observers.warning(text)
