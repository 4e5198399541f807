"""The command heron-server, and `python -m heron_server`. Signals come first, before all that takes time."""

from __future__ import annotations

from typing import NoReturn

from heron_core.process import signals


def main() -> NoReturn:
    """The command."""
    signals.install("heron-server")
    from heron_core.process.console import run_command
    from heron_server.cli import app

    run_command("heron-server", app)


if __name__ == "__main__":
    main()
