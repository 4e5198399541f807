"""What the data must be for the task, and who evaluates on what.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heron_core.class_names import listed
from heron_core.spec.data import DataSpec
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.facts import ModelFacts


def task(chosen: DataSpec, method: MethodSpec, test_data: str, facts: ModelFacts) -> Iterator[str]:
    """One sentence for each that is broken. `test_data`: as in the server's settings."""
    if chosen.source != "client":
        yield from _built_in(chosen, facts)
    if test_data not in ("auto", "none") and ":" not in test_data and len(facts.inputs) > 1:
        yield (
            f'server.test_data = "{test_data}" gives one input, the model takes {len(facts.inputs)} '
            f"({_names(facts)}); name a package.module:factory"
        )
    if test_data == "image_folder" and not facts.labels.classes:
        yield (
            f'server.test_data = "image_folder" gives a class for each image, the task {facts.task} wants labels '
            f"{facts.labels}; name a package.module:factory"
        )
    varying = [spec.name for spec in facts.activations if spec.variable]
    if varying and method_of(method).head == "aligned":
        asked = 'auxiliary_update = "aligned"' if method.name == "heron" else f'name = "{method.name}"'
        yield (
            f"method.{asked} aligns heads over uploads of one shape, and {', '.join(varying)} at the cut varies in "
            "length; take another method, or pad every sample to one length"
        )


def class_names(names: Sequence[str], facts: ModelFacts) -> Iterator[str]:
    """As many as the model has classes, where the task has classes."""
    classes = facts.labels.classes
    if names and not classes:
        yield f"data.class_names is for tasks whose label is one class, {facts.task} wants {facts.labels}; remove it"
    elif names and len(names) != classes:
        yield (
            f"data.class_names must name the model's {classes} classes in the order of their labels, got {len(names)} "
            f"({listed(names)}); mend it, or model.classes"
        )


def _built_in(chosen: DataSpec, facts: ModelFacts) -> Iterator[str]:
    """Experiment data: one image a sample, with its class; of arrays, whatever the file holds."""
    whose = f'data.source = "{chosen.source}"'
    own = 'bring data of your own with data.source = "client"'
    arrays = chosen.source == "arrays"
    if chosen.source in ("e2e", "restaurants"):
        yield from _text(whose, facts)
    elif len(facts.inputs) > 1 or facts.inputs[0].dtype not in ("float32", *(["int64"] if arrays else [])):
        described = ", ".join(f"{spec.name} {spec}" for spec in facts.inputs)
        gives = "float32 or int64 array" if arrays else "float32 image"
        yield f"{whose} gives one {gives} a sample, the model takes {described}; {own}"
    if facts.labels.classes:
        return
    if chosen.partition in ("dirichlet", "shards"):
        yield (
            f'data.partition = "{chosen.partition}" divides samples by class, and a label of the task {facts.task} is '
            f'none ({facts.labels}); take "iid"'
        )
    if chosen.source in ("digits", "cifar10"):
        yield f"{whose} gives a class for each image, the task {facts.task} wants labels {facts.labels}; {own}"


def _text(whose: str, facts: ModelFacts) -> Iterator[str]:
    """Tokens, and the token that follows each."""
    fits = len(facts.inputs) == 1 and facts.inputs[0].dtype == "int64" and facts.inputs[0].variable
    if not fits or not (facts.labels.variable and facts.labels.maskable):
        described = ", ".join(f"{spec.name} {spec}" for spec in facts.inputs)
        yield (
            f"{whose} is text, and a sample of it tokens with the token that follows each; the model takes {described} "
            f"with labels {facts.labels}; take a language model"
        )


def _names(facts: ModelFacts) -> str:
    return ", ".join(spec.name for spec in facts.inputs)


def evaluation(validation: float, settings: ServerSettings) -> Iterator[str]:
    """One test set, not two."""
    if validation and settings.names_test_set:
        yield (
            f"data.validation = {validation:g} sets training samples apart for evaluation, but "
            f'server.test_data = "{settings.test_data}" names another test set; remove one of the two'
        )


def evaluations(spec: RunSpec, settings: ServerSettings) -> Iterator[str]:
    """Rare ones: one falls within the run, and somebody evaluates."""
    every, chosen = spec.evaluate_every, spec.data
    by_clients = chosen.source == "client" and max(chosen.holdout, chosen.validation) > 0
    by_server = settings.names_test_set or (chosen.source != "client" and settings.test_data != "none")
    if every > spec.rounds:
        yield (
            f"evaluate_every = {every} is more than rounds = {spec.rounds}: no evaluation would fall within the run "
            "but the one after its last round, which there is anyway; lower it"
        )
    if settings.evaluate_start and not by_server:
        yield (
            "server.evaluate_start evaluates on the server's own test set, and there is none; set server.test_data, or "
            "remove it"
        )
    if every > 1 and not by_clients and not by_server:
        yield (
            f"evaluate_every = {every}, and nobody evaluates; remove it, or set server.test_data, or data.holdout with "
            'data.source = "client"'
        )


def holdout(chosen: DataSpec) -> Iterator[str]:
    """Of clients that evaluate on what they hold out."""
    table, by_sample = chosen.table, chosen.holdout_by == "sample"
    if chosen.holdout and table.overlaps and by_sample:
        yield (
            f"with data.table.step = {table.step} windows of {table.window} rows share some, and what a client holds "
            'out would share them with what it learns from; set data.holdout_by = "group" with data.table.group, or '
            f"data.table.step = {table.window}"
        )
    if chosen.holdout and table.columns and not by_sample and not table.group:
        yield (
            'data.holdout_by = "group" holds out whole groups, and no column says whose a row is; set '
            "data.table.group, or hold out by sample"
        )
