"""What every way of running a server does before the first client and after the last round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract
from heron_core.data.source import Source
from heron_core.models.saved import save_model
from heron_core.models.split_model import AssembledModel
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.display.report import write_curves
from heron_server.metrics.figures import Summary, WrittenSample
from heron_server.planning.checks import CheckedRun, check_run
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.macs import step_macs
from heron_server.planning.paper import paper_charge
from heron_server.run.coordinator import Coordinator
from heron_server.samples.start import start_of
from heron_server.samples.written import written_samples
from heron_server.storage.durable import storing
from heron_server.storage.run_dir import RunDir
from heron_server.training.trainer import Trainer

log = logging.getLogger("heron.server")


def prepare(spec: RunSpec, settings: ServerSettings) -> tuple[Trainer, CheckedRun]:
    """The trainer, and what the run was found to be; raises ConfigError, ModelError, DataError before anyone joins."""
    checked = check_run(spec, settings)
    for warning in checked.facts.warnings:
        log.warning("%s", warning)
    trainer = Trainer(spec, checked.model, checked.device, checked.test)
    if settings.evaluate_start:
        checked = replace(checked, start=start_of(trainer, checked, spec.seed, settings.written_samples))
    return trainer, checked


def finish_run(
    coordinator: Coordinator, checked: CheckedRun, directory: RunDir, *, curves: bool = True, texts: int = 0
) -> Summary:
    """Writes model/, summary.json and, if wanted, curves.png; returns the summary. `texts`: to be written by a language
    model. Raises RunFailed where the disk will not take them: resuming the run, which is done, writes them."""
    spec, facts = coordinator.spec, checked.facts
    folder: Path = directory.path / "model"
    trained, ledger = coordinator.trainer.trained(), coordinator.ledger.as_dict()
    macs, state = step_macs(spec.method, facts), state_bytes(client_state(spec.method, facts))
    summary = coordinator.records.summary(
        coordinator.run_id, coordinator.clients, coordinator.model_sha256(), ledger,
        paper_charge(ledger, state), macs.exact, macs.paper,
    )  # fmt: skip
    extra = {
        "run_id": summary["run_id"], "method": summary["method"], "rounds_done": summary["rounds_done"],
        "accuracy": summary["accuracy"], "metric": summary["metric"], "model_sha256": summary["model_sha256"],
        **({} if trained.trained_back is None else {"trained_metrics": summary["trained_metrics"]}),
    }  # fmt: skip
    contract = facts.contract or _fitting(coordinator.contract, facts.inputs)
    directory.check_held()
    with storing(folder):
        save_model(
            folder, spec.model, trained.front, trained.back, trained.head, extra, task=facts.task, inputs=facts.inputs,
            contract=contract, class_names=coordinator.class_names, own_names=facts.own_names,
            trained_back=trained.trained_back,
        )  # fmt: skip
    summary["averaged_back"] = trained.trained_back is not None
    summary["model_path"], summary["class_names"] = str(folder), list(coordinator.class_names)
    if contract is not None:
        summary["input_contract"] = contract.model_dump(mode="json")
    if curves:
        title = f"{spec.method.name} on {spec.model.name}, {summary['clients']} clients"
        history = coordinator.records.history
        summary["curves_path"], summary["curves_hint"] = write_curves(directory.path, history, title)
    if checked.start is not None:
        summary["start"] = checked.start
    if samples := _written(AssembledModel(trained.front, trained.back), checked.test, texts):
        summary["samples"] = samples
    directory.write_summary(summary)
    return summary


def _written(model: AssembledModel, test: Source | None, texts: int) -> list[WrittenSample]:
    """A finished run never fails for what is only shown."""
    try:
        return written_samples(model, test, texts)
    except Exception as error:  # a model may be a user's own code
        log.warning("the model has written no samples: %r", error)
        return []


def _fitting(contract: InputContract | None, inputs: Sequence[TensorSpec]) -> InputContract | None:
    """What clients say, where it is of this model's inputs."""
    of = [] if contract is None else [(each.name, each.shape, each.dtype) for each in contract.inputs]
    return contract if of == [(spec.name, spec.shape, spec.dtype) for spec in inputs] else None
