"""Uploads of any phase on their way through the worker: one command each, in turn, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as split
from heron_server.metrics.ledger import Ledger
from heron_server.run.phases.reporting_worker import ReportingWorker
from heron_server.run.phases.reports import ClientFailed, Failed, Report, UploadConsumed
from heron_server.storage.kept_samples import KeptSamples
from heron_server.uploads.assembly import Assembly, BufferPool, Upload, UploadShape
from heron_server.uploads.held import SamplesHere
from heron_server.uploads.scheduler import Order, upload_slots
from heron_server.uploads.uploads import Named, Uploads

T = TypeVar("T")


class UploadPhase(Protocol[T]):
    """What a phase does with its uploads."""

    def command(self, name: str, upload: Upload) -> T:
        """On the worker: one upload's command. A TensorError costs its client the phase, any other error the run."""
        ...

    def pooled(self, pool: Sequence[Named]) -> Sequence[T | TensorError]:
        """On the worker: one command for an upload of each client; for each, what it gave or why it cannot be used."""
        ...

    def taken(self, name: str, result: T) -> None:
        """What the command gave."""
        ...

    def client_done(self, name: str) -> Report | None:
        """What to report once the client's last upload is consumed."""
        ...


@dataclass(frozen=True)
class UploadRules:
    """What uploads look like, and how many may be here at once."""

    shape: UploadShape
    """Of those that train."""
    evaluation_shape: UploadShape
    """Of those that are counted."""
    each: int
    """Uploads of one participant in a round; 0 where the method has none."""
    byte_budget: int
    order: Order
    """In which uploads train; an evaluation's are counted as they come."""
    mixing: bool = False
    """Uploads train in pools, of one of each participant."""


class UploadDesk:
    """Opens the uploads of each phase, over one pool of buffers; phases whose uploads are alike share what is in it."""

    def __init__(
        self, rules: UploadRules, ledger: Ledger, worker: ReportingWorker, clock: Callable[[], float],
        kept: KeptSamples | None = None,
    ) -> None:  # fmt: skip
        """`kept`: the samples that are used again, where the run does."""
        self.rules, self._ledger, self._worker, self._clock, self._kept = rules, ledger, worker, clock, kept
        self._pool = BufferPool(rules.shape)

    def open(
        self, phase: UploadPhase[T], purpose: split.Purpose, term: int, round_number: int, counts: Mapping[str, int],
        ranks: Mapping[str, int],
    ) -> Uploads:  # fmt: skip
        """Takes `counts` uploads of each client, in the order of `counts`. Nothing is reported once they have ended."""
        rules, training = self.rules, purpose == split.PURPOSE_TRAIN
        shape = rules.shape if training else rules.evaluation_shape
        if not self._pool.fits(shape):
            self._pool = BufferPool(shape)  # one at a time, as the budget is for all
        pool = self._pool
        here = self._samples_here(round_number, ranks) if shape.reuses else {}
        assemblies = {name: Assembly(name, shape, n, training, pool, here.get(name)) for name, n in counts.items()}
        slots = upload_slots(rules.byte_budget, shape.size_bytes, len(counts))
        order = rules.order if training else "arrival"
        uploads: Uploads = Uploads(
            purpose, term, round_number, assemblies, slots, order, self._ledger,
            lambda turn: self._submit(phase, uploads, pool, turn), self._clock, pooled=rules.mixing and training,
        )  # fmt: skip
        return uploads

    def _samples_here(self, round_number: int, ranks: Mapping[str, int]) -> Mapping[str, SamplesHere]:
        assert self._kept is not None, "a run that reuses samples keeps them"
        before, moving = (round_number - 1) * self.rules.each, self.rules.shape.moving
        self._kept.begin_round(before)
        return {
            name: SamplesHere(name, partial(self._kept.held, rank), before, moving=moving)
            for name, rank in ranks.items()
        }  # fmt: skip

    def _submit(self, phase: UploadPhase[T], uploads: Uploads, pool: BufferPool, turn: Sequence[Named]) -> None:
        mixing = self.rules.mixing and uploads.purpose == split.PURPOSE_TRAIN

        def command() -> Sequence[T | TensorError]:
            try:
                return phase.pooled(turn) if mixing else [phase.command(*turn[0])]
            except TensorError as error:
                return [error]
            finally:
                for _, upload in turn:
                    pool.give(upload)

        def done(results: Sequence[T | TensorError]) -> None:
            for (name, _), result in zip(turn, results, strict=True):
                if not uploads.ended:  # what one client's result led to may have ended the phase for the others
                    self._done(phase, uploads, name, result)

        def failed(error: BaseException) -> None:
            if not uploads.ended:
                self._worker.report(Failed(error))

        self._worker.submit(command, done, failed)

    def _done(self, phase: UploadPhase[T], uploads: Uploads, name: str, result: T | TensorError) -> None:
        if isinstance(result, TensorError):
            uploads.consumed(name)
            self._worker.report(ClientFailed(name, str(result)))
            return
        phase.taken(name, result)
        uploads.consumed(name)
        self._worker.report(UploadConsumed(name))
        if uploads.client_done(name):
            self._worker.report(phase.client_done(name))
