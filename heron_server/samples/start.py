"""What a run begins with: the figures of the model before anybody trained it, and what it writes."""

from __future__ import annotations

from heron_core.models.split_model import AssembledModel
from heron_server.metrics.figures import Start
from heron_server.planning.checks import CheckedRun
from heron_server.samples.written import written_samples
from heron_server.training.trainer import Trainer


def start_of(trainer: Trainer, checked: CheckedRun, seed: int, count: int) -> Start:
    """Of a trainer that has not trained; nothing of it changes. `count`: texts to write."""
    counts, task = trainer.evaluate(), checked.model.task
    samples = []
    if count:
        parts = (checked.model.build(part, seed).to(checked.device).eval() for part in ("front", "back"))
        samples = written_samples(AssembledModel(*parts).eval(), checked.test, count)
    metrics = {metric.name: metric.value(*counts.measured[metric.name]) for metric in task.metrics}
    return {"loss": counts.loss_sum / max(1, counts.samples), "metrics": metrics, "samples": samples}


