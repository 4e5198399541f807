"""A folder of images, one sub-folder a class, read batch by batch. Needs Pillow, imported on first use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import TensorSpec
from heron_core.data.skipped import Skipped, tally
from heron_core.data.source import OWN_PIXELS, Batch
from heron_core.data.sources.asked import Asked, Options
from heron_core.data.sources.images.classes import Classes, find_classes
from heron_core.data.sources.images.pixels import MODES, Pixels, how_read, read_image
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

IMAGE = TensorSpec("x", (3, 32, 32))
"""What the images are resized to where no model says it."""


def load_folder(asked: Asked) -> ImageFolder:
    """The images of `path/<class>/`. Raises DataError."""
    path, spec = asked.given_path(), asked.one_input()
    asked.takes_options("classes")
    need_images(asked.source, spec)
    if asked.labels.shape != ():
        raise DataError(
            f"image_folder gives one class a sample, the model's task wants {asked.labels}; use npz or a "
            "package.module:factory"
        )
    classes = find_classes(path, _order(asked.options), asked.class_names, asked.labels.classes)
    return ImageFolder(classes, spec)


def folder_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """Colour images of a common size, each of one class."""
    return (IMAGE,), LabelSpec()


class ImageFolder:
    """Images turned upright and resized (bilinear) to `spec` [C, H, W], C 1 (grey) or 3 (RGB); 0..255 becomes -1..1.

    Transparency is dropped: the colours beneath it stay. Grey of 16 bits is brought to the same scale, unrounded.
    """

    stored_dtypes = ("uint8",)

    def __init__(self, classes: Classes, spec: TensorSpec) -> None:
        from heron_core.data.contract import of_pixels  # and pydantic

        self.class_names, self.skipped, self._shape = classes.names, classes.skipped, spec.shape
        self.contract = of_pixels(spec, "image_folder", OWN_PIXELS.mean, OWN_PIXELS.std, note=how_read(spec.shape))
        self._files = classes.files
        self._labels = np.array(classes.labels, dtype=np.int64)
        self._seen: set[int] = set()
        self._changes: list[tuple[str, Path]] = []

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N]: the place of each image's sub-folder in `class_names`."""
        return self._labels

    @property
    def changed(self) -> Skipped:
        """What had to be changed in the images that were read so far, each image counted once."""
        return tally(self._changes)

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The images at these indices, float32 [B, C, H, W] in -1 to 1, read now. Raises DataError."""
        pixels = np.stack([self._pixels(int(i)) for i in indices])
        return (OWN_PIXELS.apply(pixels),), self._labels[indices]

    def _pixels(self, index: int) -> Pixels:
        file = self._files[index]
        pixels, changes = read_image(file, self._shape)
        if index not in self._seen:
            self._seen.add(index)
            self._changes += [(change, file) for change in changes]
        return pixels


def need_images(source: str, spec: TensorSpec) -> None:
    """Raises DataError where the model takes no images, or Pillow is missing."""
    if len(spec.shape) != 3 or spec.shape[0] not in MODES:
        raise DataError(
            f"{source} gives images [C, H, W] with C = 1 or 3, the model wants {list(spec.shape)}; "
            "change model.input_shape or use another source"
        )
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise DataError(f'{source} needs Pillow; pip install "heron-sfl[images]"') from None


def _order(options: Options) -> list[str]:
    """The operator's own list of classes; empty where he gives none."""
    given = options.get("classes", [])
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise DataError(f"data.options.classes must be a list of sub-folders' names, got {given!r}; mend it")
    return [str(name) for name in given]
