"""What a loader of files is asked for, and the questions that all loaders put to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from heron_core.arrays import TensorSpec
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

if TYPE_CHECKING:
    from heron_core.spec.table import TableSpec
    from heron_core.spec.text import TextSpec

Options = Mapping[str, object]
FOLDER_SETTING = "set data.folder in the client's file or data_folder in the [server] table, or $HERON_DATA"


@dataclass(frozen=True)
class TextAsked:
    """How text becomes the model's tokens."""

    spec: TextSpec
    tokenizer: str
    """Its folder, by the path in the data folder; empty where the run names none."""
    tokens: TensorSpec
    """The model's input; `shape[0]` is its context."""
    folder: Path | None
    """This side's data folder; None: $HERON_DATA."""


@dataclass(frozen=True)
class Asked:
    """What the operator's file says, and what the model takes."""

    source: str
    path: Path | None
    options: Options
    inputs: tuple[TensorSpec, ...]
    labels: LabelSpec
    class_names: tuple[str, ...] = ()
    """The run's, in label order; empty where nobody knows them yet."""
    skip_bad: bool = False
    """Leave samples that hold NaN or Inf in: whoever asks takes them out, one by one."""
    table: TableSpec | None = None
    """The run's: how rows become samples."""
    text: TextAsked | None = None
    """The run's: how text becomes tokens; None where the model takes none."""

    def given_path(self) -> Path:
        """Where the data lies. Raises DataError where the operator named no place."""
        if self.path is None:
            raise DataError(f"data.source = {self.source!r} needs data.path in the client's file, it is not set")
        return self.path

    def one_input(self) -> TensorSpec:
        """The model's only input. Raises DataError where it has several."""
        if len(self.inputs) > 1:
            names = ", ".join(spec.name for spec in self.inputs)
            raise DataError(
                f"data.source = {self.source!r} gives one input, the model takes {len(self.inputs)} ({names}); "
                "write a package.module:factory"
            )
        return self.inputs[0]

    def takes_options(self, *known: str) -> None:
        """Raises DataError for an option that this source does not know."""
        if unknown := sorted(set(self.options) - set(known)):
            raise DataError(f"data.source = {self.source!r} takes options {list(known)}, got {unknown}; remove them")


def name_of(options: Options, key: str) -> str:
    """What the array x or y is called in the operator's files: its own name unless the options say another.

    Raises DataError.
    """
    given = options.get(key, key)
    if not isinstance(given, str) or not given or "/" in given:
        raise DataError(f"data.options.{key} must be the name of an array, got {given!r}; mend it")
    return given


def data_folder(source: str, folder: Path | None) -> Path:
    """Where this side's experiment data lies; None: in $HERON_DATA. Raises DataError where there is no such folder."""
    if folder is None:
        named = os.environ.get("HERON_DATA")
        if not named:
            raise DataError(f"source {source} needs a data folder and none is named; {FOLDER_SETTING}")
        folder = Path(named)
    if not folder.is_dir():
        raise DataError(f"no data folder at {folder}; {FOLDER_SETTING}")
    return folder


class Kind(NamedTuple):
    """One kind of files that need no code."""

    load: Callable[[Asked], Source]
    """Raises DataError for options or files that cannot be used."""
    specs: Callable[[Path, Options], tuple[tuple[TensorSpec, ...], LabelSpec]]
    """What its samples are where no model says it; raises DataError."""
    own_table: Callable[[Path, Options], tuple[TableSpec | None, tuple[str, ...]]] = lambda path, options: (None, ())
    """A table of the file's own figures, and its class names, where no run says them; raises DataError."""
