"""What the commands do once their settings are read: run directory, display, run, final table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron_core.config import load_toml
from heron_core.errors import ConfigError
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.display.plain import make_display
from heron_server.display.report import print_final_table
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir
from heron_server.text.units import seconds_text
from heron_simulator.conditions import Conditions
from heron_simulator.settings import NetworkSettings, SimulateSettings
from heron_simulator.simulator import simulate, with_clients


def run_dir_of(spec: RunSpec, settings: ServerSettings) -> Path:
    return settings.run_dir or Path("runs") / spec.name


def run_server(spec: RunSpec, settings: ServerSettings, *, resume: bool, log_format: str) -> dict[str, Any]:
    """Serves the run and prints the final table."""
    directory = RunDir(run_dir_of(spec, settings), settings.keep_checkpoints)
    try:
        with make_display(log_format, sys.stdout) as display:
            summary = serve(spec, settings, directory, resume=resume, observer=display)
    finally:
        directory.close()
    show([summary], log_format)
    return summary


def run_simulation(
    spec: RunSpec,
    settings: ServerSettings,
    clients: int | None,
    client_files: Sequence[Path],
    *,
    resume: bool,
    log_format: str,
    conditions: SimulateSettings,
) -> None:
    """Simulates the run and prints the final table. One client file serves all clients, several serve one each."""
    if clients is not None:
        spec = with_clients(spec, clients)
    around = Conditions(spec, conditions)
    tables = [client_tables(path) for path in client_files]
    with make_display(log_format, sys.stdout) as display:
        result = simulate(
            spec, settings=settings, client_settings=tables if len(tables) > 1 else dict(*tables),
            run_dir=run_dir_of(spec, settings), resume=resume, observer=display, around=around.around,
        )  # fmt: skip
    if conditions.network != NetworkSettings() and log_format == "text":
        model = build_split_model(spec.model, data_folder=settings.data_folder)
        network = around.figures(model, settings.byte_budget)
        print(f"over the network of [simulate]: {seconds_text(sum(network.round_s))} in all, "
              f"{seconds_text(sum(network.round_s) / max(1, len(network.round_s)))} a round")  # fmt: skip
    show([result.summary], log_format)


def client_tables(path: Path) -> dict[str, Any]:
    """A client file's tables, not yet checked; its python_path is relative to it."""
    tables = load_toml(path)
    if isinstance(folders := tables.get("python_path"), list):
        tables["python_path"] = [str((path.parent / str(folder)).resolve()) for folder in folders]
    return tables


def show(summaries: list[dict[str, Any]], log_format: str) -> None:
    if log_format == "text":
        print_final_table(summaries, sys.stdout)


def clear_run_dir(folder: Path) -> None:
    """Removes an earlier run; refuses a folder that is something else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "run.toml").exists() and not (folder / "lock").exists():
            raise ConfigError(f"{folder} is not empty and holds no Heron run; choose another --run-dir")
        RunDir(folder).close()  # raises where another server works in it
        shutil.rmtree(folder)
