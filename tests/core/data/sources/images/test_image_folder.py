"""A folder of images says what it passes over and changes, and a path at the wrong level is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import Source, check_source, load_own
from heron_core.data.facts import class_names_of, skipped_of, stored_dtypes_of
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

Image = pytest.importorskip("PIL.Image")


def load(
    path: Path, shape: tuple[int, ...] = (3, 4, 6), *, classes: int = 0, names: tuple[str, ...] = (),
    order: tuple[str, ...] = (),
) -> Source:
    inputs, labels, options = (TensorSpec("input", shape),), LabelSpec(count=classes), {"classes": order}
    return load_own("image_folder", path=path, options=options, inputs=inputs, labels=labels, class_names=names)


def save(path: Path, colour: Any = 0, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    save(tmp_path / "dog" / "b.png", (255, 0, 51))
    save(tmp_path / "cat" / "a.JPG", (255, 255, 255), size=(600, 400))
    save(tmp_path / "dog" / "deeper" / "c.bmp", mode="L")
    return tmp_path


def test_an_image_folder_has_a_class_for_each_sub_folder(pets: Path) -> None:
    source = load(pets)
    assert source.labels.tolist() == [0, 1, 1] and source.labels.dtype == np.int64
    assert (class_names_of(source), stored_dtypes_of(source), bool(skipped_of(source))) == (
        ("cat", "dog"), ("uint8",), False,
    )  # fmt: skip
    check_source(source, (TensorSpec("x", (3, 4, 6)),), LabelSpec(count=2))
    (x,), labels = source.batch(np.array([1, 0, 2]))
    assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (3, 3, 4, 6), True)
    assert labels.tolist() == [1, 0, 1]
    assert x[0, :, 2, 2].tolist() == pytest.approx([1, -1, -0.6]) and x[1].min() > 0.98 and x[2].max() == -1


def test_images_become_grey_for_one_channel(pets: Path) -> None:
    (x,), _ = load(pets, (1, 4, 4)).batch(np.arange(3))
    assert x.shape == (3, 1, 4, 4)


def test_images_are_read_when_they_are_asked_for(pets: Path) -> None:
    source = load(pets)
    (pets / "cat" / "a.JPG").write_bytes(b"torn")
    source.batch(np.array([1]))
    with pytest.raises(DataError, match=r"a\.JPG is not a readable image .*; repair or remove it"):
        source.batch(np.array([1, 0]))


def test_16_and_8_bits_stand_beside_each_other_in_one_batch(tmp_path: Path) -> None:
    save(tmp_path / "scan" / "a.png", 200 * 257, mode="I;16")
    save(tmp_path / "scan" / "b.png", 200, mode="L")
    (x,), _ = load(tmp_path).batch(np.arange(2))
    assert x.dtype == np.float32 and np.array_equal(x[0], x[1])


def test_what_is_passed_over_is_counted_by_reason(pets: Path) -> None:
    clean = load(pets)
    for name in ("._b.png", ".hidden.png", ".thumbs/x.png", "__MACOSX/._x.png", "lost+found/y.png", "zoo/._only.png"):
        save(pets / name)
        save(pets / "dog" / "deeper" / name)
    for name in ("Thumbs.db", "dog/notes.TXT", "dog/raw", "cat/scan.heic", "cat/scan2.heic"):
        (pets / name).write_bytes(b"")
    save(pets / "loose.png")
    (pets / "empty").mkdir()
    (pets / "dog" / "away.png").symlink_to(pets / "nowhere.png")
    (pets / "dog" / "round").symlink_to(pets / "dog")
    source = load(pets)
    counted = {reason.why: (reason.count, reason.first) for reason in skipped_of(source).reasons}
    assert counted == {
        "hidden": (4, ".hidden.png"),
        "macOS resource files (._*)": (4, "._b.png"),
        "folders of the system": (4, "__MACOSX"),
        ".db files (not read)": (1, "Thumbs.db"),
        ".txt files (not read)": (1, "dog/notes.TXT"),
        ".heic files (not read)": (2, "cat/scan.heic"),
        "files without a suffix (not read)": (1, "dog/raw"),
        "images outside the class folders": (1, "loose.png"),
        "class folders without an image": (2, "empty"),
        "no regular files, or links that lead nowhere": (1, "dog/away.png"),
        "links to folders (not followed)": (1, "dog/round"),
    }
    assert np.array_equal(source.batch(np.arange(3))[0][0], clean.batch(np.arange(3))[0][0])


def test_what_is_changed_is_counted_once_an_image(pets: Path) -> None:
    save(pets / "cat" / "exact.png", size=(6, 4))
    folder: Any = load(pets)
    while hasattr(folder, "wraps"):
        folder = folder.wraps
    assert not folder.changed
    folder.batch(np.arange(4))
    folder.batch(np.arange(4))
    assert str(folder.changed) == f"3 resized (first: {pets / 'cat' / 'a.JPG'})"


def test_a_link_may_be_a_class(pets: Path) -> None:
    (pets / "elsewhere").mkdir()
    (pets / "dog").rename(pets / "elsewhere" / "dog")
    (pets / "dog").symlink_to(pets / "elsewhere" / "dog")
    assert load(pets, names=("cat", "dog", "elsewhere"), classes=3).labels.tolist() == [0, 1, 1, 2, 2]


def test_listed_classes_number_the_labels_where_a_client_lacks_some(pets: Path) -> None:
    assert load(pets, order=("bird", "cat", "dog")).labels.tolist() == [1, 2, 2]
    with pytest.raises(DataError, match=r"has the folders cat, which data\.options\.classes = dog does not list"):
        load(pets, order=("dog",))
    with pytest.raises(DataError, match=r"data\.options\.classes must be a list of sub-folders' names, got 'cat'"):
        load(pets, order="cat")  # type: ignore[arg-type]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image folder at .*absent; set data\.path"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="must hold one sub-folder for each class, got none"):
        load(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"no images in the sub-folders of .* \(cat\)"):
        load(tmp_path)


@pytest.mark.parametrize("names", [("cat", "dog"), ()])
@pytest.mark.parametrize("beside", [[], ["test"], ["test", "README"]])
def test_a_path_one_level_too_high_is_told_and_the_advice_followed_is_right(
    beside: list[str], names: tuple[str, ...], pets: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "train").symlink_to(pets)
    for name in beside:
        if name.isupper():
            (root / name).write_text("pets")
        else:
            (root / name).symlink_to(pets)
    with pytest.raises(DataError, match=r"the classes lie one level deeper \(cat, dog\)") as caught:
        load(root, classes=2, names=names)
    advice = Path(str(caught.value).rpartition("set data.path to ")[2])
    assert load(advice, classes=2, names=names).labels.tolist() == [0, 1, 1]


def test_a_path_one_level_too_low_is_told_and_the_advice_followed_is_right(pets: Path) -> None:
    (pets / "dog" / "deeper" / "c.bmp").rename(pets / "dog" / "c.bmp")
    (pets / "dog" / "deeper").rmdir()
    with pytest.raises(DataError, match="it holds images itself, as a folder of one class does") as caught:
        load(pets / "dog", classes=2)
    advice = Path(str(caught.value).rpartition("set data.path to ")[2])
    assert load(advice, classes=2).labels.tolist() == [0, 1, 1]


def test_classes_that_are_called_train_and_test_are_classes_where_the_run_says_so(tmp_path: Path) -> None:
    for name in ("train", "test"):
        save(tmp_path / name / "x" / "a.png")
        save(tmp_path / name / "y" / "a.png")
    assert load(tmp_path, classes=2, names=("train", "test")).labels.tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match="one level deeper"):
        load(tmp_path, classes=2)


def test_classes_whose_images_are_grouped_in_folders_stay_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path / name / "monday" / "a.png")
        save(tmp_path / name / "friday" / "a.png")
    assert load(tmp_path, classes=2).labels.tolist() == [0, 0, 1, 1]


def test_a_model_that_wants_no_image_is_told(pets: Path) -> None:
    with pytest.raises(DataError, match=r"C = 1 or 3, the model wants \[784\]"):
        load(pets, (784,))


def test_without_pillow_the_extra_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DataError, match=r'needs Pillow; pip install "heron-sfl\[images\]"'):
        load(pets)
