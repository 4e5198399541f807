"""Runs to be planned, and the facts of their models."""

from __future__ import annotations

from functools import cache
from typing import Any

from heron_core.models import build_split_model
from heron_core.spec.run_spec import ModelSpec, RunSpec
from heron_server.planning.facts import ModelFacts
from heron_server.planning.measuring import measure_model

FRONT, HEAD = 75_840, 655_370
"""Parameters of the paper's client."""


def paper(**method: Any) -> RunSpec:
    """The paper's vision experiment: 20 rounds of one pass over 50,000 samples, here 39 whole batches a client."""
    return RunSpec.model_validate({
        "name": "paper", "rounds": 20, "federation": {"clients": 5}, "data": {"source": "client"},
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": "batch", "auxiliary": "flatten_linear"},
        "method": {"local_steps": 39, "batch_size": 256, **method},
    })  # fmt: skip


def digits(**tables: Any) -> RunSpec:
    """A run of few steps on the digits."""
    return RunSpec.model_validate({"name": "d", "method": {"local_steps": 4}, **tables})


def facts_of(spec: RunSpec) -> ModelFacts:
    return _measured(spec.model.model_dump_json(), spec.seed)


@cache
def _measured(model: str, seed: int) -> ModelFacts:
    return measure_model(build_split_model(ModelSpec.model_validate_json(model)), seed)
