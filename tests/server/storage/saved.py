"""Checkpoints as tests save them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from heron_core.arrays import Array
from heron_server.metrics.figures import RoundRecord
from heron_server.metrics.ledger import Ledger
from heron_server.storage.checkpoint import Checkpoint
from heron_server.storage.facts import Facts


def record(number: int, value: float | None = None, *, higher_is_better: bool = True) -> RoundRecord:
    """A round that the figure `value` judges."""
    judged: Any = {"name": "accuracy", "value": value, "higher_is_better": higher_is_better, "is_share": True}
    return {
        "round": number, "accuracy": value, "loss": None, "wall_s": 0.0, "participants": 2, "dropped": 0,
        "dropped_reasons": {}, "auxiliary_accuracy": None, "majority_accuracy": None, "client_loss": None,
        "client_loss_first": None, "client_loss_last": None, "server_loss": None, "quarantined": 0, "wire_bytes": 0,
        "metric": judged, "metrics": {}, "auxiliary_metrics": {}, "trained_accuracy": None, "trained_metrics": {},
    }  # fmt: skip


def facts(rounds_done: int, run_id: str = "r", history: list[RoundRecord] | None = None) -> Facts:
    return {
        "run_id": run_id, "rounds_done": rounds_done, "table": {"a": 0}, "owners": {"a": "00"},
        "ledger": Ledger(control=1).as_dict(), "class_names": ["apfel"],
        "records": {
            "history": history or [], "clients": {}, "step_seconds": [0.5], "peaks": [7], "passes_per_step": math.nan,
        },
    }  # fmt: skip


def a_checkpoint(rounds_done: int = 0, run_id: str = "r", history: list[RoundRecord] | None = None) -> Checkpoint:
    tensors: dict[str, Array] = {
        "client.front.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T + rounds_done,
        "client.tracked": np.array(rounds_done, dtype=np.int64),
        "optimizer.0.step": np.array(2.0, dtype=np.float32),
        "back.empty": np.empty((0, 3), dtype=np.float32),
        "back.flag": np.array([True, False]),
        "back.half": np.array([1.5, -2], dtype=np.float16),
    }
    return Checkpoint(facts(rounds_done, run_id, history), tensors)
