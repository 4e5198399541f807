"""A client's own data, by what its operator's file names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np

from heron_core.arrays import TensorSpec
from heron_core.data.adapted import AdaptedDataset
from heron_core.data.checks import Checked
from heron_core.data.named import by_name
from heron_core.data.own.kept import without_bad
from heron_core.data.own.users_source import UsersSource
from heron_core.data.source import Source
from heron_core.data.sources.asked import Asked, Kind, TextAsked
from heron_core.data.sources.hugging_face import hugging_face_specs, load_hugging_face
from heron_core.data.sources.images.folder import folder_specs, load_folder
from heron_core.data.sources.npy import load_npy, npy_specs
from heron_core.data.sources.npz import from_arrays, load_npz, npz_specs
from heron_core.data.sources.tables import load_csv, load_parquet, own_table, table_specs
from heron_core.data.sources.text import load_jsonl, load_text, no_specs
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.own_code import said_by

if TYPE_CHECKING:
    from heron_core.spec.table import TableSpec

KINDS: dict[str, Kind] = {
    "csv": Kind(load_csv, table_specs, own_table),
    "hugging_face": Kind(load_hugging_face, hugging_face_specs),
    "image_folder": Kind(load_folder, folder_specs),
    "jsonl": Kind(load_jsonl, no_specs),
    "npy": Kind(load_npy, npy_specs),
    "npz": Kind(load_npz, npz_specs),
    "parquet": Kind(load_parquet, table_specs, own_table),
    "text": Kind(load_text, no_specs),
}
"""The files that need no code, by the name in data.source; the command line says NAME:PATH."""
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_own(
    source: str,
    *,
    path: Path | None,
    options: Mapping[str, object],
    inputs: tuple[TensorSpec, ...],
    labels: LabelSpec,
    class_names: Sequence[str] = (),
    on_bad_sample: Literal["refuse", "skip"] = "refuse",
    table: TableSpec | None = None,
    text: TextAsked | None = None,
) -> Source:
    """A source of `KINDS` reads `path`; `package.module:factory` gets `options`, and `path` if set.

    `class_names`: the run's, in label order, where they are known: a source that has names of its own is matched by
    them. `table`: the run's, for files of rows; `text`: for text. `on_bad_sample`: skip opens each sample once, and
    leaves out those that cannot be read or hold NaN or Inf, which are counted; else the first such sample is refused
    when it is asked for.
    Every batch is checked as it is asked for. Importing runs code: hand over only what this machine's operator named,
    never what a peer sent. Raises DataError for an unknown source, a missing path, wrong options, or data that cannot
    be used.
    """
    skip_bad = on_bad_sample == "skip"
    loaded = _loaded(Asked(source, path, options, inputs, labels, tuple(class_names), skip_bad, table, text))
    if skip_bad:
        loaded = without_bad(loaded, inputs, labels)
    if labels.classes:
        loaded = by_name(loaded, class_names, labels.classes, path if source == "image_folder" else None)
    return Checked(loaded, inputs, labels)


def _loaded(asked: Asked) -> Source:
    if _FACTORY.fullmatch(asked.source):
        given = {**asked.options, "path": asked.path} if asked.path is not None else asked.options
        made = call_factory(asked.source, given)
        return as_source(made, asked.inputs, asked.labels, skip_bad=asked.skip_bad)
    if asked.source not in KINDS:
        raise DataError(
            f"data.source must be {', '.join(KINDS)} or package.module:factory, got {asked.source!r}; name one of them"
        )
    return KINDS[asked.source].load(asked)


def call_factory(name: str, options: Mapping[str, object]) -> object:
    """What the factory behind `package.module:factory` returns for these options. Raises DataError."""
    module, _, attribute = name.partition(":")
    try:
        made: object = getattr(importlib.import_module(module), attribute)(**options)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise DataError(
            f"data.source = {name!r} with options {options} failed: {said_by(error)}; "
            f"check that `python -c 'import {module}'` works here and that the factory takes these options"
        ) from error
    return made


def as_source(
    made: object, inputs: Sequence[TensorSpec], labels: LabelSpec, *, skip_bad: bool = False
) -> Source:
    """A user's source, of which nothing is believed, a tuple (x, y) of arrays as in an .npz file, else a user's dataset
    adapted. Raises DataError for what is none of them."""
    if isinstance(made, tuple) and len(made) == 2:
        return _of_arrays(*made, inputs, labels, skip_bad)
    return UsersSource(made) if is_source(made) else AdaptedDataset(made, inputs, labels)


def _of_arrays(
    x: object, y: object, inputs: Sequence[TensorSpec], labels: LabelSpec, skip_bad: bool
) -> Source:
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"(x, y) gives one input, the model takes {len(inputs)} ({names}); give a dataset")
    try:
        arrays = np.asarray(x), np.asarray(y)
    except Exception as error:  # a tensor on an accelerator, one that wants a gradient, rows of several lengths
        raise DataError(f"x and y must be arrays, or plain CPU tensors: {error}") from error
    return from_arrays("(x, y)", *arrays, inputs[0], labels, skip_bad=skip_bad)


def is_source(made: object) -> TypeGuard[Source]:
    """Is it a Source, rather than a dataset? Asking a dataset that is adapted for its `labels` would read it all."""
    return all(hasattr(type(made), name) or name in getattr(made, "__dict__", ()) for name in ("labels", "batch"))
