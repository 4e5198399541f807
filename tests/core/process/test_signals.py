"""What a signal does, without one: the process's end is a list of codes here. tests/e2e/test_signals_of_commands.py
sends real ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from heron_core.process.signals import Signals

INT, TERM, HUP, USER = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
PATIENCE_S = 60.0


def made() -> tuple[Signals, list[int]]:
    codes: list[int] = []
    return Signals(codes.append), codes


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_where_nobody_is_told_the_first_signal_ends_the_process(number: int) -> None:
    signals, codes = made()
    signals.take(number)
    assert codes == [5]


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_who_asks_is_told_once_and_the_process_goes_on_until_its_time_is_over(number: int) -> None:
    signals, codes = made()
    told: list[str] = []
    with signals.stopping(lambda: told.append("outer")), signals.stopping(lambda: told.append("inner")):
        assert signals.limit is None
        signals.take(number)
        signals.take(TERM)
        assert (told, codes) == (["inner", "outer"], [])
    assert signals.limit is not None
    signals.late()
    assert codes == [5]


def test_a_second_ctrl_c_ends_the_process_at_once_and_other_signals_do_not() -> None:
    signals, codes = made()
    with signals.stopping(lambda: None):
        for number in (TERM, HUP, INT, TERM):
            signals.take(number)
        assert codes == []
        signals.take(INT)
    assert codes == [130]


def test_who_asks_after_the_signal_is_told_at_once() -> None:
    signals, _ = made()
    told = threading.Event()
    with signals.stopping(lambda: None):
        signals.take(TERM)
    with signals.stopping(told.set):
        assert told.is_set()


def test_what_a_signal_should_do_may_fail_and_the_others_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    signals, codes = made()
    told = threading.Event()

    def fail() -> None:
        raise RuntimeError("loop is closed")

    with signals.stopping(told.set), signals.stopping(fail):
        signals.take(TERM)
    assert told.is_set() and codes == []
    assert "loop is closed" in capfd.readouterr().err


def test_the_user_signal_reaches_those_who_asked_for_it_and_ends_nothing() -> None:
    signals, codes = made()
    told: list[int] = []
    signals.take(USER)
    with signals.on_user_signal(lambda: told.append(1)):
        signals.take(USER)
        signals.take(USER)
    signals.take(USER)
    signals.take(signal.SIGCHLD)
    assert (told, codes) == ([1, 1], [])


def test_a_file_in_the_making_is_gone_where_the_process_is_ended_and_a_finished_one_stays(tmp_path: Path) -> None:
    signals, codes = made()
    beside, path = tmp_path / ".a.tmp", tmp_path / "a"
    with signals.in_the_making(beside):
        beside.write_text("whole")
        beside.replace(path)
    with signals.in_the_making(beside):
        beside.write_text("half")
        signals.take(INT)
        assert codes == [5] and list(tmp_path.iterdir()) == [path]


# -- in a process of its own -----------------------------------------------------------------------------------------

INSTALLED = "from heron_core.process import signals; signals.install('program')\n"


def ends(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INSTALLED + code, *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_a_command_whose_threads_do_not_stop_ends_all_the_same_and_names_them() -> None:
    done = ends("""
import sys, threading
from heron_core.process.console import run_command
signals.LEAVE_WITHIN_S = 0.2
threading.Thread(target=threading.Event().wait, name="stuck").start()
run_command("program", lambda: sys.exit(3))
""")
    assert done.returncode == 3
    assert "stuck" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_nothing_that_other_libraries_do_at_the_very_end_can_hold_a_command() -> None:
    """Exit hooks still run, and what was printed is there."""
    done = ends("""
import atexit, threading
from heron_core.process.console import run_command
class Held:
    def __del__(self): threading.Event().wait()
held = Held()
held.itself = held
atexit.register(print, "hook")
run_command("program", lambda: print("said"))
""")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["said", "hook"], "")


def test_an_error_that_nobody_expected_is_shown_and_ends_with_6() -> None:
    done = ends("from heron_core.process.console import run_command; run_command('program', lambda: 1 / 0)")
    assert done.returncode == 6
    assert "Traceback" in done.stderr and done.stderr.endswith("program: a bug: ZeroDivisionError: division by zero\n")


def test_a_fork_of_the_process_is_ended_by_its_own_signal_and_the_process_hears_nothing_of_it() -> None:
    done = ends("""
import os, signal
with signals.stopping(lambda: print("told", flush=True)):
    if not (child := os.fork()):
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert (done.returncode, done.stdout.split()) == (0, [str(-signal.SIGTERM)])


def test_what_was_started_with_nohup_stays_deaf_to_sighup() -> None:
    done = subprocess.run(
        ["nohup", sys.executable, "-c", INSTALLED + "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print(1)"],
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["1"])


def test_importing_it_takes_nothing_that_is_not_pythons_own() -> None:
    done = ends("import sys; print(*(n for n in sys.modules if not n.startswith(('_', 'heron_core'))))")
    assert {n.partition(".")[0] for n in done.stdout.split()} <= set(sys.stdlib_module_names) | loaded_at_the_start()


def loaded_at_the_start() -> set[str]:
    """By Python itself, in this environment."""
    command = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S).stdout
    return {name.partition(".")[0] for name in out.split()}


def test_a_second_ctrl_c_adds_no_line_to_the_commands_own(capfd: pytest.CaptureFixture[str]) -> None:
    signals, codes = made()
    with signals.stopping(lambda: None):
        signals.take(INT)
        with signals.last_line():
            second = threading.Thread(target=signals.take, args=(INT,))
            second.start()
            print("stopped by a signal")
        second.join(PATIENCE_S)
    assert codes == [130]
    assert capfd.readouterr() == ("stopped by a signal\n", "")
