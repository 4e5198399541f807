"""Cases of real picture files: every format and mode that Pillow writes here, sizes, orientation, transparency."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from integration.generated_inputs import EACH, TEST_EACH, Case, Data, pictures
from PIL import Image, ImageOps

MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
FORMATS = {
    ".png": "PNG", ".PNG": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".JPG": "JPEG", ".bmp": "BMP", ".gif": "GIF",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
OTHERS = {
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
    ".tga": "TGA",
    ".ico": "ICO",
    ".pcx": "PCX",
    ".dds": "DDS",
    ".pdf": "PDF",
}
"""What a folder of images does not promise to read."""
NAMES = ("apple", "pear", "plum")
Save = Callable[[Image.Image, Path], Any]


def picture_cases() -> Iterator[Case]:
    """All of them. What Pillow cannot write is no case."""
    for suffix, form in {**FORMATS, **OTHERS}.items():
        for mode in MODES if suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".gif", ".ppm") else ("RGB", "L"):
            if can_save(mode, form):
                yield _format(suffix, form, mode)
    yield from _looks()


@cache
def can_save(mode: str, form: str) -> bool:
    """Does Pillow write this mode in this format?"""
    try:
        in_mode(Image.new("L", (8, 8)), mode).save(BytesIO(), form)
    except Exception:  # each of its encoders has its own
        return False
    return True


def in_mode(grey: Image.Image, mode: str) -> Image.Image:
    """The same picture in this mode; 16 bits use their whole range."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(grey).astype(np.uint16) * np.uint16(257))
    if mode in ("LAB", "RGBX", "PA"):
        from PIL import ImageCms

        if mode != "LAB":
            return grey.convert("RGB" if mode == "RGBX" else "P").convert(mode)
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.profileToProfile(grey.convert("RGB"), *profiles, outputMode="LAB")
        assert made is not None
        return made
    return grey.convert("RGB").convert(mode) if mode in ("HSV", "YCbCr", "CMYK") else grey.convert(mode)


def write_folder(
    root: Path, who: str = "a", each: int = EACH, *, names: tuple[str, ...] = NAMES, suffix: str = ".png",
    save: Save = lambda picture, path: picture.save(path),
) -> Data:  # fmt: skip
    """A folder of images with these classes in label order; the table that names it."""
    pixels, labels = pictures(who, each)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        save(Image.fromarray(picture[0]), folder / f"{number:03}{suffix}")
    return {"source": "image_folder", "path": str(root)}


def others_of(names: tuple[str, ...] = NAMES) -> Callable[[Path], tuple[Data, Data]]:
    """The other client and the server's test set, as folders with the same classes."""

    def others(folder: Path) -> tuple[Data, Data]:
        place = folder / f"others-{sha256(repr(names).encode()).hexdigest()[:16]}"
        b, test = place / "client_b", place / "test_set"
        if not place.exists():
            write_folder(b, "b", names=names)
            write_folder(test, "test", TEST_EACH, names=names)
        return {"source": "image_folder", "path": str(b)}, {"source": "image_folder", "path": str(test)}

    return others


def picture_case(name: str, save: Save, *, suffix: str = ".png", **more: Any) -> Case:
    """All pictures of client a, saved in this way."""
    more = {"culprit": r"client_a|^a: input 'input' is", "others": others_of(), **more}
    return Case(f"pictures {name}", lambda folder: write_folder(folder / "client_a", save=save, suffix=suffix), **more)


def _format(suffix: str, form: str, mode: str) -> Case:
    def save(picture: Image.Image, path: Path) -> None:
        in_mode(picture, mode).save(path, form)

    return picture_case(f"{suffix} {mode}", save, suffix=suffix, equal=suffix in FORMATS and _keeps(mode, form))


@cache
def _keeps(mode: str, form: str) -> bool:
    """Does whoever opens the file with Pillow find the same values?"""
    grey, file = pictures("a")[0][0, 0], BytesIO()
    in_mode(Image.fromarray(grey), mode).save(file, form)
    with Image.open(file) as found:
        return not found.mode.startswith(("I", "F")) and bool(
            (np.asarray(found.convert("RGB")) == grey[..., None]).all()
        )


def _looks() -> Iterator[Case]:
    """What a camera, a phone and a drawing program make of pictures."""
    for turned in range(1, 9):
        yield picture_case(f"turned as EXIF {turned} says", _turned(turned), equal=True)
    yield picture_case("opaque", lambda p, path: _with_alpha(p, 255).save(path), equal=True)
    yield picture_case("see-through", lambda p, path: _with_alpha(p, 0).save(path), equal=True)
    yield picture_case("with a transparent colour", lambda p, path: p.save(path, transparency=255), equal=True)
    yield picture_case(
        "with a transparent palette", lambda p, path: p.convert("P").save(path, transparency=b"\0\xff"), equal=True
    )
    for factor in (2, 3, 40):
        yield picture_case(f"{factor} times as large", lambda p, path, f=factor: _larger(p, f).save(path))
    yield picture_case("wide", lambda p, path: p.resize((24, 8), Image.Resampling.NEAREST).save(path))
    yield picture_case(
        "with a profile", lambda p, path: p.convert("RGB").save(path, icc_profile=_profile()), equal=True
    )
    jpeg = {"suffix": ".jpg"}
    yield picture_case("progressive", lambda p, path: p.save(path, progressive=True, quality=95), **jpeg)
    yield picture_case("poor", lambda p, path: p.save(path, quality=10), **jpeg)
    yield picture_case("of a large JPEG", lambda p, path: _larger(p, 40).save(path, quality=90), **jpeg)
    for suffix in (".gif", ".tif", ".webp", ".png"):
        yield picture_case(f"animated {suffix}", _animated, suffix=suffix, equal=suffix != ".webp")
    yield picture_case("of another suffix", lambda p, path: p.save(path, "PNG"), suffix=".jpg", equal=True)


def _turned(orientation: int) -> Save:
    """Stored as a camera that was held otherwise stores it: upright once the tag is heeded."""

    def save(picture: Image.Image, path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        for step in (None, *Image.Transpose):
            stored = picture if step is None else picture.transpose(step)
            with_tag = stored.copy()
            with_tag.getexif()[0x0112] = orientation
            if np.array_equal(np.asarray(ImageOps.exif_transpose(with_tag)), np.asarray(picture)):
                stored.save(path, exif=exif)
                return
        raise AssertionError(f"no way to store orientation {orientation}")

    return save


def _with_alpha(picture: Image.Image, alpha: int) -> Image.Image:
    made = picture.convert("RGBA")
    made.putalpha(alpha)
    return made


def _larger(picture: Image.Image, factor: int) -> Image.Image:
    return picture.resize((8 * factor, 8 * factor), Image.Resampling.NEAREST)


def _animated(picture: Image.Image, path: Path) -> None:
    picture.save(path, save_all=True, append_images=[ImageOps.invert(picture)])


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
