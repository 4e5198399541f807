"""The command heron-simulate, and `python -m heron_simulator`. Signals come first, before all that takes time."""

from __future__ import annotations

from typing import NoReturn

from heron_core.process import signals


def main() -> NoReturn:
    """The command."""
    signals.install("heron-simulate")
    from heron_core.process.console import run_command
    from heron_simulator.cli import app

    run_command("heron-simulate", app)


if __name__ == "__main__":
    main()
