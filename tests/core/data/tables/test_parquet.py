"""Parquet files: the samples of the same rows as .csv, whatever type their columns have; the others named."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import Source, load_own
from heron_core.data.facts import skipped_of
from heron_core.data.tables.describe import Described, described
from heron_core.data.tables.parquet_file import open_parquet
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.table import TableSpec

AGES, SEXES, ILL = [40, 50, 60], ["f", "m", "f"], ["yes", "no", "yes"]
TABLE = TableSpec.model_validate(
    {
        "columns": [{"name": "age", "mean": 50.0, "std": 10.0}, {"name": "sex", "levels": ["m", "f"]}],
        "target": "ill",
    }
)
SAMPLES = [[-1, 0, 1], [0, 1, 0], [1, 0, 1]], [1, 0, 1]


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow")


def written(folder: Path, columns: Any, **options: object) -> Path:
    """`columns`: by name, or a table."""
    import pyarrow
    from pyarrow import parquet

    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    parquet.write_table(table, folder / "people.parquet", **options)
    return folder / "people.parquet"


def load(path: Path, skip: bool = False) -> Source:
    return load_own(
        "parquet", path=path, options={}, inputs=(TensorSpec("x", (3,)),), labels=LabelSpec(count=2),
        class_names=("no", "yes"), table=TABLE, on_bad_sample="skip" if skip else "refuse",
    )  # fmt: skip


def samples(source: Source) -> tuple[list[list[float]], list[object]]:
    (x,), labels = source.batch(np.arange(len(source)))
    return x.tolist(), labels.tolist()


def columns_of(folder: Path, columns: Any, target: str = "") -> Described:
    return described(open_parquet(written(folder, columns)), target)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float16", "float32", "decimal", "dictionary of numbers"])
def test_numbers_of_every_type_are_the_same_samples(kind: str, arrow: Any, tmp_path: Path) -> None:
    if kind == "decimal":
        ages = arrow.array([Decimal(f"{age}.00") for age in AGES])
    elif "dictionary" in kind:
        ages = arrow.array(AGES).dictionary_encode()
    else:
        ages = arrow.array(np.array(AGES, dtype=kind))
    path = written(tmp_path, {"age": ages, "sex": SEXES, "ill": ILL, "unused": [[1], [2], [3]]})
    assert samples(load(path)) == SAMPLES


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_words_of_every_type_are_the_same_samples(kind: str, arrow: Any, tmp_path: Path) -> None:
    def words(given: list[str]) -> Any:
        return arrow.array(given).dictionary_encode() if kind == "dictionary" else arrow.array(given, kind)

    try:
        path = written(tmp_path, {"age": AGES, "sex": words(SEXES), "ill": words(ILL)})
    except (arrow.ArrowNotImplementedError, ValueError):
        pytest.skip(f"this pyarrow writes no {kind}")
    assert samples(load(path)) == SAMPLES


def test_row_groups_follow_each_other(arrow: Any, tmp_path: Path) -> None:
    path = written(tmp_path, {"ill": ILL, "sex": SEXES, "age": AGES}, row_group_size=2, compression="zstd")
    assert samples(load(path)) == SAMPLES


def test_values_that_are_missing_are_counted_with_their_row(arrow: Any, tmp_path: Path) -> None:
    nothing = float("nan")
    path = written(
        tmp_path,
        {
            "age": arrow.array([40.0, None, nothing, 60.0, 60.0]),
            "sex": arrow.array(["f", "m", "m", None, "f"]).dictionary_encode(),
            "ill": ["yes"] * 5,
        },
    )
    said = "2 with age missing (first: row 2), 1 with sex missing (first: row 4)"
    with pytest.raises(DataError) as error:
        load(path)
    assert said in str(error.value)
    assert str(skipped_of(source := load(path, skip=True))) == said and len(source) == 2


def test_booleans_are_the_words_that_a_csv_would_hold(arrow: Any, tmp_path: Path) -> None:
    found = columns_of(tmp_path, {"smokes": [True, False, None], "ill": [True, False, True]})
    assert found.table.inputs == ("smokes=false", "smokes=true") and found.class_names == ("false", "true")


def test_columns_that_are_neither_numbers_nor_words_are_left_out_by_name(arrow: Any, tmp_path: Path) -> None:
    days = [datetime.datetime(2024, 1, day) for day in (1, 2, 3)]
    odd = {"when": days, "day": arrow.array(days).cast("date32"), "many": [[1], [2], [3]], "raw": [b"a", b"b", b"c"]}
    found = columns_of(tmp_path, {**odd, "__index_level_0__": [7, 8, 9], "age": AGES, "ill": ILL})
    assert found.table.inputs == ("age",)
    assert found.left_out[:2] == (
        "when is left out: it holds timestamp[us], neither numbers nor words",
        "day is left out: it holds date32[day], neither numbers nor words",
    )
    assert [sentence.split()[0] for sentence in found.left_out[2:]] == ["many", "raw", "__index_level_0__"]
    with pytest.raises(DataError, match=r"its column 'when' holds timestamp\[us\], neither numbers nor words; write"):
        columns_of(tmp_path, {"age": AGES, **odd}, "when")
    with pytest.raises(DataError, match=r"its column 'age' holds timestamp"):
        load(written(tmp_path, {"age": days, "sex": SEXES, "ill": ILL}))


def test_a_file_of_no_use_is_refused(arrow: Any, tmp_path: Path) -> None:
    twice = arrow.Table.from_arrays([arrow.array(AGES), arrow.array(AGES)], names=["age", "age"])
    with pytest.raises(DataError, match=r"people\.parquet has more than one column 'age'; save it with different"):
        open_parquet(written(tmp_path, twice))
    with pytest.raises(DataError, match="has no columns"):
        open_parquet(written(tmp_path, {}))
    (tmp_path / "people.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"people\.parquet is not a readable Parquet file .*; save it again"):
        load(tmp_path / "people.parquet")


def test_text_that_is_no_text_is_refused(arrow: Any, tmp_path: Path) -> None:
    buffers = [None, arrow.py_buffer(np.arange(4, dtype=np.int32).tobytes()), arrow.py_buffer(b"\xffmf")]
    sexes = arrow.Array.from_buffers(arrow.string(), 3, buffers)
    with pytest.raises(DataError, match=r"people\.parquet holds text that is not UTF-8"):
        load(written(tmp_path, {"age": AGES, "sex": sexes, "ill": ILL}))


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r'needs pyarrow; pip install "heron-sfl\[parquet\]"'):
        open_parquet(tmp_path / "a.parquet")
