"""The task of a family whose output is one vector for each sample."""

from __future__ import annotations

from heron_core.errors import ModelError
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.multi_label import MultiLabel
from heron_core.models.tasks.regression import Regression
from heron_core.models.tasks.task import Task
from heron_core.spec.run_spec import ModelSpec


def vector_task(spec: ModelSpec) -> Task:
    """By model.task and model.classes: 10 classes, or 10 labels, or 1 value, where classes is 0.

    ModelError for a task that wants more than a vector.
    """
    match spec.task:
        case "" | "classification":
            return Classification(spec.classes or 10)
        case "multi_label":
            return MultiLabel(spec.classes or 10)
        case "regression":
            return Regression(spec.classes or 1)
    raise ModelError(
        f'{spec.name} gives one vector for each sample, which model.task = "{spec.task}" cannot use; take '
        '"classification", "regression" or "multi_label", or your own model as package.module:factory'
    )
