"""heron-client: run, check, columns, doctor. Torch is imported only once a command needs it.

By argparse, of Python's own library: what serves the server's commands would be a tenth of a small client's disk.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path

from heron_core.errors import ConfigError
from heron_core.process.console import EXIT_CODES, printable


def app(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that these arguments name; sys.argv's, if none are given. Raises SystemExit for a wrong one."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser.print_help()
        parser.exit(2)
    named = vars(parser.parse_args(given))
    named.pop("command")(**named)


def run(
    client_file: Path | None = None, overrides: Sequence[str] = (), insecure: bool = False, once: bool = False,
    log_level: str = "info", log_format: str = "text",
) -> None:
    """Wait for the server, take part in its run, come back after every break."""
    from heron_client.config import load_client_file
    from heron_client.logs import set_up_logging

    set_up_logging(log_level, log_format)
    settings = load_client_file(client_file, overrides)
    from heron_client.daemon import run_daemon

    run_daemon(settings, once=once, insecure=insecure)


def check(
    client_file: Path | None = None, overrides: Sequence[str] = (), insecure: bool = False, model: str | None = None,
    data: str | None = None, options: Sequence[str] = (),
) -> None:
    """Is the server reachable, do versions agree, does the data load, what does one step cost here?

    With --model or --data: does your own code keep its contract? It is searched in this folder and in python_path.
    """
    from heron_client.config import load_client_file, python_path_of

    if model is not None or data is not None:
        from heron_client.check_own import check_own

        check_own(model, data, options, python_path_of(client_file, overrides), _say)
        return
    if options:
        raise ConfigError("--option is for the factory that --model or --data names, and neither is given; add one")
    settings = load_client_file(client_file, overrides)
    from heron_client.check import run_check

    run_check(settings, lambda line: _say(printable(line)), insecure)


def columns(file: Path, target: str = "", group: str = "", options: Sequence[str] = ()) -> None:
    """Prints the tables of a run file by which every client reads its rows: columns, their mean and spread, classes.

    The figures are of this one file, and go to everybody in the run.
    """
    from heron_core.config import apply_overrides
    from heron_core.data.sources.tables import describe_file

    found = describe_file(file, apply_overrides({}, options, "--option"), target, group)
    _say("\n".join(map(printable, str(found).splitlines())))


def doctor(client_file: Path | None = None, overrides: Sequence[str] = (), insecure: bool = False) -> None:
    """Certificates, data, names, proxy, port, TLS, versions, one step, memory: a line for each, and what to mend.

    Exit code: that of the first line that failed; 0 where none did. Nothing is changed, and no place is taken.
    """
    from heron_client.config import load_client_file
    from heron_client.doctor.command import run_doctor

    sys.exit(run_doctor(load_client_file(client_file, overrides), _say, insecure))


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:  # as of `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


# -- what may be typed -------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    """An argument's name here is that of its command's parameter."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "heron-client", formatter_class=raw, allow_abbrev=False,
        description="The edge daemon: trains by forward passes alone and sends activations to its server.",
        epilog=EXIT_CODES,
    )  # fmt: skip
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function: object, short: str) -> argparse.ArgumentParser:
        name, doc = str(getattr(function, "__name__", "")), cleandoc(str(function.__doc__))
        added = commands.add_parser(name, help=short, description=doc, formatter_class=raw, allow_abbrev=False)
        added.set_defaults(command=function)
        return added

    running = command(run, "Wait for the server and take part in its run.")
    checking = command(check, "Try server, data and one step, without taking part; or your own model and data alone.")
    describing = command(columns, "Describe a .csv or .parquet file's columns, as a run file wants them.")
    examining = command(doctor, "Why can this client not take part? Looks at each part of the way.")
    for one in (running, checking, examining):
        one.add_argument("client_file", nargs="?", type=Path, metavar="CLIENT.toml",
                         help="Local facts; may be left out if --set gives them.")  # fmt: skip
        one.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C",
                         help="Override a setting; repeatable.")  # fmt: skip
        one.add_argument("--insecure", action="store_true",
                         help="Send labels and activations to another machine in plain text.")  # fmt: skip
    running.add_argument("--once", action="store_true", help="End with the run instead of waiting for the next one.")
    running.add_argument("--log-level", default="info", metavar="LEVEL", help="debug, info, warning or error.")
    running.add_argument("--log-format", default="text", metavar="FORMAT", help="text, or json: one object a line.")
    checking.add_argument("--model", metavar="package.module:factory", help="Check this model; asks no server.")
    checking.add_argument("--data", metavar="package.module:factory|npz:PATH|image_folder:PATH",
                          help="Check this data, for the model if one is named too; asks no server.")  # fmt: skip
    describing.add_argument("file", type=Path, metavar="FILE", help="Like the clients' own, such as the test set.")
    describing.add_argument("--target", default="", metavar="COLUMN", help="That of labels; the last, if not given.")
    describing.add_argument("--group", default="", metavar="COLUMN", help="The column that says whose a row is.")
    for one, what in (
        (checking, "For the named factory; model.KEY or data.KEY if two are."),
        (describing, "As in data.options: delimiter, decimal."),
    ):
        one.add_argument("--option", dest="options", action="append", default=[], metavar="KEY=VALUE", help=what)
    return parser
