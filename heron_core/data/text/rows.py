"""Rows of text with named columns, as JSON lines and Hugging Face datasets have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from heron_core.data.text.sample import Sample, answer, chat, plain
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError

WAYS = ("prompt and completion", "messages", "text")
UNUSABLE = "lines that cannot be used"


class Row(NamedTuple):
    """One row, and where it stands."""

    columns: Mapping[str, object]
    place: str


def json_lines(path: Path) -> Iterator[Callable[[], Row]]:
    """Each line that is not blank, read when it is called for. Raises DataError where there is no such file; a line
    raises it where it is no JSON object."""
    if not path.is_file():
        raise DataError(f"no file at {path}; set data.path in the client's file, or the server's test_path")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield lambda line=line, number=number: _row(line, f"{path}, line {number}")  # type: ignore[misc]


def samples_of(
    rows: Iterable[Callable[[], Row]], tokenizer: Tokenizer, skipped: list[tuple[str, str]] | None
) -> Iterator[Sample]:
    """A sample of each row. `skipped` takes why and where of those that cannot be used; None: DataError for the first.
    """
    for number, read in enumerate(rows, 1):
        try:
            yield sample_of(read(), tokenizer)
        except DataError as error:
            if skipped is None:
                raise
            skipped.append((UNUSABLE, f"line {number}: {error}"))


def sample_of(row: Row, tokenizer: Tokenizer) -> Sample:
    """By the columns that the row has. Raises DataError."""
    columns, place = row
    if "completion" in columns or "prompt" in columns:
        return answer(tokenizer, _text(columns, "prompt", place), _text(columns, "completion", place), place)
    if "messages" in columns:
        return chat(tokenizer, columns["messages"], place)
    if "text" in columns:
        return plain(tokenizer, _text(columns, "text", place), place)
    raise DataError(f"{place}: expected {', or '.join(WAYS)}, got {', '.join(columns) or 'nothing'}; rename them")


def _text(columns: Mapping[str, object], name: str, place: str) -> str:
    given = columns.get(name)
    if not isinstance(given, str):
        raise DataError(f"{place}: {name} must be a text, got {type(given).__name__}; mend it")
    return given


def _row(line: bytes, place: str) -> Row:
    try:
        found: object = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: no JSON ({error}); each line must be one object") from None
    if not isinstance(found, dict):
        raise DataError(f"{place}: each line must be one JSON object, got {type(found).__name__}; mend it")
    return Row(found, place)
