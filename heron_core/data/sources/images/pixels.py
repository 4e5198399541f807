"""One image file as numbers, and what had to be changed in it.

Shape letters: C channels, H height, W width.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heron_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MODES = {1: "L", 3: "RGB"}
SIXTEEN_BITS = 65535 / 255
"""White of 16 bits over white of 8."""
ORIENTATION = 0x0112
TURNED = "turned upright, as EXIF says"
NO_EXIF = "with EXIF data that cannot be read, taken as upright"
ALPHA = "with transparency, which was dropped: the colours beneath it stay"
DEEP = "of 16 bits, brought to the scale of 8 without rounding"
FRAMES = "of several frames, the first was taken"
RESIZED = "resized"

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""[C, H, W] in 0 to 255; float32 where the file holds 16 bits."""


def how_read(shape: tuple[int, ...]) -> str:
    """For people: what becomes of an image that is to have `shape` [C, H, W]."""
    channels, height, width = shape
    colours = MODES[channels]
    return f"{colours}, turned upright as EXIF says, resized to {width} x {height}, transparency dropped"


def read_image(file: Path | BytesIO, shape: tuple[int, ...], name: str = "") -> tuple[Pixels, list[str]]:
    """The pixels at `shape` [C, H, W], and what was changed for that. Raises DataError for an unreadable file.

    `name`: whose it is, where the path does not say.
    """
    from PIL import Image

    try:
        # a stream, because Pillow 13 maps a grey TIFF that it got by name, and reads one that lies on its side wrongly
        with file.open("rb") if isinstance(file, Path) else file as stream, Image.open(stream) as image:
            return _converted(image, shape)
    except Exception as error:  # each of Pillow's decoders raises its own
        reason = " ".join(str(error).replace(str(file), "it").split()) or type(error).__name__
        raise DataError(f"{name or file} is not a readable image ({reason}); repair or remove it") from error


def _converted(image: PILImage, shape: tuple[int, ...]) -> tuple[Pixels, list[str]]:
    from PIL import Image
    from PIL.Image import Resampling

    channels, height, width = shape
    changes = [FRAMES] if getattr(image, "is_animated", False) else []
    orientation, whole = _orientation(image, changes), image.size
    wanted = (height, width) if orientation >= 5 else (width, height)
    image.draft(MODES[channels], (2 * wanted[0], 2 * wanted[1]))  # a large JPEG is decoded at a smaller size
    is_drafted, is_sixteen = image.size != whole, _is_sixteen_bits(image)
    image.load()
    image = _turned(image, orientation)
    if is_drafted or image.size != (width, height):
        changes.append(RESIZED)
    if is_sixteen:
        changes.append(DEEP)
        grey = Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(SIXTEEN_BITS))
        resized = np.asarray(grey.resize((width, height), Resampling.BILINEAR), dtype=np.float32)
        return np.repeat(resized[None], channels, axis=0), changes
    if _is_transparent(image):
        changes.append(ALPHA)
    plain = _plain(image, MODES[channels]).resize((width, height), Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1), changes


def _orientation(image: PILImage, changes: list[str]) -> int:
    """EXIF's 1 to 8; 1, upright, where there is none. Reading it may raise anything."""
    try:
        found: Any = image.getexif().get(ORIENTATION, 1)
    except Exception:
        changes.append(NO_EXIF)
        return 1
    turned = isinstance(found, int) and 2 <= found <= 8
    if turned:
        changes.append(TURNED)
    return found if turned else 1


def _turned(image: PILImage, orientation: int) -> PILImage:
    """Upright. Pillow has turned a TIFF by itself."""
    from PIL.Image import Transpose

    if orientation == 1 or image.format == "TIFF":
        return image
    return image.transpose(
        {
            2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
        }[orientation]
    )  # fmt: skip


def _is_sixteen_bits(image: PILImage) -> bool:
    """Is it grey of 16 bits? Raises ValueError for other numbers than bytes: their white is not known."""
    if not image.mode.startswith(("I", "F")):
        return False
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return True
    raise ValueError(f"its mode is {image.mode}, numbers whose white is not known; save it with 8 or 16 bits a channel")


def _is_transparent(image: PILImage) -> bool:
    """Is there a pixel that is not opaque?"""
    if "transparency" in image.info:
        return True
    bands = image.getbands()
    if bands[-1] not in ("A", "a"):
        return False
    low: Any = image.getchannel(bands[-1]).getextrema()[0]
    return bool(low < 255)


def _plain(image: PILImage, mode: str) -> PILImage:
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "LAB":  # the only one without a way of its own to grey
        image = image.convert("RGB")
    return image.convert(mode)
