"""A process that makes instrumented runs, one for each line on its stdin: {"scenario", "point", "errno"} in, the run's
outcome out. It ends, with every thread's stack on stderr, where a run takes longer than DEADLINE_S."""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hook

DEADLINE_S = 20.0
"""Far beyond every deadline of the runs (tiny_run.IMPATIENT), for a busy machine."""


def trial(faults: hook.Faults, scenario: str, point: str | None, with_errno: int, first_round: Path) -> dict[str, Any]:
    """One run with one exception at `point`."""
    import tiny_run

    with tempfile.TemporaryDirectory(prefix="heron-fault-") as name:
        folder, kind = Path(name), tiny_run.SCENARIOS[scenario]
        if kind.resumes:
            shutil.copytree(first_round, folder, dirs_exist_ok=True)
        error = OSError(with_errno, os.strerror(with_errno)) if with_errno else RuntimeError("injected")
        faults.arm(point, error)
        faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
        outcome = asdict(tiny_run.run(kind, folder))
        faulthandler.cancel_dump_traceback_later()
        reached = sorted(faults.reached) if point is None else []
        return {**outcome, "raised": faults.raised, "reached": reached, "nothing": sorted(faults.nothing)}


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    answers = sys.stdout
    faults = hook.install()
    import tiny_run

    tiny_run.be_impatient()
    with tempfile.TemporaryDirectory(prefix="heron-first-") as name:
        first_round = Path(name)
        tiny_run.first_round(first_round)
        for line in sys.stdin:
            asked = json.loads(line)
            with_errno = getattr(errno, asked["errno"]) if asked["errno"] else 0
            print(json.dumps(trial(faults, asked["scenario"], asked["point"], with_errno, first_round)), file=answers)
            answers.flush()


if __name__ == "__main__":
    main()
