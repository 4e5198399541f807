"""The phases of one run, from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from heron_core.spec.methods import tolerates, uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.activation_codec import CODECS
from heron_core.wire.labels import travelling
from heron_core.wire.versions import VERSIONS
from heron_core.wire.window import rows_together
from heron_server.aggregation.client_states import ClientStates
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.metrics.ledger import Ledger
from heron_server.run.checkpoints import Checkpoints
from heron_server.run.phases.aggregation import aggregate
from heron_server.run.phases.phases import Phases
from heron_server.run.phases.reporting_worker import ReportingWorker
from heron_server.run.phases.upload_desk import UploadDesk, UploadRules
from heron_server.storage.kept_samples import KeptSamples
from heron_server.training.commands import Commands
from heron_server.uploads.assembly import UploadShape


def make_phases(
    spec: RunSpec, settings: ServerSettings, trainer: Commands, states: ClientStates, ledger: Ledger,
    checkpoints: Checkpoints, worker: ReportingWorker, clock: Callable[[], float],
) -> Phases:  # fmt: skip
    """Uploads as the method has them, in the order and within the budget of the settings."""
    rows, micro, (*cut, labels) = spec.method.batch_size, spec.method.micro_batch_rows, trainer.uploaded
    travel = (*cut, travelling(labels, spec.codec.labels == "packed"))
    together = rows_together(rows, micro, sum(tensor.bytes_per_sample for tensor in trainer.uploaded))
    rules = UploadRules(
        _trains(spec, UploadShape(travel, rows, together, CODECS[spec.codec.uploads], micro)),
        UploadShape(travel, rows, rows, CODECS[spec.codec.evaluation], rows),
        uploads_per_round(spec.method), settings.byte_budget, settings.order, spec.method.mixing,
    )  # fmt: skip
    rule = RULES[spec.federation.aggregation].make(spec.federation)
    aggregation = partial(aggregate, aggregator=rule, states=states, trainer=trainer)
    kept = None
    if spec.codec.reuse:
        count = VERSIONS if tolerates(spec) else 1
        kept = KeptSamples(checkpoints.run_dir.path / "kept", trainer.uploaded, settings.reuse_budget, count)
        trainer.keep_samples(kept)
    return Phases(trainer, UploadDesk(rules, ledger, worker, clock, kept), aggregation, checkpoints, worker)


def _trains(spec: RunSpec, shape: UploadShape) -> UploadShape:
    """Of a run that reuses samples, an upload comes whole: what it has of rows differs each time."""
    if not spec.codec.reuse:
        return shape
    return replace(shape, micro_rows=shape.batch_rows, encoded_rows=0, reuses=True, moving=tolerates(spec))
