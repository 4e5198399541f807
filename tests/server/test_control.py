"""The control beside a run: begun with its first round, read as it goes, and said once where it is ahead."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from server.heard import Heard
from server.made_records import round_record

from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import as_method
from heron_server.config import ServerSettings
from heron_server.control import Control, control_beside
from heron_server.simulated import Simulated

SPEC = RunSpec.model_validate({"rounds": 12})


def line(number: int, accuracy: float) -> str:
    return json.dumps(round_record(number, accuracy, samples=1000)) + "\n"


class Beside:
    """A run, and the log of a control that this test writes."""

    def __init__(self, folder: Path) -> None:
        self.log, self.heard, self.begun = folder / "metrics.jsonl", Heard(), 0
        self._run = Simulated("frozen", folder, folder / "said.txt", SimpleNamespace())  # type: ignore[arg-type]
        self.control = Control(self._start, SPEC, self.heard)

    def _start(self) -> Simulated:
        self.begun += 1
        return self._run

    def round(self, number: int, accuracy: float) -> None:
        self.control.round_began(number, SPEC.rounds, ("a",), 1)
        self.control.round_done(round_record(number, accuracy, samples=1000))

    @property
    def warnings(self) -> list[str]:
        return [text for _, text in self.heard.of("warning")]


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path)


def test_a_control_that_is_ahead_is_said_once_with_both_figures_and_the_rule(beside: Beside) -> None:
    beside.log.write_text("".join(line(number, 0.8) for number in range(1, 13)))
    said = []
    for number in range(1, 13):
        beside.round(number, 0.6)
        said.append(len(beside.warnings))
    assert said == [0] * 7 + [1] * 5, "five rounds after the first quarter"
    assert beside.begun == 1 and beside.control.said
    text = beside.warnings[0]
    assert "never train are ahead after round 8: accuracy 80.00 %, heron 60.00 %" in text
    assert "(means of 5 evaluations; 4.00 %" in text
    assert "--tune RUN.toml --compare cse_fsl" in text


def test_its_log_is_read_as_it_grows_and_half_a_line_waits(beside: Beside) -> None:
    for number in range(1, 9):
        beside.round(number, 0.6)
    assert not beside.warnings, "nothing is there yet"
    lines = "".join(line(number, 0.8) for number in range(1, 9))
    beside.log.write_text(lines[:-9])
    beside.round(9, 0.6)
    assert not beside.warnings
    beside.log.write_text(lines)
    beside.round(10, 0.6)
    assert len(beside.warnings) == 1 and "after round 8" in beside.warnings[0]


def test_a_run_that_is_ahead_is_not_warned(beside: Beside) -> None:
    beside.log.write_text("".join(line(number, 0.6) for number in range(1, 13)))
    for number in range(1, 13):
        beside.round(number, 0.8)
    assert beside.heard.of("warning") == [] and not beside.control.said


@pytest.mark.parametrize(("cores", "method", "beside_it"), [(2, "frozen", 1), (1, "frozen", 0), (2, "cse_fsl", 0)])
def test_it_stands_beside_the_run_where_a_core_is_left_for_it(
    cores: int, method: str, beside_it: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heron_server.control.at_once", lambda threads: cores)
    with control_beside(SPEC, [as_method(SPEC, method)], ServerSettings(device="cpu"), Heard()) as controls:
        assert len(controls) == beside_it
        assert not any(control.has_begun for control in controls), "the run has not begun"


def test_it_ends_with_the_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nread -r _\n")  # until its standard input is closed
    sleeper.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(sleeper))
    monkeypatch.setattr("heron_server.control.at_once", lambda threads: 2)
    with control_beside(SPEC, [as_method(SPEC, "frozen")], ServerSettings(device="cpu"), Heard()) as [control]:
        control.round_began(1, 12, ("a",), 1)
        assert control.has_begun and control._run is not None
        started.append(control._run.process)
        folder = control._run.said.parent
        assert started[0].poll() is None
    assert started[0].wait(10) != 0 and not folder.exists()
