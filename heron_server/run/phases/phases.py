"""The phases of a round: each action is one phase's, and what comes of it is reported, on whatever thread it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from heron_server.metrics.counts import Counts
from heron_server.rounds.actions import OpenRound
from heron_server.run.checkpoints import Checkpoints
from heron_server.run.phases.evaluation import Evaluation
from heron_server.run.phases.reporting_worker import ReportingWorker
from heron_server.run.phases.reports import (
    Aggregated,
    Committed,
    Evaluated,
    EvaluationOpened,
    Failed,
    NotStored,
    Report,
    Restored,
)
from heron_server.run.phases.training import Training, Update
from heron_server.run.phases.upload_desk import UploadDesk
from heron_server.storage.durable import OutOfSpace
from heron_server.storage.facts import Facts
from heron_server.training.commands import Commands, RoundEnd
from heron_server.uploads.uploads import Uploads

T = TypeVar("T")
Aggregation = Callable[[int, Mapping[int, Update]], RoundEnd]
"""(round, updates by rank) -> the server's part of the round; on the worker."""


class Phases:
    """One after the other. A round that is abandoned goes back to the end of the one before."""

    def __init__(
        self, trainer: Commands, desk: UploadDesk, aggregation: Aggregation, checkpoints: Checkpoints,
        worker: ReportingWorker,
    ) -> None:  # fmt: skip
        self._trainer, self._desk, self._aggregation = trainer, desk, aggregation
        self._checkpoints, self._worker = checkpoints, worker
        self._training: Training | None = None
        self.uploads: Uploads | None = None
        """Those of the phase in progress, if it takes any."""
        self.counts = Counts()
        """Of the round's evaluation; nothing where the round has none."""
        self.try_again: Callable[[], None]
        """What commit or restore last began, once more."""

    # -- training ------------------------------------------------------------------------------------------------

    def train(self, opened: OpenRound, ranks: Mapping[str, int]) -> None:
        """Opens a round for uploads and updates; `ranks`: by name, of all who take part."""
        self._training = Training(opened, ranks, self._desk, self._trainer)
        self.uploads, self.counts = self._training.uploads, Counts()

    def has_update(self, name: str) -> bool:
        """Is the client's update of this round here?"""
        return self._training is not None and self._training.has_update(name)

    def update(self, name: str, update: Update) -> None:
        """A participant's whole update."""
        assert self._training is not None, "an update is taken while its round is open"
        self._worker.report(self._training.update(name, update))

    def update_of(self, name: str) -> Update:
        """The update of a client whose part in the round is done."""
        assert self._training is not None, "updates belong to a round"
        return self._training.updates[name]

    def drop(self, name: str) -> None:
        """A participant is out of the round."""
        assert self._training is not None, "a participant is one of a round"
        self._training.drop(name)

    # -- after training ------------------------------------------------------------------------------------------

    def aggregate(self, round_number: int, ranks: Mapping[str, int]) -> None:
        """Makes one client state of the updates of these clients, by name."""
        updates = {rank: self.update_of(name) for name, rank in ranks.items()}
        self._worker.run(partial(self._aggregation, round_number, updates), self._aggregated)

    def _aggregated(self, end: RoundEnd) -> Report:
        self._end_uploads()
        return Aggregated(end.mean_loss, end.quarantined)

    def evaluate(self, term: int, round_number: int, names: tuple[str, ...]) -> None:
        """On the server's own test set, or by these clients on what they hold out."""
        if self._trainer.has_test_set:
            self._worker.run(self._trainer.evaluate, self._evaluated)
            return
        rows = self._desk.rules.shape.batch_rows
        uploads = {name: -(-samples // rows) for name in names if (samples := self.update_of(name).held_out_samples)}
        if not uploads:
            self._worker.report(self._evaluated(Counts()))
            return
        evaluation = Evaluation(term, round_number, uploads, self._desk, self._trainer)
        self.counts, self.uploads = evaluation.counts, evaluation.uploads
        self._worker.report(EvaluationOpened(tuple(uploads)))

    def _evaluated(self, counts: Counts) -> Report:
        self.counts = counts
        return Evaluated()

    def skip_evaluation(self, name: str) -> None:
        """The client is lost: its places go to the others."""
        assert self.uploads is not None, "clients evaluate by uploads"
        self.uploads.drop(name)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def commit(self, facts: Facts) -> None:
        """Ends the round, with its checkpoint if one is due; `facts` are the checkpoint's."""
        self._end_uploads()
        self._store(partial(self._checkpoints.commit, facts), partial(self._committed, facts["rounds_done"]))

    def _committed(self, rounds_done: int, _: None) -> Report:
        self._checkpoints.committed(rounds_done)
        self._training = None
        return Committed()

    def restore(self) -> None:
        """Back to the end of the last round, under a higher term."""
        self._end_uploads()
        self._training = None
        self._store(self._checkpoints.go_back, Restored)

    def _store(self, command: Callable[[], T], done: Callable[[T], Report]) -> None:
        self.try_again = partial(self._store, command, done)
        self._worker.submit(command, lambda result: self._worker.report(done(result)), self._not_stored)

    def _not_stored(self, error: BaseException) -> None:
        self._worker.report(NotStored(error.why) if isinstance(error, OutOfSpace) else Failed(error))

    def _end_uploads(self) -> None:
        if self.uploads is not None:
            self.uploads.end()
        self.uploads = None
