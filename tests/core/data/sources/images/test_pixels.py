"""Real files of every mode and format become the same pixels, and what was changed in them is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.data.sources.images.pixels import ALPHA, DEEP, FRAMES, NO_EXIF, RESIZED, TURNED, read_image
from heron_core.data.sources.images.walk import SUFFIXES
from heron_core.errors import DataError

Image = pytest.importorskip("PIL.Image")
HEIGHT, WIDTH = 6, 8
PIXELS = (np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) * 1.7 % 256).astype(np.uint8)
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp"}
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "I;16", "I", "F"]


def picture(mode: str) -> Any:
    rgb = Image.fromarray(PIXELS)
    if mode == "LAB":
        return Image.new("LAB", (WIDTH, HEIGHT), (128, 0, 0))
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(rgb.convert("L")).astype(np.uint16) * 257
        return Image.fromarray(grey.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    return rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)


def read(file: Path, channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> tuple[Any, list[str]]:
    return read_image(file, (channels, height, width))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_in_every_format_becomes_its_pixels_or_is_refused(mode: str, tmp_path: Path) -> None:
    saved = 0
    for suffix in sorted(SUFFIXES):
        file = tmp_path / f"a{suffix}"
        try:
            picture(mode).save(file)
        except (OSError, KeyError, ValueError):  # this format does not hold this mode
            continue
        saved += 1
        try:
            rgb, changes = read(file)
        except DataError as error:
            assert mode in ("I", "F") and "numbers whose white is not known; save it with 8 or 16 bits" in str(error)
            continue
        grey, _ = read(file, channels=1)
        assert (rgb.shape, grey.shape) == ((3, HEIGHT, WIDTH), (1, HEIGHT, WIDTH))
        if mode in ("LAB", "PA") or (suffix == ".gif" and mode[0] in "IF"):
            continue  # Pillow's own conversion has no other to be compared with
        whole = picture("L" if mode.startswith("I") else mode).convert("RGB")
        wanted = np.asarray(whole).transpose(2, 0, 1)
        worst = np.abs(rgb.astype(float) - wanted).max()
        if suffix not in LOSSY and suffix != ".gif":
            assert worst == 0 and changes == ([DEEP] if mode.startswith("I") else []), suffix
        elif mode in ("L", "RGB"):
            assert worst < 12, suffix
    assert saved


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bits_are_the_same_scale_without_rounding(suffix: str, tmp_path: Path) -> None:
    deep = np.array([[0, 257, 40_000, 65_535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    pixels, changes = read_image(tmp_path / f"a{suffix}", (3, 1, 4))
    assert pixels.dtype == np.float32 and changes == [DEEP]
    assert pixels[0, 0].tolist() == pytest.approx([0, 1, 40_000 / 257, 255]) and (pixels == pixels[0]).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    turn = Image.Transpose

    undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_90,
            7: turn.TRANSVERSE, 8: turn.ROTATE_270}  # fmt: skip
    upright = Image.fromarray(np.kron(np.array([[250, 20, 20], [20, 120, 20]], np.uint8), np.ones((40, 32), np.uint8)))
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a{suffix}", exif=exif)
    pixels, changes = read(tmp_path / f"a{suffix}", 1, 4, 6)
    wanted = np.asarray(upright.resize((6, 4), Image.Resampling.BILINEAR))
    assert np.abs(pixels[0].astype(int) - wanted).max() < 40
    assert changes == [RESIZED] if orientation == 1 else changes == [TURNED, RESIZED]


def test_transparency_is_dropped_where_there_is_any_and_the_colours_beneath_stay(tmp_path: Path) -> None:
    Image.new("RGBA", (WIDTH, HEIGHT), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (WIDTH, HEIGHT), (10, 20, 30, 255)).save(tmp_path / "opaque.png")
    Image.new("P", (WIDTH, HEIGHT), 0).save(tmp_path / "palette.png", transparency=0)
    for name, changes in {"clear": [ALPHA], "opaque": []}.items():
        pixels, found = read(tmp_path / f"{name}.png")
        assert pixels[:, 0, 0].tolist() == [10, 20, 30] and found == changes
    assert read(tmp_path / "palette.png")[1] == [ALPHA]


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    for suffix in (".gif", ".tif"):
        red.save(tmp_path / f"a{suffix}", save_all=True, append_images=[blue])
        pixels, changes = read(tmp_path / f"a{suffix}")
        assert pixels[:, 0, 0].tolist() == [255, 0, 0] and changes == [FRAMES]


def test_exif_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    _, changes = read(tmp_path / "a.png")
    assert changes in ([], [NO_EXIF])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".tga"])
@pytest.mark.parametrize("left", [0, 10, 0.5, 0.9])
def test_a_truncated_file_is_refused_by_name_or_read_whole(left: float, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
    data = file.read_bytes()
    file.write_bytes(data[: round(left * len(data)) if 0 < left < 1 else int(left)])
    with pytest.raises(DataError, match=rf"a\{suffix} is not a readable image \(.+\); repair or remove it"):
        read(file)
