"""Bad samples are all found at once, or skipped and counted; what is odd but usable is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import ArraySource, Normalisation, check_source, load_own
from heron_core.data.adapted import AdaptedDataset
from heron_core.data.facts import class_names_of, facts_of, skipped_of
from heron_core.data.own.kept import without_bad
from heron_core.data.own.remarks import doubts, notes
from heron_core.data.own.survey import survey
from heron_core.errors import DataError
from heron_core.labels import IGNORED, LabelSpec

SPEC, LABELS = (TensorSpec("x", (1, 4, 4)),), LabelSpec(count=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for name in ("apfel", "birne", "kirsche"):
        (tmp_path / name).mkdir()
        for number in range(4):
            image.new("L", (4, 4), 50 * number).save(tmp_path / name / f"{number}.png")
    for number in range(4):
        (tmp_path / "birne" / f"{number}.png").write_bytes(b"torn")
    first = tmp_path / "apfel" / "0.png"
    image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(first)
    first.write_bytes(first.read_bytes()[:800])
    return tmp_path


def load(folder: Path, on_bad_sample: Any = "skip", kind: str = "image_folder") -> Any:
    return load_own(kind, path=folder, options={}, inputs=SPEC, labels=LABELS, on_bad_sample=on_bad_sample)


def test_bad_images_are_skipped_counted_and_their_class_keeps_its_number(folder: Path) -> None:
    source = load(folder)
    check_source(source, SPEC, LABELS)
    assert source.labels.tolist() == [0, 0, 0, 2, 2, 2, 2] == source.batch(np.arange(7))[1].tolist()
    assert class_names_of(source) == ("apfel", "birne", "kirsche")
    (reason,) = skipped_of(source).reasons
    assert (reason.count, reason.why) == (5, "samples that cannot be read")
    assert reason.first.startswith(f"{folder / 'apfel' / '0.png'} is not a readable image (")
    assert facts_of(source, SPEC, LABELS).skipped.count == 5


def test_by_default_a_bad_image_is_refused(folder: Path) -> None:
    source = load(folder, "refuse")
    with pytest.raises(DataError, match=r"0\.png is not a readable image"):
        source.batch(np.arange(12))


def test_samples_with_nan_are_skipped_and_a_wrong_label_is_refused_all_the_same(tmp_path: Path) -> None:
    x = np.zeros((4, 1, 4, 4), np.float32)
    x[1, 0, 2, 3], x[2, 0, 0, 0] = np.nan, np.inf
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4) % 3)
    source = load(tmp_path / "a.npz", kind="npz")
    assert source.labels.tolist() == [0, 0]
    assert str(skipped_of(source)).startswith("2 samples that the model cannot take (first: sample 1: x must be finite")
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4) + 7)
    with pytest.raises(DataError, match="labels must be 0 to 2"):
        check_source(load(tmp_path / "a.npz", kind="npz"), SPEC, LABELS)


def test_where_no_sample_is_left_the_first_says_why() -> None:
    source = AdaptedDataset([(np.zeros(2), 0)], SPEC, LABELS)
    with pytest.raises(DataError, match=r"none of the 1 samples can be used, the first: sample 0: x must have"):
        without_bad(source, SPEC, LABELS)
    with pytest.raises(DataError, match=r"none of the 0 samples can be used; check"):
        without_bad(AdaptedDataset([], SPEC, LABELS), SPEC, LABELS)


def test_sequences_of_differing_length_are_kept_with_their_labels() -> None:
    spec = (TensorSpec("x", (5,), "int64", variable=True),)
    labels = LabelSpec((5,), variable=True, count=9, maskable=True)
    texts: list[Any] = [(np.arange(3), np.arange(3)), ("torn", "torn"), (np.arange(5), np.arange(5))]
    kept = without_bad(AdaptedDataset(texts, spec, labels), spec, labels)
    assert kept.labels.tolist() == [[0, 1, 2, IGNORED, IGNORED], [0, 1, 2, 3, 4]]
    assert kept.batch(np.array([1]))[0][0].tolist() == [[0, 1, 2, 3, 4]]


def test_a_survey_opens_every_sample_once_and_groups_what_is_wrong_by_kind(folder: Path) -> None:
    ticks: list[int] = []
    found = survey(load(folder, "refuse"), SPEC, LABELS, lambda: ticks.append(1))
    assert (len(ticks), found.samples, found.bad, len(found.problems)) == (12, 12, 5, 2)
    torn, truncated = sorted(found.problems, key=lambda problem: -problem.count)
    assert (torn.count, truncated.count) == (4, 1)
    assert [line.partition(" is ")[0] for line in torn.lines()] == [
        *(str(folder / "birne" / f"{number}.png") for number in range(3)), "and 1 more such",
    ]  # fmt: skip
    assert found.facts is not None and found.facts.inputs[0].looked_at == 7


def test_a_survey_finds_what_user_code_raises_values_and_labels() -> None:
    class Odd(list[Any]):
        def __getitem__(self, i: Any) -> Any:
            if i in (3, 4):
                raise OSError(f"no disk {i}")
            x = np.zeros((1, 4, 4), np.float32)
            x[0, 0, i % 4] = np.nan if i in (1, 2) else 0
            return x, 1 + i % 3

    found = survey(AdaptedDataset(Odd(range(9)), SPEC, LABELS), SPEC, LABELS)
    assert sorted((problem.count, problem.examples[0].partition(" (test_")[0]) for problem in found.problems) == [
        (2, "Odd[3] failed: OSError: no disk 3"),
        (2, "sample 1: x must be finite, got NaN or Inf at [0, 0, 1]; mend the data"),
        (2, "sample 5: labels must lie in 0..2, got 3..3; mend the data, or the model's task"),
    ]


def test_a_survey_of_good_data_has_no_problem_and_of_none_no_facts() -> None:
    good = ArraySource(np.zeros((4, 1, 4, 4), np.float32), np.arange(4) % 3)
    assert survey(good, SPEC, LABELS).problems == ()
    none = survey(AdaptedDataset([(None, 0)], SPEC, LABELS), SPEC, LABELS)
    assert (none.facts, none.bad) == (None, 1)


def noise(low: float, high: float, dtype: Any = np.float32, shape: tuple[int, ...] = (1, 4, 4)) -> Any:
    return np.random.default_rng(0).uniform(low, high, (30, *shape)).astype(dtype)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (noise(0, 255), "is taken as it is, where pixels in uint8 become -1..1; store uint8, or make it ((x / 255"),
        (noise(0, 65535), "((x / 65535 - 0.5) / 0.5).astype(numpy.float32)"),
        (noise(0, 0), "all values of x are 0"),
        (noise(0, 17, np.uint8), "uses 16 of these steps only"),
        (noise(-9, 1e6, shape=(3,)), "bring each column to mean 0 and standard deviation 1"),
        (noise(-1, 1), ""),
        (noise(0, 1), ""),
        (noise(0, 255, np.uint8), ""),
        (noise(-3, 200, shape=(3,)), ""),
    ],
)
def test_an_odd_scale_is_remarked(x: Any, says: str) -> None:
    pixels = Normalisation((0.5,), (0.5,)) if x.dtype == np.uint8 else None
    source, spec = ArraySource(x, np.arange(30) % 3, pixels), (TensorSpec("x", x.shape[1:]),)
    said = doubts(source, facts_of(source, spec, LABELS), LABELS)
    assert len(said) == bool(says) and says in "".join(said)


def test_the_advice_on_an_odd_scale_followed_is_what_uint8_becomes() -> None:
    x = noise(0, 255, np.uint8)
    floats = ArraySource(x.astype(np.float32), np.arange(30) % 3)
    (said,) = doubts(floats, facts_of(floats, SPEC, LABELS), LABELS)
    advice = said.partition("make it ")[2]
    followed = eval(advice, {"numpy": np, "x": x.astype(np.float32)})
    twin = ArraySource(x, np.arange(30) % 3, Normalisation((0.5,), (0.5,))).batch(np.arange(30))[0][0]
    np.testing.assert_allclose(followed, twin, atol=1e-6)


def test_what_was_passed_over_and_changed_and_labels_from_1_are_remarked(folder: Path) -> None:
    (folder / "notes.txt").touch()
    source = load(folder)
    check_source(source, SPEC, LABELS)
    facts = facts_of(source, SPEC, LABELS)
    assert not doubts(source, facts, LABELS)
    said = notes(source, facts)
    assert len(said) == 1 and said[0].startswith("passed over ") and "1 .txt files (not read) (first: notes" in said[0]
    from_1 = ArraySource(noise(-1, 1), 1 + np.arange(30) % 2)
    assert doubts(from_1, facts_of(from_1, SPEC, LABELS), LABELS) == [
        "no label is 0, the lowest is 1; if your classes are numbered from 1, make it y - 1"
    ]
