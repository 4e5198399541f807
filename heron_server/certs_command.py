"""heron-server certs: a private CA, certificates and tokens, each in one command."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heron_server.certs.files import Made, Store

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make the certificates by which both sides know each other."
)  # fmt: skip

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
CA_DAYS, DAYS = 3650.0, 365.0

Folder = Annotated[Path, typer.Option("--certs", metavar="FOLDER", help="Where all of it lies.")]
Days = Annotated[float, typer.Option(min=0.01, help="How long it is valid.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The client's name in the run.")]


@app.command()
def init(folder: Folder = Path("certs"), days: Days = CA_DAYS, force: Force = False) -> None:
    """Make a CA. Keep certs/ca.key to yourself: whoever has it lets anybody in."""
    _say("CA", _store(folder, force).init(days, datetime.now(UTC)))


@app.command()
def server(
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME|ADDRESS", help="Where clients reach the server; repeatable."),
    ] = None,
    folder: Folder = Path("certs"),
    days: Days = DAYS,
    force: Force = False,
) -> None:
    """Make the server's certificate, for this machine's own names and every --host. A running server takes it up."""
    every = [*(hosts or []), *THIS_MACHINE, *_own_names()]
    _say("server", _store(folder, force).make_server(every, days, datetime.now(UTC)))


@app.command()
def client(name: Name, folder: Folder = Path("certs"), days: Days = DAYS, force: Force = False) -> None:
    """Make one client's certificate: a folder to copy to its machine, as `certs`."""
    _say(f"client {name}", _store(folder, force).make_client(name, days, datetime.now(UTC)))


@app.command()
def token(name: Name, folder: Folder = Path("certs"), force: Force = False) -> None:
    """Make one client's token, for a server behind something that ends TLS (server.tokens)."""
    _say(f"token of {name}", _store(folder, force).make_token(name))


def _store(folder: Path, force: bool) -> Store:
    from heron_server.certs.files import Store

    return Store(folder, force)


def _say(what: str, made: Made) -> None:
    until = f", valid until {made.expires:%Y-%m-%d}" if made.expires else ""
    typer.echo(f"{what}: {made.path}{until}{', for ' + ' '.join(made.hosts) if made.hosts else ''}")


def _own_names() -> list[str]:
    """What this machine calls itself; a name that no certificate can carry is left out."""
    names = (socket.gethostname(), socket.getfqdn())
    return [name for name in names if name.isascii() and name.strip(".")]
