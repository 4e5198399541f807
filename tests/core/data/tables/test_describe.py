"""`heron-client columns`: what it prints is a run file that reads the same file."""

from __future__ import annotations

import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from heron_client.cli import app
from heron_core.arrays import TensorSpec
from heron_core.data import load_own
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.run_spec import RunSpec

FILE = 'id,age,sex,same,kind,who\na1,40,f,1,"red, dark",x\na2,50,m,1,green,x\n'


def printed(path: Path, text: str, *arguments: str) -> RunSpec:
    path.write_text(text, encoding="utf-8")
    with redirect_stdout(StringIO()) as output:
        app(["columns", str(path), *arguments])
    return RunSpec.model_validate(tomllib.loads(output.getvalue()))


def test_what_is_printed_is_a_run_file_that_reads_the_file(tmp_path: Path) -> None:
    spec = printed(tmp_path / "a.csv", FILE, "--target", "kind", "--group", "who")
    assert spec.data.table.inputs == ("id=a1", "id=a2", "age", "sex=f", "sex=m")
    assert spec.data.table.columns[1].model_dump() == {"name": "age", "mean": 45, "std": 5, "levels": ()}
    assert (spec.model.input_shape, spec.model.classes, spec.data.table.group) == ((5,), 2, "who")
    source = load_own(
        "csv", path=tmp_path / "a.csv", options={}, inputs=(TensorSpec("x", (5,)),), labels=LabelSpec(count=2),
        class_names=("green", "red, dark"), table=spec.data.table,
    )  # fmt: skip
    assert source.labels.tolist() == [1, 0]


def test_a_target_of_numbers_is_a_regression(tmp_path: Path) -> None:
    spec = printed(tmp_path / "a.csv", "a;y\n1;0,5\n2;1,5\n", "--option", "delimiter=;", "--option", "decimal=,")
    assert (spec.model.task, spec.data.table.target_mean, spec.data.table.target_std) == ("regression", 1, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,y\n1,\n", "y is the target, and it holds no value"),
        ("a,y\n1,2\n2,2\n", "y is the target, and it is the same in every row"),
        ("a,y\n1,2\n1,3\n", "no column that a model could learn from beside y"),
        ("a,y\n" + "".join(f"{i},w{i}\n" for i in range(60)), "it holds more than 50 different words"),
    ],
)
def test_a_target_of_no_use_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        printed(tmp_path / "a.csv", text)
