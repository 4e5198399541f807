"""A client's own data, by what its operator's file names, and the share of it held out for evaluation."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np

from heron_core.arrays import TensorSpec
from heron_core.data.adapted import AdaptedDataset
from heron_core.data.checks import Checked
from heron_core.data.source import Source, Subset
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.streams import generator

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_own(
    source: str, *, path: Path | None, options: Mapping[str, object], inputs: tuple[TensorSpec, ...], labels: LabelSpec
) -> Source:
    """`image_folder` and `npz` read `path`; `package.module:factory` gets `options`, and `path` if set.

    Every batch is checked as it is asked for. Importing runs code: hand over only what this machine's operator named,
    never what a peer sent. Raises DataError for an unknown source, a missing path, wrong options, or data that cannot
    be used.
    """
    return Checked(_loaded(source, path, options, inputs, labels), inputs, labels)


def _loaded(
    source: str, path: Path | None, options: Mapping[str, object], inputs: tuple[TensorSpec, ...], labels: LabelSpec
) -> Source:
    if _FACTORY.fullmatch(source):
        given = {**options, "path": path} if path is not None else options
        return as_source(call_factory(source, given), inputs, labels)
    if source not in ("image_folder", "npz"):
        raise DataError(f"data.source must be image_folder, npz or package.module:factory, got {source!r}")
    if path is None:
        raise DataError(f"data.source = {source!r} needs data.path in the client's file, it is not set")
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"data.source = {source!r} gives one input, the model takes {len(inputs)} ({names}); "
            "write a package.module:factory"
        )
    if source == "npz":
        from heron_core.data.sources.npz import load_npz

        _only(options, source)
        return load_npz(path, inputs[0], labels)
    from heron_core.data.sources.folder import ImageFolder

    _only(options, source, "classes")
    return ImageFolder(path, inputs[0].shape, _class_names(options))


def split_holdout(source: Source, fraction: float, seed: int, name_or_rank: str | int) -> tuple[Source, Source]:
    """(train, held out): `fraction` of the samples, at least one unless 0, from the client's own stream.

    Raises DataError if nothing would be left to train on.
    """
    num_held = max(1, round(fraction * len(source))) if fraction > 0 else 0
    if num_held >= len(source):
        raise DataError(
            f"{len(source)} samples leave none to train on after holdout = {fraction}; add data or lower data.holdout"
        )
    order = generator(seed, "holdout", name_or_rank).permutation(len(source))
    return Subset(source, np.sort(order[num_held:])), Subset(source, np.sort(order[:num_held]))


def _only(options: Mapping[str, object], source: str, *known: str) -> None:
    if unknown := sorted(set(options) - set(known)):
        raise DataError(f"data.source = {source!r} takes options {list(known)}, got {unknown}; remove them")


def _class_names(options: Mapping[str, object]) -> list[str] | None:
    given = options.get("classes")
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise DataError(f"data.options.classes must be a list of sub-folders' names, got {given!r}; mend it")
    return [str(name) for name in given]


def call_factory(name: str, options: Mapping[str, object]) -> object:
    """What the factory behind `package.module:factory` returns for these options. Raises DataError."""
    module, _, attribute = name.partition(":")
    try:
        made: object = getattr(importlib.import_module(module), attribute)(**options)
    except DataError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise DataError(
            f"data.source = {name!r} with options {options} failed: {type(error).__name__}: {error}; "
            f"check that `python -c 'import {module}'` works here and that the factory takes these options"
        ) from error
    return made


def as_source(made: object, inputs: Sequence[TensorSpec], labels: LabelSpec) -> Source:
    """A user's source as it is, else a user's dataset adapted. Raises DataError for what is neither."""
    return made if is_source(made) else AdaptedDataset(made, inputs, labels)


def is_source(made: object) -> TypeGuard[Source]:
    """Is it a Source, rather than a dataset? Asking a dataset that is adapted for its `labels` would read it all."""
    return all(hasattr(type(made), name) or name in getattr(made, "__dict__", ()) for name in ("labels", "batch"))
