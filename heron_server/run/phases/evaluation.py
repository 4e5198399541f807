"""The evaluation of a round by its clients: each sends what its own data gives at the cut, the server counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from heron_core.pb.v1 import split_pb2 as split
from heron_server.metrics.counts import Counts
from heron_server.run.phases.reports import ClientEvaluated
from heron_server.run.phases.upload_desk import UploadDesk
from heron_server.training.commands import Commands
from heron_server.uploads.assembly import Upload
from heron_server.uploads.uploads import Named


class Evaluation:
    """What clients held out, counted as it comes."""

    def __init__(
        self, term: int, round_number: int, uploads: Mapping[str, int], desk: UploadDesk, trainer: Commands
    ) -> None:
        """`uploads`: of each client that evaluates, at least one."""
        self._trainer = trainer
        self.counts = Counts()
        self.uploads = desk.open(self, split.PURPOSE_EVALUATE, term, round_number, uploads, {})

    def command(self, name: str, upload: Upload) -> Counts:
        """One batch, on the worker."""
        return self._trainer.evaluate_upload(name, upload)

    def pooled(self, pool: Sequence[Named]) -> NoReturn:
        """An evaluation counts each client by itself."""
        raise AssertionError("nothing is mixed in an evaluation")

    def taken(self, name: str, result: Counts) -> None:
        """Adds what the batch counted."""
        self.counts.add(result)

    def client_done(self, name: str) -> ClientEvaluated:
        """All that it held out is counted."""
        return ClientEvaluated(name)
