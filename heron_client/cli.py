"""heron-client: run, check, doctor. Torch is imported only once a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heron_core.errors import ConfigError
from heron_core.process.console import EXIT_CODES, printable

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help=f"The edge daemon: trains by forward passes alone and sends activations to its server.\n\n{EXIT_CODES}",
)  # fmt: skip

ClientFile = Annotated[
    Path | None, typer.Argument(metavar="CLIENT.toml", help="Local facts; may be left out if --set gives them.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting; repeatable.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Send labels and activations to another machine in plain text.")
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]


@app.command(short_help="Wait for the server and take part in its run.")
def run(
    client_file: ClientFile = None,
    once: Annotated[bool, typer.Option("--once", help="End with the run instead of waiting for the next one.")] = False,
    overrides: Overrides = None,
    insecure: Insecure = False,
    log_level: LogLevel = "info",
    log_format: Annotated[str, typer.Option(help="text, or json: one object a line.")] = "text",
) -> None:
    """Wait for the server, take part in its run, come back after every break."""
    from heron_client.config import load_client_file
    from heron_client.logs import set_up_logging

    set_up_logging(log_level, log_format)
    settings = load_client_file(client_file, overrides or [])
    from heron_client.daemon import run_daemon

    run_daemon(settings, once=once, insecure=insecure)


@app.command(short_help="Try server, data and one step, without taking part; or your own model and data alone.")
def check(
    client_file: ClientFile = None,
    overrides: Overrides = None,
    insecure: Insecure = False,
    model: Annotated[
        str | None, typer.Option(metavar="package.module:factory", help="Check this model; asks no server.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="package.module:factory|npz:PATH|image_folder:PATH",
            help="Check this data, for the model if one is named too; asks no server.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="For the named factory; model.KEY or data.KEY if two are."),
    ] = None,
) -> None:
    """Is the server reachable, do versions agree, does the data load, what does one step cost here?

    With --model or --data: does your own code keep its contract? It is searched in this folder and in python_path.
    """
    from heron_client.config import load_client_file, python_path_of

    if model is not None or data is not None:
        from heron_client.check_own import check_own

        check_own(model, data, options or [], python_path_of(client_file, overrides or []), typer.echo)
        return
    if options:
        raise ConfigError("--option is for the factory that --model or --data names, and neither is given; add one")
    settings = load_client_file(client_file, overrides or [])
    from heron_client.check import run_check

    run_check(settings, lambda line: typer.echo(printable(line)), insecure)


@app.command(short_help="Describe a .csv or .parquet file's columns, as a run file wants them. Asks no server.")
def columns(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Like the clients' own, such as the server's test set.")],
    target: Annotated[str, typer.Option(help="The column of labels; the last one, if not given.")] = "",
    group: Annotated[str, typer.Option(help="The column that says whose a row is.")] = "",
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="As in data.options: delimiter, decimal.")
    ] = None,
) -> None:
    """Prints the tables of a run file by which every client reads its rows: columns, their mean and spread, classes.

    The figures are of this one file, and go to everybody in the run.
    """
    from heron_core.config import apply_overrides
    from heron_core.data.sources.tables import describe_file

    found = describe_file(file, apply_overrides({}, options or [], "--option"), target, group)
    typer.echo("\n".join(map(printable, str(found).splitlines())))


@app.command(short_help="Why can this client not take part? Looks at each part of the way, and says what to mend.")
def doctor(client_file: ClientFile = None, overrides: Overrides = None, insecure: Insecure = False) -> None:
    """Certificates, data, names, proxy, port, TLS, versions, one step, memory: a line for each, and what to mend.

    Exit code: that of the first line that failed; 0 where none did. Nothing is changed, and no place is taken.
    """
    from heron_client.config import load_client_file
    from heron_client.doctor.command import run_doctor

    raise typer.Exit(run_doctor(load_client_file(client_file, overrides or []), typer.echo, insecure))
