"""The command heron-server, and `python -m heron_server`. Signals come first, before all that takes time."""

from __future__ import annotations

from typing import NoReturn

from heron_core.process import signals


def _command() -> None:
    from heron_server.cli import app

    app()


def main() -> NoReturn:
    """The command."""
    signals.install("heron-server")
    from heron_core.process.console import run_command

    run_command("heron-server", _command)


if __name__ == "__main__":
    main()
