"""The contract of a split model: what both sides of a run rely on and no signature says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.lint.lint import lint
from heron_core.models.registry import as_split_model, build_split_model
from heron_core.models.split_model import SplitModel, check_parts
from heron_core.spec.run_spec import ModelSpec
from heron_core.testing.report import Checks, Factory, Report, name_of
from heron_core.testing.split_models import parts, tasks
from heron_core.testing.split_models.built import Built
from heron_core.testing.split_models.random_state import other_random_state


def check_split_model(factory: Factory, *, options: Mapping[str, object] | None = None, seed: int = 0) -> Report:
    """Builds the model as a server and its clients would, and runs it on made-up batches.

    `factory` returns a SplitModel or a CutModule, or is its name `package.module:factory` (also a built-in family's);
    it is called with `options`. Raises ModelError, one line, for the first claim that does not hold.
    """
    with other_random_state():
        return _checked(Checks(name_of(factory), ModelError), partial(split_model, factory, options), seed)


def _checked(checks: Checks, make: Callable[[], SplitModel], seed: int) -> Report:
    model = checks.run("the factory makes a split model", make)
    built = checks.run("the parts can be built", lambda: Built(model, seed))
    claims = {
        "the parts fit, and keep the activations that they are given": lambda: check_parts(model, seed),
        "a second build from the same seed has the same bits": lambda: parts.check_second_build(built, make),
        "one sample is a batch too": lambda: parts.check_one_sample(built),
        "the front gives the same bits again": lambda: parts.check_repeats(built),
        "the state's names and sizes stay as they are": lambda: parts.check_names(built),
        "buffers that training changes are persistent": lambda: parts.check_buffers(built),
        "the label check and the metrics accept the task's own labels": lambda: tasks.check_labels(built),
        "losses are float32 and finite, one for each sample": lambda: tasks.check_losses(built),
        "head and back have gradients": lambda: tasks.check_gradients(built),
    }
    if any(spec.variable for spec in model.inputs):
        claims["shorter sequences than the longest are taken"] = lambda: tasks.check_short(built)
    for claim, check in claims.items():
        checks.run(claim, check)
    found = checks.run(
        "what moves is float32, outputs are no probabilities, and no sample depends on another in evaluation",
        lambda: lint(model, check_parts(model, seed), seed),
    )
    return checks.report(found.warnings)


def split_model(factory: Factory, options: Mapping[str, object] | None = None) -> SplitModel:
    """What the factory makes, cut if it is a CutModule. Raises ModelError; a factory's own errors come through."""
    if isinstance(factory, str):
        return build_split_model(ModelSpec(name=factory, options=dict(options or {})))
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(
            f"expected a function that returns a SplitModel or a CutModule, got a {type(factory).__name__}; "
            "hand over the function itself, without calling it"
        )
    return as_split_model(factory(**dict(options or {})), ModelSpec(name=name_of(factory)))[0]
