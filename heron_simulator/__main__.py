"""The command heron-simulate, and `python -m heron_simulator`. Signals come first, before all that takes time."""

from __future__ import annotations

from typing import NoReturn

from heron_core.process import signals


def _command() -> None:
    from heron_simulator.cli import app

    app()


def main() -> NoReturn:
    """The command."""
    signals.install("heron-simulate")
    from heron_core.process.console import run_command

    run_command("heron-simulate", _command)


if __name__ == "__main__":
    main()
