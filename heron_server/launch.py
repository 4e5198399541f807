"""What the commands do once their settings are read: run directory, display, run, final table."""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec
from heron_core.trust.addresses import is_loopback
from heron_server.beside import runs_beside, show_beside
from heron_server.config import ServerSettings
from heron_server.control import control_beside
from heron_server.display.choose import make_display
from heron_server.going_back import going_back
from heron_server.metrics.figures import Summary
from heron_server.run.failure import failing
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir, run_dir_of

INSECURE = (
    "heron-server: INSECURE: {} takes anybody who reaches it, and labels and activations pass it in plain text; "
    "certificates end that: heron-server certs init"
)

NO_DATA = (
    'data.source = "client": a control needs the data of all clients, which a server does not have; where they lie '
    "together: heron-simulate RUN.toml --control --client CLIENT.toml ..."
)


def run_server(
    spec: RunSpec, settings: ServerSettings, *, resume: bool, log_format: str, insecure: bool = False,
    resume_after: int | None = None, control: bool = False, compare: str = "",
) -> Summary:  # fmt: skip
    """Serves the run and prints the final table. `resume_after`: goes back to the checkpoint after so many rounds.

    `control`, and each method of `compare` (commas between them): simulates the same run with clients that never train,
    and with those methods: the control beside it where there is a core for that, the others once it is over.
    """
    others = runs_beside(spec, settings, control, compare)
    if others and spec.data.source == "client":
        raise ConfigError(NO_DATA)
    if insecure and not is_loopback(settings.address):
        print(INSECURE.format(settings.address), file=sys.stderr, flush=True)
    gc.freeze()  # what is loaded by now stays: a full collection would walk it for more than 0.1 s, within a round
    folder, resume = run_dir_of(spec, settings), resume or resume_after is not None
    display = make_display(log_format, sys.stdout)
    with control_beside(spec, others, settings, display) as controls:
        with failing(), going_back(folder, spec, resume_after):
            directory = RunDir(folder, settings.keep_checkpoints)
            try:
                told = [display, *controls]
                summary = serve(spec, settings, directory, resume=resume, observers=told, insecure=insecure)
            finally:
                directory.close()
        show_beside(summary, others, settings, log_format, controls=controls)
    return summary


def clear_run_dir(folder: Path) -> None:
    """Removes an earlier run; refuses a folder that is something else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "run.toml").exists() and not (folder / "lock").exists():
            raise ConfigError(f"{folder} is not empty and holds no Heron run; choose another --run-dir")
        RunDir(folder).close()  # raises where another server works in it
        shutil.rmtree(folder)
