"""Everything that can be refused before a run: `validate` and a server's start refuse the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from heron_core import data
from heron_core.data.contract import InputContract, contract_of
from heron_core.data.experiment import experiment_contract
from heron_core.data.facts import DataFacts, facts_of
from heron_core.data.source import Source
from heron_core.data.sources.text import asked_of
from heron_core.data.tables.source import contract_of_table
from heron_core.device import resolve_device
from heron_core.errors import ConfigError, DataError
from heron_core.graphs.graph_set import GraphSet
from heron_core.models import build_split_model
from heron_core.models.registry import is_own
from heron_core.models.split_model import SplitModel
from heron_core.own_code import find_code_in
from heron_core.spec.data import DataSpec
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.graphs.export import export_graphs
from heron_server.metrics.figures import Start
from heron_server.planning.constraints.check import check_constraints
from heron_server.planning.constraints.reuse import reuse_budget
from heron_server.planning.facts import ModelFacts
from heron_server.planning.measuring import measure_model
from heron_server.planning.memory import Item, check_memory_limit, server_memory
from heron_server.planning.traffic import transfer_of
from heron_server.planning.warnings.long_rounds import LongRounds, long_rounds
from heron_server.uploads.scheduler import upload_slots


@dataclass(frozen=True)
class CheckedRun:
    """What a run that may start has been found to be."""

    model: SplitModel
    facts: ModelFacts
    device: torch.device
    slots: int
    """Whole uploads that the server holds at once; 0 where nobody sends any."""
    memory: list[Item]
    """What the server needs, the largest first."""
    test: Source | None
    """The server's own test set."""
    long_rounds: LongRounds | None
    """What to say where the clients' classes differ, and those of experiment data; None where rounds are short."""
    graphs: GraphSet | None
    """For clients without torch; None where the server offers none."""
    start: Start | None = None
    """With server.evaluate_start."""


def check_run(spec: RunSpec, settings: ServerSettings) -> CheckedRun:
    """Builds and measures the model, and looks at all that can be known before a client joins.

    Raises ConfigError, ModelError or DataError.
    """
    find_code_in(settings.python_path)
    if settings.start_from is not None and not spec.model.weights:
        raise ConfigError("the run spec does not say what server.start_from holds; heron_server.config.begun adds it")
    model = build_split_model(spec.model, data_folder=settings.data_folder, weights_folder=settings.start_from)
    facts = measure_model(model, spec.seed, own=is_own(spec.model))
    device = resolve_device(settings.device)
    slots, memory = _check_settings(spec, settings, facts)
    test = load_test(spec, settings, facts)
    if test is not None:
        data.check_source(test, facts.inputs, facts.labels)
    contract = _contract(spec, settings, test, facts)
    known = _test_data(spec, test, facts, contract)
    facts = replace(facts, contract=contract, test_data=known)
    long = long_rounds(spec, partial(_is_accepted, settings, facts))
    if long is not None:
        long = replace(long, counts=_class_counts(spec, settings, facts.labels.classes))
    graphs = export_graphs(spec, model) if settings.graphs else None
    return CheckedRun(model, facts, device, slots, memory, test, long, graphs)


def _check_settings(spec: RunSpec, settings: ServerSettings, facts: ModelFacts) -> tuple[int, list[Item]]:
    """Whole uploads that the server holds at once, and its memory; raises ConfigError."""
    receives = method_of(spec.method).uploads or clients_evaluate(spec.data, settings)
    check_constraints(spec, settings, receives, facts)
    upload_bytes = transfer_of(spec, facts).upload
    slots = upload_slots(settings.byte_budget, upload_bytes, spec.federation.participants) if receives else 0
    memory = server_memory(spec, slots, facts, holds=settings.checkpoint_every > 1)
    check_memory_limit(memory, settings.memory_limit)
    return slots, memory


def _is_accepted(settings: ServerSettings, facts: ModelFacts, spec: RunSpec) -> bool:
    try:
        _check_settings(spec, settings, facts)
    except ConfigError:
        return False
    return True


def _class_counts(spec: RunSpec, settings: ServerSettings, classes: int) -> list[list[int]]:
    """Samples of each class by rank; none where the server cannot know them."""
    if spec.data.source == "client" or not classes:
        return []
    try:
        experiment = data.load_experiment(spec.data, spec.seed, settings.data_folder)
        return data.share_counts(experiment, spec.data, spec.seed, spec.federation.clients, classes)
    except DataError:  # a server with another test set, or none, needs no such data
        return []


def _contract(
    spec: RunSpec, settings: ServerSettings, test: Source | None, facts: ModelFacts
) -> InputContract | None:
    """Of the experiment, or of the server's own test set; what else there is lies with the clients."""
    if spec.data.source in ("digits", "cifar10"):
        return experiment_contract(spec.data.source, facts.inputs[0])
    if test is not None:
        return contract_of(test, facts.inputs, settings.test_data if settings.names_test_set else spec.data.source)
    return contract_of_table(spec.data.table, facts.inputs[0]) if spec.data.table.columns else None


def _test_data(
    spec: RunSpec, test: Source | None, facts: ModelFacts, contract: InputContract | None
) -> DataFacts | None:
    """What clients' own data is compared with."""
    if test is None or spec.data.source != "client":
        return None
    return replace(facts_of(test, facts.inputs, facts.labels).comparable(facts.inputs), contract=contract)


def clients_evaluate(chosen: DataSpec, settings: ServerSettings) -> bool:
    """Do clients send what they hold out? Where the server has no test set of its own."""
    held_out = max(chosen.holdout, chosen.validation) > 0
    return chosen.source == "client" and held_out and not settings.names_test_set


def load_test(spec: RunSpec, settings: ServerSettings, facts: ModelFacts) -> Source | None:
    """The test set the settings name, or None where the clients evaluate; ConfigError for a share below one batch."""
    if settings.names_test_set:
        return data.load_own(
            settings.test_data, path=settings.test_path, options=settings.test_options, inputs=facts.inputs,
            labels=facts.labels, class_names=spec.data.class_names, table=spec.data.table,
            text=asked_of(spec, facts.inputs, settings.data_folder),
        )  # fmt: skip
    if spec.data.source == "client":
        return None
    text = asked_of(spec, facts.inputs, settings.data_folder)
    try:
        experiment = data.load_experiment(spec.data, spec.seed, settings.data_folder, text=text)
    except DataError:
        if settings.test_data == "none":
            return None  # the server needs no data: its clients have it
        raise
    data.check_source(experiment.train, facts.inputs, facts.labels)
    sizes = data.share_sizes(experiment, spec.data, spec.seed, spec.federation.clients)
    _check_shares(sizes, spec.method.batch_size)
    for reason in reuse_budget(spec, facts, settings.reuse_budget, sizes):
        raise ConfigError(reason)
    return None if settings.test_data == "none" else experiment.test


def _check_shares(sizes: Sequence[int], rows: int) -> None:
    small = [rank for rank, size in enumerate(sizes) if size < rows]
    if small:
        raise ConfigError(
            f"every client needs method.batch_size = {rows} samples, got {sizes[small[0]]} for rank {small[0]} "
            f"({len(small)} of {len(sizes)} clients have too few); lower method.batch_size or federation.clients, or "
            "raise data.alpha"
        )
