"""A Hugging Face dataset on the disk (`dataset.save_to_disk`), read sample by sample: its files are mapped, not loaded.
Where a language model asks for it, columns of text become tokens as those of JSON lines do.

Needs datasets, imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.class_names import listed
from heron_core.data.adapted import AdaptedDataset
from heron_core.data.own.cures import input_cure
from heron_core.data.skipped import Skipped, tally
from heron_core.data.source import OWN_PIXELS, Source
from heron_core.data.sources.asked import Asked, Options, name_of
from heron_core.data.sources.images.folder import IMAGE, need_images
from heron_core.data.sources.images.pixels import Pixels, how_read, read_image
from heron_core.data.sources.npz import specs_of_arrays
from heron_core.data.sources.text import load_rows
from heron_core.data.text.rows import Row
from heron_core.errors import DataError
from heron_core.labels import IGNORED, LabelSpec

Arrow = Any
"""What datasets and pyarrow give: without them there are no types."""
TEXTS = {"prompt", "completion", "messages", "text"}
"""Columns that become tokens."""
LOOKED_AT = 16
"""Samples whose range a message names."""


def load_hugging_face(asked: Asked) -> Source:
    """The columns that the options `x` and `y` name; or of text, where the model takes tokens. Raises DataError."""
    if asked.text is not None and not asked.options:
        rows = _dataset(asked.given_path())
        if TEXTS & set(rows.column_names):
            path = asked.given_path()
            return load_rows(asked, (partial(_text_row, rows, i, f"{path}: sample {i}") for i in range(len(rows))))
    asked.takes_options("x", "y")
    columns, spec = _opened(asked.given_path(), asked.options), asked.one_input()
    if columns.holds_images:
        need_images(asked.source, spec)
    else:
        columns.check_dtype(spec)
    return HuggingFace(columns, spec, asked.labels)


def hugging_face_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What the first sample is. Raises DataError."""
    columns = _opened(path, options)
    x = np.zeros((1, *IMAGE.shape), dtype=np.uint8) if columns.holds_images else columns.array(0)[None]
    return specs_of_arrays(x, np.asarray(columns.answers()[:1]))


def _text_row(rows: Arrow, i: int, place: str) -> Row:
    return Row(rows[i], place)


