"""Files of rows: every client reads them by the run's table, and what cannot be read is said with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import Source, load_own, split_holdout
from heron_core.data.facts import class_names_of, skipped_of
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.table import TableSpec

CLASSES = LabelSpec(count=2)
NUMBER = LabelSpec((1,), "float32")
PEOPLE = """age,sex,weight,ill
40,f,60.5,yes
50,m,80,no
60,f,70,yes
"""
COLUMNS = [{"name": "age", "mean": 50.0, "std": 10.0}, {"name": "sex", "levels": ["m", "f"]}]
TABLE = TableSpec.model_validate({"columns": COLUMNS, "target": "ill"})
WEIGHT = TableSpec.model_validate({"columns": COLUMNS, "target": "weight", "target_mean": 70.0, "target_std": 5.0})


def load(
    path: Path, text: str = PEOPLE, table: TableSpec = TABLE, labels: LabelSpec = CLASSES,
    names: tuple[str, ...] = ("no", "yes"), shape: tuple[int, ...] = (3,), **options: object,
) -> Source:  # fmt: skip
    file = path / "people.csv"
    file.write_text(text, encoding="utf-8", newline="")
    inputs = (TensorSpec("x", shape),)
    return load_own("csv", path=file, options=options, inputs=inputs, labels=labels, class_names=names, table=table)


def samples(source: Source) -> tuple[list[list[float]], list[object]]:
    (x,), labels = source.batch(np.arange(len(source)))
    assert x.dtype == np.float32 and x.flags.c_contiguous
    return x.tolist(), labels.tolist()


def test_numbers_are_scaled_by_the_runs_figures_and_words_become_a_number_for_each_level(tmp_path: Path) -> None:
    source = load(tmp_path)
    assert samples(source) == ([[-1, 0, 1], [0, 1, 0], [1, 0, 1]], [1, 0, 1])
    assert class_names_of(source) == ("no", "yes") and source.labels.dtype == np.int64


def test_a_regressions_label_is_scaled_too(tmp_path: Path) -> None:
    x, labels = samples(load(tmp_path, table=WEIGHT, labels=NUMBER, names=()))
    assert (x[0], labels) == ([-1, 0, 1], [[pytest.approx(-1.9)], [2], [0]])


def test_two_clients_with_other_rows_scale_alike(tmp_path: Path) -> None:
    alone = samples(load(tmp_path, PEOPLE.splitlines()[0] + "\n60,f,70,yes\n"))
    assert alone[0] == [samples(load(tmp_path))[0][2]]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (PEOPLE.replace(",", ";").replace(".", ","), {"delimiter": ";", "decimal": ","}),
        ("\ufeff" + PEOPLE.replace("\n", "\r\n"), {}),
        (PEOPLE.replace("f,", '"f",') + "\n\n", {}),
        ("note,ill,weight,sex,age\nx,yes,60.5,f,40\nx,no,80,m,50\nx,yes,70,f,60.0", {}),
    ],
    ids=["German", "Windows", "quotes and empty lines", "another order"],
)
def test_the_same_rows_written_otherwise_are_the_same_samples(
    text: str, options: dict[str, object], tmp_path: Path
) -> None:
    plain = samples(load(tmp_path, table=WEIGHT, labels=NUMBER, names=()))
    assert samples(load(tmp_path, text, WEIGHT, NUMBER, (), **options)) == plain


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("50,m", ",m", r"people\.csv: rows cannot be used: 1 with age missing \(first: line 3\); .*on_bad_sample"),
        ("50,m", "NA,m", r"with age missing \(first: line 3\)"),
        ("50,m", "50,", "with sex missing"),
        ("50,m", "1_0,m", "with age not a number, such as '1_0'"),
        ("50,m", "inf,m", "with age not a number"),
        ("50,m", "1e300,m", "with age too large for float32"),
        ("50,m", "50,x", "with sex 'x', none of its levels"),
        ("80,no", "80,", "with ill missing"),
        ("80,no", "80,perhaps", r"line 3: ill is 'perhaps', which is none of the run's classes \(no, yes\)"),
        ("50,m", "50", "line 3: 4 values are wanted, as the first line has, got 3"),
        ("age", "sex", "each by another name, got 'sex' twice"),
        ("age", "Age", r"has no column 'age'; it has Age, sex, weight, ill"),
        (",", ";", r"first line is one name, 'age;sex;weight;ill'; set data\.options\.delimiter = ';'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load(tmp_path, PEOPLE.replace(old, new))


def test_without_class_names_a_class_is_its_number(tmp_path: Path) -> None:
    numbered = PEOPLE.replace("yes", "1").replace("no", "0")
    assert samples(load(tmp_path, numbered, names=()))[1] == [1, 0, 1]
    with pytest.raises(DataError, match=r"ill is 'yes', and without data\.class_names a class is its number, 0 to 1"):
        load(tmp_path, names=())


def test_no_client_reads_a_table_by_figures_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run does not say what the columns .*heron-client columns .*people\.csv"):
        load(tmp_path, table=TableSpec())


def test_a_model_of_another_shape_is_told_what_the_table_gives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gives float32 \[3\] a sample \(age, sex=m, sex=f\).*input_shape = \[3\]"):
        load(tmp_path, shape=(2,))
    with pytest.raises(DataError, match=r"one class or one number as a label, the model's task wants int64 \[4\]"):
        load(tmp_path, labels=LabelSpec((4,)))


def test_more_memory_than_is_free_is_refused_before_it_is_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_core.process.memory.free_memory", lambda: 100)
    with pytest.raises(DataError, match=r"people\.csv with 3 rows needs 0\.0 MiB of memory, and 0\.0 MiB are free"):
        load(tmp_path)


def series(*people: str) -> str:
    rows = "".join(f"{who},{place},{10 * place}\n" for place, who in enumerate("".join(people)))
    return "who,a,b\n" + rows


def windowed(path: Path, text: str, window: int, step: int = 0) -> Source:
    spec = TableSpec.model_validate(
        {"columns": [{"name": "b"}], "target": "a", "group": "who", "window": window, "step": step}
    )
    return load(path, text, spec, NUMBER, (), (1, window))


def test_windows_follow_each_other_within_one_group_and_the_last_row_says_the_label(tmp_path: Path) -> None:
    x, labels = samples(windowed(tmp_path, series("xxxxx", "yyy"), 3, 1))
    assert x == [[[0, 10, 20]], [[10, 20, 30]], [[20, 30, 40]], [[50, 60, 70]]]
    assert labels == [[2], [3], [4], [7]]


def test_windows_have_a_channel_for_each_column(tmp_path: Path) -> None:
    spec = TableSpec.model_validate({"columns": [*COLUMNS], "target": "ill", "window": 2, "step": 1})
    x, labels = samples(load(tmp_path, table=spec, shape=(3, 2)))
    assert x == [[[-1, 0], [0, 1], [1, 0]], [[0, 1], [1, 0], [0, 1]]] and labels == [0, 1]


def test_windows_do_not_overlap_unless_the_step_says_so(tmp_path: Path) -> None:
    assert samples(windowed(tmp_path, series("xxxxxxx"), 3))[1] == [[2], [5]]


def test_a_piece_that_is_too_short_for_a_window_is_counted(tmp_path: Path) -> None:
    source = windowed(tmp_path, series("xx", "yyy", "x"), 3)
    assert len(source) == 1
    assert str(skipped_of(source)) == "2 pieces of a group shorter than a window (first: usable row 1)"
    with pytest.raises(DataError, match="no 9 rows of one group stand below each other; sort the file by who, or"):
        windowed(tmp_path, series("xx"), 9)


def test_no_ones_windows_stand_on_both_sides(tmp_path: Path) -> None:
    source = windowed(tmp_path, series(*(letter * 6 for letter in "abcde")), 3, 1)
    train, held = split_holdout(source, 0.4, 0, 1, by="group")
    assert len(train) + len(held) == len(source) == 20 and len(held) == 8
    people = [{int(v) // 6 for v in half.labels.ravel()} for half in (train, held)]
    assert people[0].isdisjoint(people[1]) and len(people[1]) == 2
    with pytest.raises(DataError, match=r"1 groups leave none to train on"):
        split_holdout(windowed(tmp_path, series("xxxxxx"), 3), 0.4, 0, 1, by="group")


def test_rows_that_cannot_be_used_are_passed_over_where_asked_and_break_a_window(tmp_path: Path) -> None:
    text = series("xxxxxxx").replace("x,3,30", "x,3,").replace("x,0,0", "x,0,none")
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    spec = TableSpec.model_validate({"columns": [{"name": "b"}], "target": "a", "window": 2, "step": 1})
    source = load_own(
        "csv", path=tmp_path / "a.csv", options={}, inputs=(TensorSpec("x", (1, 2)),), labels=NUMBER, table=spec,
        on_bad_sample="skip",
    )  # fmt: skip
    assert samples(source)[0] == [[[10, 20]], [[40, 50]], [[50, 60]]]
    said = "1 with b not a number, such as 'none' (first: line 2), 1 with b missing (first: line 5)"
    assert str(skipped_of(source)) == said
