"""A Hugging Face dataset on the disk gives what its columns hold: images, numbers, classes by their names."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_text

from heron_core.arrays import Array, TensorSpec
from heron_core.data import Source, load_own
from heron_core.data.contract import contract_of
from heron_core.data.facts import changed_of, class_names_of, skipped_of, stored_dtypes_of
from heron_core.data.sources.own import KINDS
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.testing import check_dataset

CLASSES = LabelSpec(count=2)
NUMBERS = [[0.5, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


@pytest.fixture
def hf() -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets


def saved(folder: Path, features: dict[str, Any] | None = None, **columns: Any) -> Path:
    """`features`: of the columns whose kind their values do not say."""
    import datasets

    made = datasets.Dataset.from_dict(columns)
    for name, feature in (features or {}).items():
        made = made.cast_column(name, feature)
    made.save_to_disk(folder / "set")
    return folder / "set"


def load(
    path: Path, shape: tuple[int, ...] = (3,), dtype: str = "float32", labels: LabelSpec = CLASSES,
    names: tuple[str, ...] = (), skip: bool = False, variable: bool = False, **options: object,
) -> Source:  # fmt: skip
    inputs = (TensorSpec("x", shape, dtype, variable),)
    return load_own(
        "hugging_face", path=path, options=options, inputs=inputs, labels=labels, class_names=names,
        on_bad_sample="skip" if skip else "refuse",
    )  # fmt: skip


def samples(source: Source) -> tuple[Array, list[Any]]:
    (x,), labels = source.batch(np.arange(len(source)))
    assert labels.tolist() == source.labels.tolist() and x.flags.c_contiguous
    return x, labels.tolist()


@pytest.mark.parametrize("length", [-1, 3])
def test_lists_of_numbers_are_taken_as_they_are(length: int, hf: Any, tmp_path: Path) -> None:
    features = {"x": hf.Sequence(hf.Value("float64"), length=length)}
    source = load(saved(tmp_path, features, x=NUMBERS, y=[0, 1, 1, 0], other=["a", "b", "c", "d"]))
    x, labels = samples(source)
    assert (x.dtype.name, x.tolist(), labels) == ("float32", NUMBERS, [0, 1, 1, 0])
    assert stored_dtypes_of(source) == ("float64",) and class_names_of(source) == ()
    contract = contract_of(source, (TensorSpec("x", (3,)),))
    assert contract.source == "hugging_face" and contract.inputs[0].is_plain
    check_dataset(lambda: source)


@pytest.mark.parametrize("kind", ["lists", "Array3D"])
def test_bytes_are_pixels_where_the_model_takes_floating_point(kind: str, hf: Any, tmp_path: Path) -> None:
    x = np.arange(48, dtype=np.uint8).reshape(4, 1, 3, 4) * 5
    features = {"x": hf.Array3D((1, 3, 4), "uint8")} if kind == "Array3D" else {}
    source = load(saved(tmp_path, features, x=x, y=[0, 1, 0, 1]), (1, 3, 4))
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 0, 1])
    inputs = (TensorSpec("x", (1, 3, 4)),)
    twin = load_own("npz", path=tmp_path / "a.npz", options={}, inputs=inputs, labels=CLASSES)
    np.testing.assert_array_equal(samples(source)[0], samples(twin)[0])
    assert contract_of(source, inputs).inputs == contract_of(twin, inputs).inputs


def test_images_are_those_of_a_folder(hf: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    exif = image.Exif()
    exif[0x0112] = 6
    pictures = []
    for number, name in enumerate(["cat", "dog"]):
        (tmp_path / "folder" / name).mkdir(parents=True)
        file = tmp_path / "folder" / name / "a.png"
        picture = image.fromarray(rng.integers(0, 256, (7, 9, 3 + number), dtype=np.uint8))
        picture.save(file, exif=exif if number == 0 else None)
        pictures.append({"bytes": file.read_bytes(), "path": None})
    features = {"image": hf.Image(), "label": hf.ClassLabel(names=["dog", "cat"])}
    path = saved(tmp_path, features, image=pictures, label=[1, 0])
    source = load(path, (3, 4, 6), x="image", y="label", names=("cat", "dog"))
    inputs = (TensorSpec("x", (3, 4, 6)),)
    twin = load_own("image_folder", path=tmp_path / "folder", options={}, inputs=inputs, labels=CLASSES)
    x, labels = samples(source)
    np.testing.assert_array_equal(x, samples(twin)[0])
    assert labels == [0, 1] and stored_dtypes_of(source) == ("uint8",)
    assert contract_of(source, inputs).inputs == contract_of(twin, inputs).inputs
    changed, twins = ([(each.why, each.count) for each in changed_of(s).reasons] for s in (source, twin))
    assert changed == twins and len(changed) == 3
    assert str(KINDS["hugging_face"].specs(path, {"x": "image", "y": "label"})[0][0]) == "float32 [3, 32, 32]"


def test_classes_are_matched_by_name(hf: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, {"y": hf.ClassLabel(names=["ill", "well"])}, x=NUMBERS, y=[0, 1, 1, 0])
    assert class_names_of(load(path)) == ("ill", "well")
    assert samples(load(path, names=("well", "ill")))[1] == [1, 0, 0, 1]
    with pytest.raises(DataError, match="the data's class 'ill' is none of the run's classes"):
        load(path, names=("well", "sick"))


def test_words_are_names_of_classes_too(hf: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, x=NUMBERS, y=["well", "ill", "ill", "well"])
    assert samples(load(path, names=("well", "ill")))[1] == [0, 1, 1, 0]


def test_labels_of_other_tasks(hf: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, x=NUMBERS, number=[0.5, 1, 2, 3], many=[[0, 1], [1, 1], [0, 0], [1, 0]])
    assert samples(load(path, labels=LabelSpec((1,), "float32"), y="number"))[1] == [[0.5], [1], [2], [3]]
    assert samples(load(path, labels=LabelSpec((2,), "int64"), y="many"))[1] == [[0, 1], [1, 1], [0, 0], [1, 0]]
    assert "labels float32 [1]" in str(check_dataset(f"hugging_face:{path}", options={"y": "number"}))


def test_sequences_of_differing_length_are_padded(hf: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, x=[[1, 2, 3], [4], [5, 6]], y=[1, 0, 1])
    x, labels = samples(load(path, (8,), "int64", variable=True))
    assert x.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]] and labels == [1, 0, 1]


def test_the_files_stay_on_the_disk(hf: Any, tmp_path: Path) -> None:
    import pyarrow

    x = np.arange(4 * 250_000, dtype=np.float32).reshape(4, -1)
    path = saved(tmp_path, x=x, y=[0, 1, 0, 1])
    before = pyarrow.total_allocated_bytes()
    source = load(path, (250_000,))
    (read,), _ = source.batch(np.array([2]))
    assert (read[0] == x[2]).all() and pyarrow.total_allocated_bytes() - before < x.nbytes / 8


def test_splits_are_refused_with_the_path_to_one(hf: Any, tmp_path: Path) -> None:
    part = hf.Dataset.from_dict({"x": NUMBERS, "y": [0, 1, 1, 0]})
    hf.DatasetDict({"test": part, "train": part}).save_to_disk(tmp_path / "all")
    with pytest.raises(DataError, match=r"all holds the splits test, train; set data\.path to .*all/train") as error:
        load(tmp_path / "all")
    assert len(load(Path(str(error.value).rpartition(" to ")[2]))) == 4


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": NUMBERS, "label": [0] * 4}, r"set has no column 'y', it has x, label; name them in data\.options"),
        ({"x": NUMBERS, "y": [0, None, 1, 1]}, r"set: sample 1 has no 'y'; leave it out with dataset\.filter"),
        ({"x": ["a"], "y": [0]}, r"'x' must be floating point, uint8 or images, got Value\(.*'string'.*; numbers "),
    ],
)
def test_what_cannot_be_used_is_refused(columns: dict[str, Any], said: str, hf: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load(saved(tmp_path, **columns))


def test_a_sample_that_cannot_be_used_is_named_or_passed_over(hf: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, x=[[1.0, 2, 3], [1.0, None, 3], [1.0, 2], [4.0, 5, 6]], y=[0, 1, 1, 1])
    for number, said in ((1, r"set: sample 1 lacks values of 'x'; fill"), (2, r"sample 2: .*got \[2\]")):
        with pytest.raises(DataError, match=said):
            load(path).batch(np.array([number]))
    source = load(path, skip=True)
    assert len(source) == 2 and skipped_of(source).count == 2
    ragged = saved(tmp_path / "b", x=[[[1.0, 2], [3]]], y=[0])
    with pytest.raises(DataError, match="sample 0: the lists of 'x' must be equally long; pad or cut them"):
        load(ragged, (2, 2))


def test_an_image_that_cannot_be_read_is_named(hf: Any, tmp_path: Path) -> None:
    image, buffer = pytest.importorskip("PIL.Image"), BytesIO()
    image.new("L", (5, 5), 7).save(buffer, "png")
    stored = [{"bytes": buffer.getvalue(), "path": None}, {"bytes": b"no image", "path": None}, None]
    source = load(saved(tmp_path, {"x": hf.Image()}, x=stored, y=[0, 1, 1]), (1, 4, 4))
    assert source.batch(np.array([0]))[0][0].shape == (1, 1, 4, 4)
    with pytest.raises(DataError, match=r"set: sample 1 is not a readable image \(cannot identify"):
        source.batch(np.array([1]))
    with pytest.raises(DataError, match=r"set: sample 2 has no 'x'"):
        source.batch(np.array([2]))
    with pytest.raises(DataError, match=r"hugging_face gives images \[C, H, W\] with C = 1 or 3, the model wants"):
        load(tmp_path / "set")


def test_the_cure_for_integers_leads_to_what_pixels_become(hf: Any, tmp_path: Path) -> None:
    x = np.arange(12).reshape(4, 3) * 23
    path = saved(tmp_path, x=x, y=[0, 1, 0, 1])
    with pytest.raises(DataError, match=r"'x' must be floating point.*got int64; pixels: make it") as error:
        load(path)
    told = re.search(r"pixels: make it (.*?), which is", str(error.value))
    assert told is not None
    cured = hf.load_from_disk(path).map(lambda row: {"x": eval(told[1], {"numpy": np, "row": row})})
    cured.save_to_disk(tmp_path / "cured")
    pixels = saved(tmp_path / "pixels", x=x.astype(np.uint8), y=[0, 1, 0, 1])
    np.testing.assert_allclose(samples(load(tmp_path / "cured"))[0], samples(load(pixels))[0], atol=1e-6)


def test_what_is_no_dataset_is_refused(hf: Any, tmp_path: Path) -> None:
    none = hf.Dataset.from_dict({"x": NUMBERS, "y": [0] * 4}).select([])
    none.save_to_disk(tmp_path / "none", num_shards=1)
    with pytest.raises(DataError, match="none holds no samples, at least one is needed"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match=r"is not a readable dataset \(.*\); save it there with dataset\.save_to_disk"):
        load(tmp_path)
    path = saved(tmp_path, x=NUMBERS, y=[0, 1, 1, 0])
    torn = next(path.glob("*.arrow"))
    torn.write_bytes(torn.read_bytes()[:100])
    with pytest.raises(DataError, match=r"set is not a readable dataset"):
        load(path)


def test_columns_of_text_become_a_language_models_tokens(hf: Any, tmp_path: Path) -> None:
    tiny_text.folder(tmp_path)
    path = saved(tmp_path, prompt=["1+1=", "2+2="], completion=["2", "four"], id=[7, 8])
    given = {"options": {}, "inputs": (tiny_text.tokens(),), "labels": tiny_text.labels()}
    source = load_own("hugging_face", path=path, text=tiny_text.asked(tmp_path), **given)
    (tokens,), labels = source.batch(np.arange(2))
    assert tokens.shape == labels.shape == (2, 8) and (labels != -100).sum(axis=1).tolist() == [2, 5]


def test_without_its_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'needs datasets; pip install "heron-sfl\[hugging_face\]"'):
        load(tmp_path)
