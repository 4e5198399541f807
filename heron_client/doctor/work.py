"""The run's work on this machine: `check`'s own tests, and whether there is memory for it."""

from __future__ import annotations

from collections.abc import Iterator

from heron_client.doctor.visit import Visit
from heron_core.doctor.examination import Finding, ok, warning
from heron_core.doctor.machine import memory


def model(visit: Visit) -> Iterator[Finding]:
    """Can the client's parts be built? Raises ModelError or ConfigError."""
    yield ok(visit.trial.model)
    yield from map(warning, visit.trial.warnings)
    yield ok(visit.trial.task)


def data(visit: Visit) -> Iterator[Finding]:
    """Does the data load, and fit the model? Raises DataError."""
    yield ok(visit.trial.load_data())
    if visit.trial.facts is not None:
        for text in visit.compared(visit.trial.facts):
            yield warning(text)


def one_step(visit: Visit) -> Iterator[Finding]:
    """What does a local step cost here, and is there memory for it? Raises DataError or ConfigError."""
    step = visit.trial.step()
    yield ok(str(step))
    needed = step.loaded_bytes + step.above_loaded_bytes
    yield from memory(needed, "the client at work", "lower method.micro_batch, or take a machine with more")
