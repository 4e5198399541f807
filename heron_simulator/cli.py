"""heron-simulate: one run, or a sweep of runs, in this process. Torch is imported only once it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heron_core.errors import ConfigError
from heron_core.process.console import EXIT_CODES
from heron_server.cli import Compare, Control, Format, From, LogFormat, Overrides, Resume, ResumeAfter, starting

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

HELP = f"""Run server and N clients in one process, over an in-process transport: the same bits as over gRPC.

With --sweep: many such runs, by a file that says what varies. Called again, it runs only what is missing.

{EXIT_CODES}"""


@app.command(help=HELP)
def simulate(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.toml", help="As for heron-server run; or --sweep.")
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="N: overrides federation.clients.")] = None,
    client_files: Annotated[
        list[Path] | None, typer.Option("--client", metavar="CLIENT.toml", help="One for all, or one for each.")
    ] = None,
    resume: Resume = False,
    resume_after: ResumeAfter = None,
    start_from: From = None,
    sweep: Annotated[
        Path | None, typer.Option(metavar="SWEEP.toml", help="Run what is missing of a sweep, and write its page.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs of a sweep at a time. Default: by cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder of a sweep. Default: docs/results/<name>.")] = None,
    control: Control = False,
    compare: Compare = "",
    overrides: Overrides = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Runs one simulation, or one sweep; raises ConfigError where the arguments name both or neither."""
    if run_file is not None and sweep is None:
        if jobs is not None or out is not None:
            raise ConfigError("--jobs and --out are for a sweep; where one run goes, --set server.run_dir=... says")
        from heron_simulator.command import run_simulation

        run_simulation(
            run_file, starting(start_from, overrides), clients, client_files or [], resume=resume,
            resume_after=resume_after, log_format=log_format.value, control=control, compare=compare,
        )  # fmt: skip
    elif sweep is not None and run_file is None:
        if clients is not None or client_files or resume or resume_after is not None or start_from is not None:
            raise ConfigError("--clients, --client, --resume, --resume-after and --from are for one run; a sweep's "
                              "file says what varies, and it always goes on where it was")  # fmt: skip
        from heron_simulator.sweep.command import run_sweep

        run_sweep(sweep, overrides or [], out, jobs)
    else:
        raise ConfigError("heron-simulate wants a run file, or --sweep and a sweep file: one of the two")
