"""Records of rounds that no run has made."""

from __future__ import annotations

from typing import Any

from heron_server.metrics.figures import Judged, RoundRecord


def judged(name: str, value: float | None, *, higher: bool = True, share: bool = True) -> Judged:
    return {"name": name, "value": value, "higher_is_better": higher, "is_share": share}


def round_record(number: int, accuracy: float | None = 0.8412, **changes: Any) -> RoundRecord:
    """An evaluated round of three clients, but for the changes."""
    record: RoundRecord = {
        "round": number, "accuracy": accuracy, "loss": 0.4123, "wall_s": 12.0, "participants": 3, "dropped": 0,
        "dropped_reasons": {}, "auxiliary_accuracy": 0.5, "majority_accuracy": 0.102, "client_loss": 2.0,
        "client_loss_first": 2.5, "client_loss_last": 1.5, "server_loss": 0.5, "quarantined": 0, "wire_bytes": 0,
        "metric": judged("accuracy", accuracy),
        "metrics": {"accuracy": accuracy}, "auxiliary_metrics": {"accuracy": 0.5},
        "trained_accuracy": None, "trained_metrics": {},
    }  # fmt: skip
    return {**record, **changes}  # type: ignore[typeddict-item]
