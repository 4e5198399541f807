"""Sections of rows for a person: rich tables on a terminal, aligned text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from heron_core.process.console import printable


@dataclass(frozen=True)
class Section:
    """A titled table, then lines of text that stay as they are (to be copied)."""

    title: str
    rows: Sequence[Sequence[str]] = ()
    columns: Sequence[str] = ()
    """Headings; none where each row's first cell names it."""
    text: Sequence[str] = field(default=())


def print_sections(sections: Sequence[Section], file: TextIO) -> None:
    """Writes the sections, as suits the file."""
    if file.isatty():
        _print_rich(sections, file)
    else:
        file.write(plain_text(sections))
        file.flush()


def plain_text(sections: Sequence[Section]) -> str:
    """Aligned columns, ASCII where the cells are."""
    blocks = []
    for section in sections:
        rows = [list(section.columns)] * bool(section.columns) + [list(row) for row in section.rows]
        lines = [section.title, *_aligned(rows), *(f"  {printable(line)}".rstrip() for line in section.text)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _aligned(rows: list[list[str]]) -> list[str]:
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(max(map(len, cells), default=0))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in cells
    ]


def _print_rich(sections: Sequence[Section], file: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file)
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        if section.rows:
            console.print(_rich_table(section))
        for line in section.text:
            console.print(Text(f"  {printable(line)}"), soft_wrap=True)


def _rich_table(section: Section) -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=bool(section.columns), pad_edge=True, show_edge=False)
    for index in range(max(len(row) for row in section.rows)):
        heading = section.columns[index] if index < len(section.columns) else ""
        table.add_column(Text(heading), style="" if index else "cyan", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
