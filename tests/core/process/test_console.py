"""How a command ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heron_core.errors import ConfigError, RunFailed
from heron_core.process.console import run_command


def end_of(command: Callable[[], object]) -> object:
    with pytest.raises(SystemExit) as end:
        run_command("heron-test", command)
    return end.value.code


def plant(error: BaseException) -> Callable[[], object]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(("error", "code"), [(ConfigError("a wrong key"), 2), (RunFailed("no disk"), 6)], ids=str)
def test_an_error_of_ours_is_one_line_and_its_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(plant(error)) == code
    assert capsys.readouterr().err == f"heron-test: {error}\n"


def test_what_a_peer_wrote_steers_no_terminal_and_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    end_of(plant(ConfigError("gone \x1b[2J\nheron-test: all is well")))
    assert capsys.readouterr().err == "heron-test: gone ?[2J heron-test: all is well\n"


def test_an_error_that_nobody_expected_has_its_traceback_a_last_line_and_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert end_of(plant(ValueError("no\nmore"))) == 6
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Traceback") and said[-1] == "heron-test: a bug: ValueError: no"


def test_a_command_that_ends_well_or_leaves_by_itself_keeps_its_code() -> None:
    assert end_of(lambda: None) == 0
    assert end_of(plant(SystemExit(4))) == 4
