"""heron-simulate: one run in this process, its learning rates, or a sweep. Torch is imported only once it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heron_core.errors import ConfigError
from heron_core.process.console import EXIT_CODES
from heron_server.cli import Compare, Control, Format, From, LogFormat, Overrides, Resume, ResumeAfter, starting

NOT_FOR_A_SWEEP = (
    "--clients, --client, --resume, --resume-after, --from, --control, --compare, --tune and --seeds are for one run; "
    "a sweep's file says what varies, and it always goes on where it was"
)
NOT_FOR_ONE_RUN = (
    "--jobs, --out and --seeds are for a sweep or --tune; where one run goes, --set server.run_dir=... says"
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

HELP = f"""Run server and N clients in one process, over an in-process transport: the same bits as over gRPC.

With --tune: many such runs, to find learning rates for it, for the methods of --compare and, as hard, for its control.
With --sweep: many such runs, by a file that says what varies. Called again, it runs only what is missing.

{EXIT_CODES}"""
ClientFiles = Annotated[
    list[Path] | None, typer.Option("--client", metavar="CLIENT.toml", help="One for all, or one for each.")
]
Tune = Annotated[
    bool, typer.Option("--tune", help="Search learning rates, on training samples set apart, for it and its control.")
]
SweepFile = Annotated[
    Path | None, typer.Option(metavar="SWEEP.toml", help="Run what is missing of a sweep, and write its page.")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the results. Default: docs/results/<name>, or runs/<name>-tune.")
]


@app.command(help=HELP)
def simulate(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.toml", help="As for heron-server run; or --sweep.")
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="N: overrides federation.clients.")] = None,
    client_files: ClientFiles = None,
    resume: Resume = False,
    resume_after: ResumeAfter = None,
    start_from: From = None,
    control: Control = False,
    compare: Compare = "",
    tune: Tune = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each rate that --tune tries. Default: 1.")] = None,
    sweep: SweepFile = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: by cores.")] = None,
    out: Out = None,
    overrides: Overrides = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Runs one simulation, tunes one, or runs a sweep; raises ConfigError where the arguments do not say which."""
    given = starting(start_from, overrides)
    if (run_file is None) == (sweep is None):
        raise ConfigError("heron-simulate wants a run file, or --sweep and a sweep file: one of the two")
    if sweep is not None:
        going = resume or resume_after is not None or start_from is not None
        if any((clients, client_files, going, control, compare, tune, seeds)):
            raise ConfigError(NOT_FOR_A_SWEEP)
        from heron_simulator.sweep.command import run_sweep

        run_sweep(sweep, given, out, jobs)
    elif run_file is not None and tune:
        if resume_after is not None:
            raise ConfigError("--resume-after is for one run; --tune --resume goes on with what is missing")
        from heron_simulator.sweep.tune import Wanted, run_tune

        run_tune(run_file, Wanted(given, clients, client_files or [], compare, seeds or 1, jobs, out, resume))
    elif run_file is not None:
        if jobs or out is not None or seeds:
            raise ConfigError(NOT_FOR_ONE_RUN)
        from heron_simulator.command import run_simulation

        run_simulation(
            run_file, given, clients, client_files or [], resume=resume, resume_after=resume_after,
            log_format=log_format.value, control=control, compare=compare,
        )  # fmt: skip