class HuggingFace(AdaptedDataset):
    """One column of samples, one of labels. Images are read as those of a folder, and 0..255 becomes -1..1, as it does
    for numbers of uint8 where the model takes floating point; other numbers are taken as they are.

    Raises DataError for a label that is missing.
    """

    def __init__(self, columns: Columns, spec: TensorSpec, labels: LabelSpec) -> None:
        from heron_core.data.contract import as_given, of_pixels  # and pydantic

        super().__init__(columns.rows, (spec,), labels)
        self._name, self._columns, self._shape = str(columns.path), columns, spec.shape
        self._answers = columns.answers()
        self._names = columns.class_names
        if isinstance(self._answers, np.ndarray) and self._answers.dtype.kind == "U" and labels.classes:
            names, self._answers = np.unique(self._answers, return_inverse=True)
            self._names = tuple(map(str, names))
        stored = "uint8" if columns.holds_images else columns.array(0).dtype.name
        self._is_pixels, self.stored_dtypes = stored == "uint8" and spec.is_floating, (stored,)
        note = how_read(spec.shape) if columns.holds_images else ""
        self.contract = as_given((spec,), "hugging_face", "")
        if self._is_pixels:
            self.contract = of_pixels(spec, "hugging_face", OWN_PIXELS.mean, OWN_PIXELS.std, note=note)
        self._changes: dict[int, list[str]] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the column of labels, or its different words; empty where it holds numbers."""
        return self._names

    @cached_property
    def labels(self) -> Array:
        """Of all samples, [N, ...]; no sample is read for them."""
        found = [self._label(i, answer) for i, answer in enumerate(self._answers)]
        return self._together(self._labels.tensor, list(range(len(self))), found, IGNORED)

    @property
    def changed(self) -> Skipped:
        """What had to be changed in the images that were read so far, each image counted once."""
        return tally((why, f"sample {i}") for i, changes in self._changes.items() for why in changes)

    def _read(self, i: int) -> tuple[Array, Array]:
        x = self._image(i) if self._columns.holds_images else self._columns.array(i)
        return OWN_PIXELS.apply(x[None])[0] if self._is_pixels else x, self._answers[i]

    def _image(self, i: int) -> Pixels:
        pixels, self._changes[i] = self._columns.image(i, self._shape)
        return pixels


@dataclass(frozen=True)
class Columns:
    """The two columns of a dataset that are asked for."""

    path: Path
    rows: Arrow
    """A datasets.Dataset of the column of samples alone, whose rows come as pyarrow tables."""
    x: str
    y: str
    features: Arrow
    targets: Arrow
    """The column of labels: a pyarrow array."""

    @property
    def holds_images(self) -> bool:
        """Are the samples files of images, rather than numbers?"""
        return type(self.features[self.x]).__name__ == "Image"

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; empty where the column of labels has none."""
        return tuple(getattr(self.features[self.y], "names", None) or ())

    def answers(self) -> Array | list[Array]:
        """A label for each sample; words as text. Raises DataError where one is missing."""
        if self.targets.null_count:
            first = self.targets.is_null().to_pylist().index(True)
            raise DataError(f"{self.path}: sample {first} has no {self.y!r}; leave it out with dataset.filter")
        if _is_nested(self.targets):
            return [self._unfolded(self.targets[i : i + 1], i, self.y) for i in range(len(self.targets))]
        found: Array = self.targets.to_numpy(zero_copy_only=False)
        return found.astype(str) if found.dtype.kind == "O" else found

    def array(self, i: int) -> Array:
        """Sample i, of the dtype in which it is stored. Raises DataError for one that lacks values, or is ragged."""
        return self._unfolded(self.rows[i].column(0).combine_chunks(), i, self.x)

    def image(self, i: int, shape: tuple[int, ...]) -> tuple[Pixels, list[str]]:
        """Sample i at `shape` [C, H, W], and what was changed for that. Raises DataError."""
        stored = self.rows[i].column(0)[0].as_py() or {}
        name = f"{self.path}: sample {i}"
        if stored.get("bytes"):
            return read_image(BytesIO(stored["bytes"]), shape, name)
        if stored.get("path"):
            return read_image(Path(stored["path"]), shape, f"{name}, {stored['path']},")
        raise DataError(f"{name} has no {self.x!r}; leave it out with dataset.filter")

    def check_dtype(self, spec: TensorSpec) -> None:
        """Raises DataError for numbers of a kind that the model does not take, and for what is no number."""
        found = self.array(0)
        if found.dtype.kind in ("f" if spec.is_floating else "iub") or (found.dtype == np.uint8 and spec.is_floating):
            return
        got = self.features[self.x] if found.dtype.kind == "O" else found.dtype
        wanted = "floating point, uint8 or images" if spec.is_floating else "integers, as the model takes them"
        some = np.concatenate([self.array(i).reshape(-1) for i in range(min(LOOKED_AT, len(self.rows)))])
        cure = input_cure(some, spec.dtype, f"numpy.asarray(row[{self.x!r}])")
        raise DataError(f"{self.path}: {self.x!r} must be {wanted}, got {got}; {cure} (row: of dataset.map)")

    def _unfolded(self, values: Arrow, i: int, name: str) -> Array:
        """The only value of a pyarrow array, its lists as axes."""
        shape = []
        values = getattr(values, "storage", values)
        while _is_nested(values):
            lengths = set(values.value_lengths().to_pylist())
            if len(lengths) != 1 or None in lengths:
                raise DataError(f"{self.path}: sample {i}: the lists of {name!r} must be equally long; pad or cut them")
            shape.append(lengths.pop())
            values = values.flatten()
        if values.null_count:
            raise DataError(f"{self.path}: sample {i} lacks values of {name!r}; fill them, or leave it out")
        found: Array = values.to_numpy(zero_copy_only=False)
        return found.reshape(shape)


def _is_nested(values: Arrow) -> bool:
    return hasattr(values, "value_lengths")


def _opened(path: Path, options: Options) -> Columns:
    dataset = _dataset(path)
    x, y = (name_of(options, key) for key in ("x", "y"))
    if missing := [name for name in (x, y) if name not in dataset.column_names]:
        raise DataError(
            f"{path} has no column {missing[0]!r}, it has {listed(dataset.column_names)}; name them in data.options "
            '(the server\'s in test_options), { x = "image", y = "label" }'
        )
    if not len(dataset):
        raise DataError(f"{path} holds no samples, at least one is needed; save it again")
    rows, targets = (dataset.select_columns([name]).with_format("arrow") for name in (x, y))
    return Columns(path, rows, x, y, dataset.features, targets[:].column(0).combine_chunks())


def _dataset(path: Path) -> Arrow:
    try:
        from datasets import load_from_disk
    except ImportError:
        raise DataError('a Hugging Face dataset needs datasets; pip install "heron-sfl[hugging_face]"') from None
    try:
        found: Arrow = load_from_disk(str(path))
    except Exception as error:  # JSON, Arrow and the file system each raise their own
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} is not a readable dataset ({reason}); save it there with dataset.save_to_disk, or set data.path"
        ) from error
    if isinstance(found, dict):
        best = "train" if "train" in found else next(iter(found))
        raise DataError(f"{path} holds the splits {listed(list(found))}; set data.path to {path / best}")
    return found
