"""The training of one round: uploads train the back, and a client's update counts once all its uploads are consumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_server.rounds.actions import OpenRound
from heron_server.run.phases.reports import UpdateComplete
from heron_server.run.phases.upload_desk import UploadDesk
from heron_server.training.commands import Commands, Pooled
from heron_server.uploads.assembly import Upload
from heron_server.uploads.cut_gradients import CutGradients
from heron_server.uploads.uploads import Named


@dataclass(frozen=True)
class Update:
    """One client's submission, checked."""

    num_samples: int
    held_out_samples: int
    state: dict[str, Array]
    figures: pb.ClientFigures


class Training:
    """From the opening of a round until another takes its place: its updates are needed to its end."""

    def __init__(self, opened: OpenRound, ranks: Mapping[str, int], desk: UploadDesk, trainer: Commands) -> None:
        """`ranks`: by name, of all who take part. Where the method has no uploads, updates count at once."""
        self._number, self._trainer = opened.round, trainer
        self._ranks = {name: ranks[name] for name in opened.participants}
        self.updates: dict[str, Update] = {}
        """By name, of clients whose uploads are all consumed."""
        self._waiting: dict[str, Update] = {}
        counts = dict.fromkeys(opened.participants, desk.rules.each)
        self.uploads = desk.open(self, split.PURPOSE_TRAIN, opened.term, opened.round, counts, self._ranks)

    def has_update(self, name: str) -> bool:
        """Is the client's update here, whether its uploads are consumed or not?"""
        return name in self.updates or name in self._waiting

    def update(self, name: str, update: Update) -> UpdateComplete | None:
        """A whole update; it counts once all its client's uploads are consumed."""
        self._waiting[name] = update
        self.uploads.finished(name)
        return self.client_done(name) if self.uploads.client_done(name) else None

    def drop(self, name: str) -> None:
        """A participant is out of the round; what its uploads have trained stays."""
        self._waiting.pop(name, None)
        self.uploads.drop(name)

    # -- its uploads ---------------------------------------------------------------------------------------------

    def command(self, name: str, upload: Upload) -> CutGradients | None:
        """One step on the back, on the worker."""
        return self._trainer.train(name, self._ranks[name], self._number, upload)

    def pooled(self, pool: Sequence[Named]) -> Sequence[CutGradients | TensorError | None]:
        """Steps on batches mixed of these uploads, on the worker."""
        return self._trainer.train_mixed(self._number, [Pooled(name, self._ranks[name], sent) for name, sent in pool])

    def taken(self, name: str, result: CutGradients | None) -> None:
        """Sends back what the method returns."""
        if result is not None:
            self.uploads.return_gradients(name, result)

    def client_done(self, name: str) -> UpdateComplete | None:
        """All its uploads are consumed: its update counts, if it is here."""
        if name not in self._waiting:
            return None
        self.updates[name] = self._waiting.pop(name)
        return UpdateComplete(name)
