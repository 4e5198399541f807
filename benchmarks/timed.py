"""Runs one of Heron's commands and notes at the end of each round where its CPU went: steps, evaluation, all.

    python timed.py OUT.json heron_server|heron_client WORDS...

Steps are measured in CPU seconds of the thread that computes them, so that processes which share cores are not charged
for each other. A server writes the moments at which its rounds ended, too.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SPENT = {"steps": 0.0, "evaluation": 0.0, "aggregation": 0.0, "storing": 0.0}
"""CPU seconds since the start of the process."""
OUT = Path(sys.argv[1]).open("w", buffering=1)  # noqa: SIM115


def spends(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[what] += time.thread_time() - began

    return timed


def round_over() -> None:
    """A line: the moment, the CPU seconds of the process, and what they went into."""
    print(json.dumps({"at": time.monotonic(), "all": time.process_time(), **SPENT}), file=OUT)


def measure_server() -> None:
    from heron_server.run.checkpoints import Checkpoints
    from heron_server.run.journal import Journal
    from heron_server.run.phases import make
    from heron_server.training.trainer import Trainer

    committed = Journal.committed

    def over(self: Journal) -> None:
        round_over()
        committed(self)

    for cls, name, what in (
        (Trainer, "train", "steps"), (Trainer, "train_mixed", "steps"), (Trainer, "evaluate", "evaluation"),
        (Checkpoints, "commit", "storing"), (make, "aggregate", "aggregation"),
    ):  # fmt: skip
        setattr(cls, name, spends(what, getattr(cls, name)))
    Journal.committed = over  # type: ignore[method-assign]


def measure_client() -> None:
    from heron_client.compute import local_round

    local_round.time = SimpleNamespace(perf_counter=time.thread_time)  # type: ignore[attr-defined]
    update = local_round.LocalRound.update

    def over(self: Any) -> Any:
        SPENT["steps"] += sum(self.figures.step_seconds)
        round_over()
        return update(self)

    local_round.LocalRound.update = over  # type: ignore[method-assign]


def main() -> None:
    package, *words = sys.argv[2:]
    (measure_server if package == "heron_server" else measure_client)()
    sys.argv = [package, *words]
    command = importlib.import_module(f"{package}.__main__").main
    command()


if __name__ == "__main__":
    main()
