"""The run's figures as they come in: one record a round, and the summary at the end. Saved with each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from heron_core.measures import Measured, Metric
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.software import UNSAID
from heron_server.metrics.best import best_round
from heron_server.metrics.counts import Counts
from heron_server.metrics.figures import ClientRecord, Evaluation, Judged, Repeated, RoundRecord, SavedRecords, Summary

SUMMARY_SCHEMA = 1
MOST_FIGURES = 10_000
"""Of each kind that a median is taken of: each checkpoint holds them all, and would be larger with each round."""

NONE_REPEATED: Repeated = {"rounds": 0, "wire_up": 0, "wire_down": 0}


class Records:
    """Collects what the clients measured and what the server counted."""

    def __init__(self, spec: RunSpec, metrics: Sequence[Metric]) -> None:
        self._spec, self._metrics = spec, metrics
        self.history: list[RoundRecord] = []
        self.clients: dict[str, ClientRecord] = {}
        """The last figures of each client by name."""
        self.backends: dict[str, str] = {}
        """Where each client says that its model runs, by name."""
        self.server_loss: float | None = None
        """Mean over the last round's uploads; None where there were none."""
        self.quarantined = 0
        """Of the last round's uploads."""
        self.wire_bytes = 0
        """Both ways, from the run's beginning to the end of the last round."""
        self.repeated = NONE_REPEATED
        self._step_seconds: list[float] = []
        self._peaks: list[int] = []
        self._passes_per_step: float = 0.0
        self._began = 0.0
        self._round_figures: dict[str, pb.ClientFigures] = {}
        self._dropped: dict[str, str] = {}

    def round_began(self, now: float) -> None:
        """A round, or an abandoned one once more; `now` in seconds."""
        self._began = now
        self._round_figures, self._dropped = {}, {}

    def dropped(self, name: str, reason: str) -> None:
        """A client is out of the round."""
        self._dropped[name] = reason

    def client_figures(self, name: str, figures: pb.ClientFigures) -> None:
        """What a client measured in its local round; checked for plausibility only by being shown."""
        self._round_figures[name] = figures
        self._passes_per_step = figures.forward_passes / self._spec.method.local_steps
        self.clients[name] = {
            "step_seconds_median": figures.step_seconds_median,
            "peak_bytes": figures.peak_bytes or None,
            "loaded_bytes": figures.loaded_bytes or None,
            "pss_bytes": figures.pss_bytes or None,
            "class_histogram": list(figures.class_histogram),
            "backend": self.backends.get(name, UNSAID),
        }

    def round_done(self, number: int, names: list[str], counts: Counts, now: float) -> RoundRecord:
        """The round's record, appended to the history."""
        figures = [self._round_figures[name] for name in names if name in self._round_figures]
        self._step_seconds += [f.step_seconds_median for f in figures]
        self._peaks += [f.peak_bytes for f in figures if f.peak_bytes]
        del self._step_seconds[:-MOST_FIGURES], self._peaks[:-MOST_FIGURES]
        found = self._evaluation(counts)
        record: RoundRecord = {
            "round": number,
            "accuracy": found["accuracy"],
            "trained_accuracy": found["trained_accuracy"],
            "loss": found["loss"],
            "wall_s": now - self._began,
            "participants": len(names),
            "dropped": len(self._dropped),
            "dropped_reasons": dict(self._dropped),
            "auxiliary_accuracy": found["auxiliary_accuracy"],
            "majority_accuracy": found["majority_accuracy"],
            "client_loss": _mean([f.mean_loss for f in figures]),
            "client_loss_first": _mean([f.first_loss for f in figures]),
            "client_loss_last": _mean([f.last_loss for f in figures]),
            "server_loss": self.server_loss,
            "samples": counts.samples,
            "quarantined": self.quarantined,
            "wire_bytes": self.wire_bytes,
            "metric": found["metric"],
            "metrics": found["metrics"],
            "auxiliary_metrics": found["auxiliary_metrics"],
            "trained_metrics": found["trained_metrics"],
        }
        self.history.append(record)
        return record

    def _evaluation(self, counts: Counts) -> Evaluation:
        samples = counts.samples
        measured, auxiliary = self._values(counts.measured), self._values(counts.auxiliary)
        trained = self._values(counts.trained)
        return {
            "accuracy": measured.get("accuracy"),
            "trained_accuracy": trained.get("accuracy"),
            "auxiliary_accuracy": auxiliary.get("accuracy"),
            "majority_accuracy": max(counts.class_counts) / samples if samples and counts.class_counts else None,
            "loss": counts.loss_sum / samples if samples else None,
            "metric": self._judged(measured),
            "metrics": measured,
            "auxiliary_metrics": auxiliary,
            "trained_metrics": trained,
        }

    def _judged(self, measured: Mapping[str, float | None]) -> Judged:
        """The figure that judges the run, and which way is better."""
        metric = self._metrics[0]
        return {
            "name": metric.name, "value": measured.get(metric.name), "higher_is_better": metric.higher_is_better,
            "is_share": metric.is_share,
        }  # fmt: skip

    def _values(self, measured: Measured) -> dict[str, float | None]:
        """Each metric's value, where it was measured."""
        return {m.name: m.value(*measured[m.name]) for m in self._metrics if m.name in measured}

    def as_dict(self) -> SavedRecords:
        """What a checkpoint keeps: copies, to which nothing is added any more."""
        saved: SavedRecords = {
            "history": list(self.history), "clients": dict(self.clients), "step_seconds": list(self._step_seconds),
            "peaks": list(self._peaks), "passes_per_step": self._passes_per_step,
        }  # fmt: skip
        return {**saved, "repeated": self.repeated} if self.repeated["rounds"] else saved

    def restore(self, saved: SavedRecords) -> None:
        """The inverse of `as_dict`."""
        self.history, self.clients = saved["history"], saved["clients"]
        self._step_seconds, self._peaks = saved["step_seconds"], saved["peaks"]
        self._passes_per_step = saved["passes_per_step"]
        self.repeated = saved.get("repeated", NONE_REPEATED)

    def summary(
        self, run_id: str, clients: int, model_sha256: str, ledger: dict[str, int], ledger_paper: dict[str, int],
        macs: int, macs_paper: int,
    ) -> Summary:  # fmt: skip
        """The run so far, judged by its last round."""
        last: Evaluation = self.history[-1] if self.history else self._evaluation(Counts())
        return {
            "schema": SUMMARY_SCHEMA,
            "run_id": run_id,
            "method": self._spec.method.name,
            "model": self._spec.model.name,
            "rounds": self._spec.rounds,
            "rounds_done": len(self.history),
            "best_round": best_round(self.history, range(1, len(self.history) + 1)),
            "clients": clients,
            "accuracy": last["accuracy"],
            "trained_accuracy": last["trained_accuracy"],
            "loss": last["loss"],
            "majority_accuracy": last["majority_accuracy"],
            "auxiliary_accuracy": last["auxiliary_accuracy"],
            "metric": last["metric"],
            "metrics": last["metrics"],
            "auxiliary_metrics": last["auxiliary_metrics"],
            "trained_metrics": last["trained_metrics"],
            "wall_s": sum(record["wall_s"] for record in self.history),
            "model_sha256": model_sha256,
            "ledger": ledger,
            "repeated": self.repeated,
            "ledger_paper": ledger_paper,
            "client_step": {
                "forward_passes": self._passes_per_step,
                "seconds_median": median(self._step_seconds) if self._step_seconds else None,
                "peak_bytes_median": int(median(self._peaks)) if self._peaks else None,
                "macs": macs,
                "macs_paper": macs_paper,
            },
            "per_client": self.clients,
            "history": self.history,
        }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
