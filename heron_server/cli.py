"""heron-server: run, demo, simulate, validate. Torch is imported only once a command needs it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heron_core.console import EXIT_CODES, run_command

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help=f"The Main-Server and Fed-Server of split federated learning without client backpropagation.\n\n{EXIT_CODES}",
)  # fmt: skip


class LogFormat(StrEnum):
    text = "text"
    json = "json"


RunFile = Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run spec, with a [server] table beside it.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting; repeatable.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run directory's last round.")]
Format = Annotated[LogFormat, typer.Option(help="json: one object a line.")]


@app.command()
def run(
    run_file: RunFile,
    resume: Resume = False,
    overrides: Overrides = None,
    insecure: Annotated[bool, typer.Option(help="Allow a non-loopback address without encryption.")] = False,
    log_format: Format = LogFormat.text,
) -> None:
    """Serve one run to its end."""
    from heron_server.config import load_run_file
    from heron_server.launch import run_server

    spec, settings = load_run_file(run_file, overrides)
    if insecure:
        settings = settings.model_copy(update={"insecure": True})
    run_server(spec, settings, resume=resume, log_format=log_format.value)


@app.command(short_help="Train on handwritten digits, three clients on this machine.")
def demo(
    resume: Resume = False,
    overrides: Overrides = None,
    run_dir: Annotated[Path, typer.Option(help="Replaced at each start, unless --resume.")] = Path("runs/demo"),
    log_format: Format = LogFormat.text,
) -> None:
    """Train on real handwritten digits: this server, three client processes, and the frozen control beside them."""
    from heron_server.demo import run_demo

    run_demo(run_dir, overrides or [], resume=resume, log_format=log_format.value)


@app.command(short_help="Run server and N clients in one process, or a whole sweep of such runs.")
def simulate(
    run_file: Annotated[Path | None, typer.Argument(metavar="[RUN.toml]", help="As for run; or --sweep.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="N: overrides federation.clients.")] = None,
    client_files: Annotated[
        list[Path] | None, typer.Option("--client", metavar="CLIENT.toml", help="One for all, or one for each.")
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(metavar="SWEEP.toml", help="Run what is missing of a sweep, and write its page.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs of a sweep at a time. Default: by cores.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder of a sweep. Default: docs/results/<name>.")] = None,
    resume: Resume = False,
    overrides: Overrides = None,
    log_format: Format = LogFormat.text,
) -> None:
    """Run server and N clients in one process, over the in-process transport: the same bits as over gRPC.

    With --sweep: many such runs, by a file that says what varies. Called again, it runs only what is missing.
    """
    from heron_core.errors import ConfigError

    if (run_file is None) == (sweep is None):
        raise ConfigError("simulate wants a run file, or --sweep and a sweep file: one of the two")
    if sweep is not None:
        from heron_simulator.sweep.command import run_sweep

        if clients is not None or client_files or resume:
            raise ConfigError("--clients, --client and --resume are for one run; a sweep's file says what varies, and "
                              "it always goes on where it was")  # fmt: skip
        run_sweep(sweep, overrides or [], out, jobs)
        return
    assert run_file is not None
    from heron_server.config import load_run_file, load_simulate_settings
    from heron_server.launch import run_simulation

    spec, settings = load_run_file(run_file, overrides)
    conditions = load_simulate_settings(run_file, overrides)
    run_simulation(
        spec, settings, clients, client_files or [], resume=resume, log_format=log_format.value, conditions=conditions
    )


@app.command()
def validate(run_file: RunFile, overrides: Overrides = None) -> None:
    """Check a run spec and print what it will do, without running it."""
    from heron_server.config import load_run_file
    from heron_server.planning.validate import describe

    spec, settings = load_run_file(run_file, overrides)
    typer.echo(describe(spec, settings))


def main() -> None:
    run_command("heron-server", app)


if __name__ == "__main__":
    main()
