from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from heron_server.training import worker as module
from heron_server.training.worker import InlineWorker, WorkerThread


def test_inline_commands_run_at_once_and_report_to_done_or_failed() -> None:
    told: list[object] = []
    InlineWorker().submit(lambda: 7, told.append, told.append)
    error = ValueError("no")

    def fail() -> None:
        raise error

    InlineWorker().submit(fail, told.append, told.append)
    assert told == [7, error]


def test_the_last_command_runs_after_the_one_in_hand_and_instead_of_those_that_wait() -> None:
    began, go_on, ran = threading.Event(), threading.Event(), list[str]()

    def in_hand() -> None:
        began.set()
        go_on.wait(10)
        ran.append("in hand")

    worker = WorkerThread(lambda callback: None)
    for command in (in_hand, lambda: ran.append("waits")):
        worker.submit(command, lambda _: None, lambda _: None)
    assert began.wait(10)
    worker.end(lambda: ran.append("last"))
    worker.end(lambda: ran.append("another"))
    go_on.set()
    assert worker.stop() and ran == ["in hand", "last"]


def test_an_error_in_done_is_not_taken_for_the_command_s() -> None:
    def done(_: object) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        InlineWorker().submit(lambda: 1, done, lambda _: pytest.fail("not the command's"))


def test_the_worker_runs_commands_in_order_on_its_own_thread_and_reports_on_the_driver_s() -> None:
    posted: queue.Queue[Callable[[], None]] = queue.Queue()
    worker = WorkerThread(posted.put)
    ran: list[tuple[int, bool]] = []
    told: list[object] = []

    def command(number: int) -> int:
        ran.append((number, threading.current_thread() is threading.main_thread()))
        if number == 1:
            raise ValueError(number)
        return number

    for number in range(3):
        worker.submit(lambda n=number: command(n), told.append, told.append)
    for _ in range(3):
        posted.get(timeout=10)()
    worker.stop()
    assert ran == [(0, False), (1, False), (2, False)]
    assert (told[0], told[2]) == (0, 2) and isinstance(told[1], ValueError)


def test_stop_waits_for_the_command_in_hand_and_drops_the_rest() -> None:
    begun, go = threading.Event(), threading.Event()
    ran: list[str] = []
    worker = WorkerThread(lambda callback: callback())

    def first() -> None:
        begun.set()
        go.wait(10)
        ran.append("first")

    worker.submit(first, lambda _: None, lambda _: None)
    worker.submit(lambda: ran.append("second"), lambda _: None, lambda _: None)
    assert begun.wait(10)
    threading.Timer(0.05, go.set).start()
    worker.stop()
    assert ran == ["first"]


class Taken(queue.SimpleQueue[object]):
    """Was not empty when it was looked at; then the thread took what was there."""

    looks = 0

    def empty(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_stop_does_not_race_with_the_thread_for_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "SimpleQueue", Taken)
    assert WorkerThread(lambda callback: callback()).stop()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=type)
def test_whatever_a_command_raises_is_its_outcome_and_the_thread_lives_on(error: BaseException) -> None:
    posted: queue.Queue[Callable[[], None]] = queue.Queue()
    worker, told = WorkerThread(posted.put), list[object]()

    def fail() -> None:
        raise error

    worker.submit(fail, told.append, told.append)
    worker.submit(lambda: 7, told.append, told.append)
    for _ in range(2):
        posted.get(timeout=10)()
    assert told == [error, 7] and worker.stop()


def test_a_command_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    monkeypatch.setattr(module, "LAST_COMMAND_S", 0.1)
    worker = WorkerThread(lambda callback: callback())
    worker.submit(lambda: (begun.set(), go.wait(60)), lambda _: None, lambda _: None)
    assert begun.wait(10) and not worker.stop()
    go.set()
    worker._thread.join(10)
    assert not worker._thread.is_alive()


def test_a_closed_loop_is_nobody_to_tell() -> None:
    done = threading.Event()

    def closed(callback: Callable[[], None]) -> None:
        done.set()
        raise RuntimeError("Event loop is closed")

    worker = WorkerThread(closed)
    worker.submit(lambda: 1, lambda _: None, lambda _: None)
    assert done.wait(10)
    worker.stop()
