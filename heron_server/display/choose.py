"""Which display suits a stream."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TextIO

from heron_server.display.json_lines import JsonDisplay
from heron_server.display.plain import PlainDisplay
from heron_server.metrics.observers import Observer

NO_CURSOR = ("dumb", "unknown")
"""TERM of terminals that cannot go back to a line."""


def make_display(log_format: str, stream: TextIO) -> Observer:
    """JSON lines if `log_format` is "json"; else the live display on a terminal, or in a notebook with ipywidgets, and
    plain lines where there is none."""
    if log_format == "json":
        return JsonDisplay(stream)
    if _is_live(stream):
        from heron_server.display.rich import RichDisplay

        return RichDisplay(stream)
    return PlainDisplay(stream)


def in_notebook() -> bool:
    """Is this the kernel of a Jupyter notebook?"""
    from rich.console import Console

    return Console().is_jupyter


def _is_live(stream: TextIO) -> bool:
    """Can a line be changed afterwards?"""
    if in_notebook():
        return find_spec("ipywidgets") is not None
    return stream.isatty() and os.environ.get("TERM") not in NO_CURSOR
