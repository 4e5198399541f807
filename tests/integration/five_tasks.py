"""examples/tasks as the tests run them: each kind's run file, cut short, and the files of its two clients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from heron_client.config import ClientSettings
from heron_core.config import load_tables
from heron_core.data import Source, load_own, split_holdout
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings, load_run_file
from heron_simulator.simulator import simulate

EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"
KINDS = ("classification", "regression", "multi_label", "per_pixel", "next_token")
CLIENTS = 2


def need_data(kind: str, patch: pytest.MonkeyPatch) -> None:
    """Sees to it that own_tasks can be imported and HERON_DATA holds the sentences, or skips the test."""
    pytest.importorskip("sklearn")
    patch.syspath_prepend(str(EXAMPLES))
    if kind != "next_token":
        return
    named = [Path(os.environ["HERON_DATA"])] if "HERON_DATA" in os.environ else []
    folders = [*named, EXAMPLES.parents[2] / "shared" / "data"]
    found = next((folder for folder in folders if (folder / "e2e" / "train.txt").is_file()), None)
    if found is None:
        pytest.skip(f"no e2e/train.txt in {' or '.join(map(str, folders))}")
    patch.setenv("HERON_DATA", str(found))


def client_file(kind: str, number: int) -> Path:
    return EXAMPLES / kind / f"client-{number}.toml"


def run_of(kind: str, *overrides: str) -> tuple[RunSpec, ServerSettings]:
    """Of the kind's run file."""
    return load_run_file(EXAMPLES / kind / "run.toml", list(overrides))


def clients_of(kind: str) -> list[dict[str, object]]:
    """Their files' tables."""
    return [load_tables(ClientSettings, client_file(kind, number)) for number in range(CLIENTS)]


def halves_of(spec: RunSpec, kind: str) -> list[tuple[Source, Source]]:
    """What each rank trains on and what it holds out, of the data that its file names."""
    model = build_split_model(spec.model)
    own = [
        load_own(
            f"own_tasks.{kind}:samples", path=None, options={"part": rank, "parts": CLIENTS}, inputs=model.inputs,
            labels=model.task.labels,
        )
        for rank in range(CLIENTS)
    ]  # fmt: skip
    return [split_holdout(source, spec.data.holdout, spec.seed, rank) for rank, source in enumerate(own)]


def simulated(kind: str, *overrides: str, run_dir: Path | None = None) -> dict[str, Any]:
    """The summary of the kind's run in the simulator."""
    spec, settings = run_of(kind, *overrides)
    return simulate(spec, settings=settings, client_settings=clients_of(kind), run_dir=run_dir).summary
