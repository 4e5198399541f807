"""`heron-server validate`: what a run will do and cost, counted without running it."""

from __future__ import annotations

from heron_core import data
from heron_core.data.sources.text import asked_of
from heron_core.errors import DataError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.checks import check_run
from heron_server.planning.client_state import perturbed
from heron_server.planning.facts import ModelFacts
from heron_server.planning.perturbation import perturbation
from heron_server.planning.sections.data import data_section, evaluator
from heron_server.planning.sections.disk import disk_section, kept_samples, server_disk
from heron_server.planning.sections.local_step import local_step_section
from heron_server.planning.sections.model import model_section
from heron_server.planning.sections.server import memory_section, server_section
from heron_server.planning.sections.traffic import traffic_section
from heron_server.planning.warnings.settings import (
    file_warnings,
    method_warnings,
    model_warnings,
    server_warnings,
    share_warnings,
)
from heron_server.text.tables import Section, plain_text


def describe(spec: RunSpec, settings: ServerSettings) -> str:
    """The plan as text; raises ConfigError, ModelError or DataError where the run itself would."""
    return plain_text(plan_sections(spec, settings))


def plan_sections(spec: RunSpec, settings: ServerSettings) -> list[Section]:
    """Model, compute, traffic, server, data, and what to be careful about."""
    checked, method, rounds = check_run(spec, settings), spec.method, spec.rounds
    facts = checked.facts
    moving = sum(parameter.size for parameter in perturbed(method, facts))
    change = perturbation(method.zo, moving, method.batch_size, facts.labels.count)
    sizes, missing = share_sizes_of(spec, settings, facts)
    skewed = checked.long_rounds.warning(checked.long_rounds.counts) if checked.long_rounds else ""
    evaluated_by = evaluator(spec.data, checked.test)
    warnings = [
        *method_warnings(method, rounds, facts, change),
        *model_warnings(spec.model, facts),
        *file_warnings(spec.data),
        *(share_warnings(method, sizes) if sizes else ()),
        *([missing] if missing else ()),
        *([skewed] if skewed else ()),
        *server_warnings(settings, evaluated_by is not None),
    ]
    kept = kept_samples(spec, facts, settings.reuse_budget, sizes)
    return [
        model_section(spec.name, spec.model, method, facts),
        local_step_section(method, rounds, facts, change),
        traffic_section(spec, facts, sizes),
        server_section(spec, settings, checked, evaluated_by),
        memory_section(checked.memory, settings.memory_limit),
        disk_section([*server_disk(spec, facts, checked.memory, settings.keep_checkpoints), *kept]),
        data_section(spec.data, sizes, checked.test, facts.labels.classes),
        Section("Warnings", text=warnings or ["none"]),
    ]


def share_sizes_of(spec: RunSpec, settings: ServerSettings, facts: ModelFacts) -> tuple[list[int], str]:
    """Samples by rank, or none and why: a server without test set need not have the clients' data."""
    if spec.data.source == "client":
        return [], ""
    try:
        text = asked_of(spec, facts.inputs, settings.data_folder)
        experiment = data.load_experiment(spec.data, spec.seed, settings.data_folder, text=text)
    except DataError as error:
        return [], f"the clients' shares are not checked here: {error}"
    return data.share_sizes(experiment, spec.data, spec.seed, spec.federation.clients), ""
