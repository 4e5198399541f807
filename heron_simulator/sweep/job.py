"""One run of a sweep, in a process of its own: `python -m heron_simulator.sweep.job FOLDER`.

Reads FOLDER/job.json, writes FOLDER/row.json. It ends when its standard input does: no run outlives its sweep.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from heron_core.errors import HeronError
from heron_core.process.signals import end_with_parent
from heron_simulator.sweep.store import Row

if TYPE_CHECKING:  # these import torch, which is loaded only once the parent is watched
    from heron_server.metrics.figures import Summary
    from heron_simulator.network_model import Figures


def main(folder: Path) -> None:
    """Reads the job, performs it and writes its row; a HeronError becomes a row that says why it failed."""
    end_with_parent()
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    try:
        row: Row = perform(job)
    except HeronError as error:
        row = {"failed": str(error)}
    (folder / "row.json").write_text(json.dumps(row), encoding="utf-8")


def perform(job: Mapping[str, object]) -> Row:
    """The row's figures; raises what the run raises."""
    from pydantic import TypeAdapter

    from heron_core.spec.run_spec import RunSpec
    from heron_server.config import ServerSettings
    from heron_simulator.conditions import Conditions
    from heron_simulator.settings import SimulateSettings
    from heron_simulator.simulator import simulate
    from heron_simulator.sweep.file import Tables

    spec, server = RunSpec.model_validate(job["spec"]), ServerSettings.model_validate(job["server"])
    conditions = Conditions(spec, SimulateSettings.model_validate(job["simulate"]))
    began = perf_counter()
    clients = TypeAdapter(list[Tables]).validate_python(job["clients"])
    found = simulate(
        spec, settings=server, client_settings=clients if len(clients) > 1 else dict(*clients), around=conditions.around
    )
    wall_s = perf_counter() - began
    network = conditions.figures(found.facts, server.byte_budget)
    return row_of(found.summary, spec.federation.clients, network, wall_s)


def row_of(summary: Summary, clients: int, network: Figures, wall_s: float) -> Row:
    """A summary's figures as one flat row; bytes of the whole run but where the name says otherwise."""
    ledger, step, history = summary["ledger"], summary["client_step"], summary["history"]
    rounds = max(1, summary["rounds_done"])
    messages = network.messages_up + network.messages_down
    wire = ledger["wire_up"] + ledger["wire_down"]
    return {
        "method": summary["method"],
        "metric": summary["metric"]["value"],
        "metric_name": summary["metric"]["name"],
        "higher_is_better": int(summary["metric"]["higher_is_better"]),
        "accuracy": summary["accuracy"],
        "best_accuracy": max((r["accuracy"] for r in history if r["accuracy"] is not None), default=None),
        "trained_accuracy": summary["trained_accuracy"],
        "auxiliary_accuracy": summary["auxiliary_accuracy"],
        "majority_accuracy": summary["majority_accuracy"],
        "loss": summary["loss"],
        "rounds": summary["rounds_done"],
        "clients": clients,
        "participants": sum(r["participants"] for r in history) / rounds,
        "dropped": sum(r["dropped"] for r in history),
        "bytes_up": ledger["wire_up"],
        "bytes_down": ledger["wire_down"],
        "bytes_total": wire,
        "bytes_per_round": wire / rounds,
        "paper_bytes": summary["ledger_paper"]["total"],
        "paper_bytes_per_round": summary["ledger_paper"]["total"] / rounds,
        "activation_bytes": ledger["activations_up"],
        "messages_up": network.messages_up,
        "messages_down": network.messages_down,
        "messages_per_round": messages / rounds,
        "passes_per_step": step["forward_passes"],
        "step_macs": step["macs"],
        "network_s": sum(network.round_s),
        "network_s_per_round": sum(network.round_s) / max(1, len(network.round_s)),
        "step_seconds": step["seconds_median"],
        "wall_s": wall_s,
        "accuracy_by_round": " ".join(str(r["accuracy"]) for r in history),
        "bytes_by_round": " ".join(str(r.get("wire_bytes")) for r in history),
        "model_sha256": summary["model_sha256"],
        "failed": "",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
