"""A command of Heron's that stands still for ever at one place: `python held.py PLACE PACKAGE ARGUMENT...`.

It says "held" once it is there. So a test can send a signal at a place that a run only passes through.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def stand_still(*_: object, **__: object) -> Any:
    print("held", flush=True)
    threading.Event().wait()


def hold_in_the_first_rounds_checkpoint() -> None:
    """With the file written and not yet in its place."""
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if "round-000001" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            stand_still()
        fsync(descriptor)

    os.fsync = flush  # type: ignore[assignment]


def hold_in(module: str, owner: str, method: str) -> None:
    setattr(getattr(import_module(module), owner), method, stand_still)


WORKSPACE = "heron_client.compute.workspace"
PLACES: dict[tuple[str, str], Callable[[], None]] = {
    ("heron_server", "training"): lambda: hold_in("heron_server.training.trainer", "Trainer", "train"),
    ("heron_server", "evaluating"): lambda: hold_in("heron_server.training.trainer", "Trainer", "evaluate_upload"),
    ("heron_server", "committing"): hold_in_the_first_rounds_checkpoint,
    ("heron_client", "training"): lambda: hold_in(WORKSPACE, "Workspace", "local_round"),
    ("heron_client", "evaluating"): lambda: hold_in(WORKSPACE, "Workspace", "evaluation_uploads"),
}


if __name__ == "__main__":
    place, package = sys.argv[1:3]
    del sys.argv[1:3]
    PLACES[package, place]()
    runpy.run_module(package, run_name="__main__", alter_sys=True)
