"""Cases of .csv files: encodings, signs, quotes, columns, words, and lines that are no rows."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from integration.generated_inputs import EACH, RUN, Case, Data

NAMES = ("Äpfel", "birne", "kirsche")
COLUMNS = ("länge", "breite", "größe", "farbe")
COLOURS = ("rot", "grün", "gelb")
TABLE_RUN: dict[str, Any] = {
    **RUN,
    "model": {"name": "mlp", "input_shape": [6], "classes": 3, "widths": [16, 16], "auxiliary": "flatten_linear"},
    "data": {
        "source": "client", "holdout": 0.0, "class_names": NAMES,
        "table": {
            "target": "frucht",
            "columns": [
                *({"name": name, "mean": 12.5, "std": 2.5} for name in COLUMNS[:3]),
                {"name": "farbe", "levels": COLOURS},
            ],
        },
    },
}  # fmt: skip
Rows = list[list[str]]
"""The first names the columns."""


def rows_of(who: str, each: int) -> Rows:
    """Three numbers of a middle for each class, and a word that goes with it most of the time."""
    rng = np.random.default_rng(sum(map(ord, who)))
    rows: Rows = [[*COLUMNS, "frucht"]]
    for label in np.repeat(np.arange(3), each):
        numbers = 10 + 2.5 * ((label + np.arange(3)) % 3) + rng.integers(-3, 4, 3) / 4
        colour = COLOURS[label if rng.random() < 0.9 else 0]
        rows.append([*map(str, numbers), colour, NAMES[label]])
    return rows


def clean_table(folder: Path, who: str, each: int) -> Data:
    """In UTF-8, with commas."""
    path = folder / f"{who}.csv"
    path.write_text(_text(rows_of(who, each)), encoding="utf-8")
    return {"source": "csv", "path": str(path)}


def table_cases() -> Iterator[Case]:
    """All of them."""
    yield from _encodings()
    yield from _signs()
    yield from _columns()
    yield from _cells()


def _encodings() -> Iterator[Case]:
    for encoding in ("utf-8-sig", "utf-16", "latin-1", "cp1252", "cp437", "utf-7"):
        yield _case(f"in {encoding}", encoding=encoding, equal=encoding == "utf-8-sig")
    for end in ("\r\n", "\r"):
        yield _case(f"with {end!r}", change=lambda text, end=end: text.replace("\n", end), equal=end == "\r\n")
    yield _case("without a last line end", change=str.rstrip, equal=True)
    yield _case("with empty lines", change=lambda text: text.replace("\n", "\n\n"), equal=True)
    yield _case("with decomposed letters", change=lambda text: text.replace("Ä", "A\u0308").replace("ü", "u\u0308"))
    yield _case("with a zero byte", change=lambda text: text[:200] + "\0" + text[200:])
    yield _case("compressed", pack=gzip.compress, suffix=".csv.gz", equal=True)
    yield _case("compressed, and torn", pack=lambda data: gzip.compress(data)[:-40], suffix=".csv.gz", refused=True)
    yield _case("compressed, called .csv", pack=gzip.compress, refused=True)
    yield _case("that is empty", change=lambda text: "", refused=True)
    yield _case("of names alone", rows=lambda rows: rows[:1], refused=True)


def _signs() -> Iterator[Case]:
    for sign in (";", "\t", "|"):
        yield _case(f"divided by {sign!r}", delimiter=sign, options={"delimiter": sign}, equal=True)
        yield _case(f"divided by {sign!r}, not said", delimiter=sign, refused=True, culprit="delimiter")
    comma = lambda rows: [rows[0], *([each.replace(".", ",") for each in row] for row in rows[1:])]
    yield _case(
        "with decimal commas", rows=comma, delimiter=";", options={"delimiter": ";", "decimal": ","}, equal=True
    )
    yield _case("with decimal commas, not said", rows=comma, delimiter=";", options={"delimiter": ";"}, refused=True)
    yield _case("all in quotes", quoting=csv.QUOTE_ALL, equal=True)
    yield _case("with an open quote", change=lambda text: text[:-20] + '"' + text[-20:], refused=True)
    yield _case("with spaces", rows=lambda rows: [[f" {each} " for each in row] for row in rows], equal=True)


def _columns() -> Iterator[Case]:
    yield _case("in another order", rows=lambda rows: [row[::-1] for row in rows], equal=True)
    yield _case("with more columns", rows=lambda rows: [["id", *row] for row in rows], equal=True)
    yield _case("without a column", rows=lambda rows: [row[1:] for row in rows], refused=True, culprit="länge")
    yield _case("without its target", rows=lambda rows: [row[:-1] for row in rows], refused=True, culprit="frucht")
    yield _case("without names", rows=lambda rows: rows[1:], refused=True)
    yield _case("with a name twice", rows=lambda rows: [[*row, row[0]] for row in rows], refused=True, culprit="länge")
    yield _case("with names in capitals", rows=lambda rows: [[n.upper() for n in rows[0]], *rows[1:]], refused=True)
    yield _case(
        "with a short line", rows=lambda rows: [*rows[:5], rows[5][:3], *rows[6:]], refused=True, culprit="line 6"
    )


def _cells() -> Iterator[Case]:
    for value in ("", "NA", "nan", "-", "zwölf", "1e400", "inf", "12.5.1", "0x1f", "1_000", "٣", "12,5", "#DIV/0!"):
        yield _case(f"with the number {value!r}", rows=_with(0, value), culprit="länge")
    for value in ("", "ROT", "rot ", "blau", "GRÜN", "0"):
        yield _case(f"with the word {value!r}", rows=_with(3, value), culprit="farbe")
    for value in ("", "birne ", "Birne", "quitte", "1", "nan"):
        yield _case(f"with the class {value!r}", rows=_with(4, value), culprit="frucht")
    for place, what in enumerate(("number", "", "", "word", "class")):
        if what:
            yield _case(f"with a bad {what}, to be skipped", rows=_with(place, "?"), skip=True, culprit="a.csv|class")
    yield _case("of another scale", rows=lambda rows: [rows[0], *([str(float(r[0]) * 1000), *r[1:]] for r in rows[1:])])


def _with(place: int, value: str) -> Callable[[Rows], Rows]:
    """One row, of the second class, has this value there."""
    return lambda rows: [[*r[:place], value, *r[place + 1 :]] if i == EACH + 3 else r for i, r in enumerate(rows)]


def _case(
    name: str, *, rows: Callable[[Rows], Rows] = lambda rows: rows, change: Callable[[str], str] = lambda text: text,
    encoding: str = "utf-8", pack: Callable[[bytes], bytes] = lambda data: data, suffix: str = ".csv",
    options: Data | None = None, delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL, skip: bool = False,
    **more: Any,
) -> Case:  # fmt: skip
    def write(folder: Path) -> Data:
        path = folder / f"a{suffix}"
        text = change(_text(rows(rows_of("a", EACH)), delimiter, quoting))
        path.write_bytes(pack(text.encode(encoding, "replace")))
        found: Data = {"source": "csv", "path": str(path), "options": options or {}}
        return {**found, "on_bad_sample": "skip"} if skip else found

    return Case(f"table {name}", write, **{"culprit": r"a\.csv|^a: input", **more})


def _text(rows: Sequence[Sequence[str]], delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    out = StringIO()
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
    return out.getvalue()
