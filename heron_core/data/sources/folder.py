"""A folder of images, one sub-folder a class, read batch by batch. Needs Pillow, imported on first use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import TensorSpec
from heron_core.data.source import Batch, Normalisation
from heron_core.data.sources.asked import Asked, Options
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
NORMALISATION = Normalisation(mean=(0.5,), std=(0.5,))
"""Of images from users: 0..255 becomes -1..1."""
MODES = {1: "L", 3: "RGB"}


IMAGE = TensorSpec("x", (3, 32, 32))
"""What the images are resized to where no model says it."""


def load_folder(asked: Asked) -> ImageFolder:
    """The images of `path/<class>/`. Raises DataError."""
    path, inputs = asked.given_path(), asked.one_input()
    asked.takes_options("classes")
    return ImageFolder(path, inputs.shape, _listed(asked.options))


def folder_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """Colour images of a common size, each of one class."""
    return (IMAGE,), LabelSpec()


class ImageFolder:
    """Images under `path/<class>/`, resized (bilinear) to `input_shape` [C, H, W] with C 1 (grey) or 3 (RGB).

    The sorted names of the sub-folders are the labels 0, 1, ...; every client must have the same ones, empty
    where it has no such image, or `classes` lists them all. Files without an image's suffix are passed over.
    Raises DataError for a missing folder, no images, an unknown class, and later for an unreadable image.
    """

    def __init__(self, path: Path, input_shape: tuple[int, ...], classes: Sequence[str] | None = None) -> None:
        if len(input_shape) != 3 or input_shape[0] not in MODES:
            raise DataError(
                f"image_folder gives images [C, H, W] with C = 1 or 3, the model wants {list(input_shape)}; "
                "change model.input_shape or use another source"
            )
        _need_pillow()
        self._channels, self._height, self._width = input_shape
        self.class_names = _class_names(path, classes)
        found = [
            (file, label)
            for label, name in enumerate(self.class_names)
            for file in sorted((path / name).rglob("*"))
            if file.suffix.lower() in SUFFIXES and file.is_file()
        ]
        if not found:
            raise DataError(f"no images in the sub-folders of {path} ({', '.join(self.class_names)}); check data.path")
        self._files = [file for file, _ in found]
        self._labels = np.array([label for _, label in found], dtype=np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N]: the place of each image's sub-folder in `class_names`."""
        return self._labels

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The images at these indices, float32 [B, C, H, W] in -1 to 1, read now."""
        pixels = np.stack([self._pixels(self._files[i]) for i in indices])
        return (NORMALISATION.apply(pixels),), self._labels[indices]

    def _pixels(self, file: Path) -> NDArray[np.uint8]:
        """uint8 [C, H, W]."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                return self._convert(image)
        except Exception as error:  # each of Pillow's decoders raises its own
            raise DataError(f"{file} is not a readable image ({error}); repair or remove it") from error

    def _convert(self, image: Image) -> NDArray[np.uint8]:
        from PIL.Image import Resampling

        if image.mode.startswith(("I", "F")):  # Pillow would clip them to white
            raise ValueError(f"8 bits a channel are wanted, its mode is {image.mode}")
        mode, size = MODES[self._channels], (self._width, self._height)
        image.draft(mode, (2 * self._width, 2 * self._height))  # a large JPEG is decoded at a smaller size
        if "transparency" in image.info:
            image = image.convert("RGBA")
        resized = image.convert(mode).resize(size, Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype=np.uint8).reshape(self._height, self._width, self._channels)
        return pixels.transpose(2, 0, 1)


def _need_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise DataError('image_folder needs Pillow; pip install "heron-sfl[images]"') from None


def _listed(options: Options) -> list[str] | None:
    given = options.get("classes")
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise DataError(f"data.options.classes must be a list of sub-folders' names, got {given!r}; mend it")
    return [str(name) for name in given]


def _class_names(path: Path, classes: Sequence[str] | None) -> list[str]:
    if not path.is_dir():
        raise DataError(f"no image folder at {path}; set data.path in the client's file")
    here = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not here:
        raise DataError(f"{path} must hold one sub-folder for each class, got none; check data.path")
    if classes is None:
        return here
    if unknown := sorted(set(here) - set(classes)):
        raise DataError(
            f"{path} has sub-folders {unknown} that classes = {list(classes)} does not list; add or move them"
        )
    return list(classes)
