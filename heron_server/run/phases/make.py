"""The phases of one run, from its settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.activation_codec import Purpose, codec_for
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
from heron_server.training.commands import Commands
from heron_server.uploads.assembly import UploadShape


def make_phases(
    spec: RunSpec, settings: ServerSettings, trainer: Commands, states: ClientStates, ledger: Ledger,
    checkpoints: Checkpoints, worker: ReportingWorker, clock: Callable[[], float],
) -> Phases:  # fmt: skip
    """Uploads as the method has them, in the order and within the budget of the settings."""
    rules = UploadRules(
        _upload_shape(spec, trainer, "uploads"), _upload_shape(spec, trainer, "evaluation"),
        uploads_per_round(spec.method), settings.byte_budget, settings.order, spec.method.mixing,
    )  # fmt: skip
    rule = RULES[spec.federation.aggregation].make(spec.federation)
    aggregation = partial(aggregate, aggregator=rule, states=states, trainer=trainer)
    return Phases(trainer, UploadDesk(rules, ledger, worker, clock), aggregation, checkpoints, worker)


def _upload_shape(spec: RunSpec, trainer: Commands, purpose: Purpose) -> UploadShape:
    method, (*activations, labels) = spec.method, trainer.uploaded
    encoded = (*codec_for(purpose).travels(activations), labels)
    row_bytes = sum(spec.bytes_per_sample for spec in encoded)
    return UploadShape(encoded, method.batch_size, rows_together(method.batch_size, method.micro_batch_rows, row_bytes))
