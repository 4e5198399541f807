"""`heron-client`: what is typed wrong, and a reader that has read enough."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heron_client.cli import app


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rum"], "invalid choice: 'rum'"),
        (["run", "--onse"], "unrecognized arguments: --onse"),
        (["run", "--o"], "unrecognized arguments: --o"),
        (["columns"], "the following arguments are required: FILE"),
        ([], ""),
    ],
)
def test_what_is_typed_wrong_ends_with_usage_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        app(arguments)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and "usage: heron-client" in out + err and says in err


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,kind\n1,a\n2,b\n")
    command = [sys.executable, "-m", "heron_client", "columns", "a.csv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 1
