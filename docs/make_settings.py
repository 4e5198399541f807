"""Writes docs/settings.md from the settings' own models: python docs/make_settings.py"""

from __future__ import annotations

from pathlib import Path

from settings_page import render

from heron_client.config import ClientSettings
from heron_simulator.settings import SimulationFile

PAGE = Path(__file__).with_name("settings.md")

INTRODUCTION = """\
# Settings

Written by `docs/make_settings.py` from the code; do not edit it by hand.

Heron reads two TOML files: the server's **run file** (`heron-server run run.toml`) and one **client file** on each
client (`heron-client run client.toml`). Examples of both are in `deploy/examples/`. A key that is left out has its
default. An unknown key is refused. For one call, override any key: `--set method.zo.mu=1e-2`.

A relative path is relative to the file that names it, with `--set` to the current folder. `~`, `$NAME` and `${NAME}`
are replaced in every path (`$$` is a dollar). Files are UTF-8.
"""

RUN_FILE = """
Everything but `[server]` and `[simulate]` is the *run spec*: it affects learning, it is frozen when the run starts, and
clients get it when they join. `[server]` holds local facts of the server that clients never see; `[simulate]` is heeded
by `heron-simulate` alone.
"""


def page() -> str:
    """The whole page."""
    run_file = render(SimulationFile, "The run file").replace("\n", "\n" + RUN_FILE, 1)
    return f"{INTRODUCTION}\n{run_file}\n{render(ClientSettings, 'The client file')}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
