"""What `heron-simulate RUN.toml` does: settings, one simulated run, the network's seconds, the final table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from heron_client.config import ClientSettings
from heron_core.config import load_tables
from heron_server.beside import runs_beside, show_beside
from heron_server.config import load_run_file
from heron_server.control import control_beside
from heron_server.display.choose import make_display
from heron_server.going_back import going_back
from heron_server.storage.run_dir import run_dir_of
from heron_server.text.units import seconds_text
from heron_simulator.conditions import Conditions
from heron_simulator.settings import NetworkSettings, load_simulate_settings
from heron_simulator.simulator import simulate, with_clients


def run_simulation(
    run_file: Path, overrides: Sequence[str], clients: int | None, client_files: Sequence[Path], *, resume: bool,
    log_format: str, resume_after: int | None = None, control: bool = False, compare: str = "",
) -> None:  # fmt: skip
    """Simulates the file's run and prints the final table; raises the HeronError that ended it.

    `clients` overrides federation.clients. One client file serves all clients, several serve one each. `control`, and
    each method of `compare` (commas between them): the same run with clients that never train, and with those methods.
    """
    wanted = load_simulate_settings(run_file, overrides)
    spec, settings = load_run_file(run_file, list(overrides))
    if clients is not None:
        spec = with_clients(spec, clients)
    conditions = Conditions(spec, wanted)
    tables = [{"backend": wanted.backend, **load_tables(ClientSettings, path)} for path in client_files]
    others = runs_beside(spec, settings, control, compare)
    folder, resume = run_dir_of(spec, settings), resume or resume_after is not None
    display, conditions_beside = make_display(log_format, sys.stdout), wanted.model_dump(mode="json")
    with control_beside(spec, others, settings, display, conditions_beside, client_files) as controls:
        with going_back(folder, spec, resume_after):
            result = simulate(
                spec, settings=settings, run_dir=folder, resume=resume,
                client_settings=tables if len(tables) > 1 else dict(*tables or [{"backend": wanted.backend}]),
                observers=[display, *controls], around=conditions.around,
            )  # fmt: skip
        if wanted.network != NetworkSettings() and log_format == "text":
            print(network_line(conditions.figures(result.facts, settings.byte_budget).round_s))
        show_beside(
            result.summary, others, settings, log_format, simulate=conditions_beside, client_files=client_files,
            controls=controls,
        )  # fmt: skip


def network_line(round_s: Sequence[float]) -> str:
    """Seconds of the whole run and of a round on the virtual clock, for people."""
    whole_s = sum(round_s)
    each = seconds_text(whole_s / max(1, len(round_s)))
    return f"over the network of [simulate]: {seconds_text(whole_s)} in all, {each} a round"
