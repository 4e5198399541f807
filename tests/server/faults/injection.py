"""Injects faults one at a time, each in a run of its own, and says how these runs end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from points import Point, every_point

SCENARIOS = (
    "plain", "resumed", "gradients sent back", "an update spoiled", "an upload spoiled", "a full disk", "troubles",
    "troubles on a terminal", "a full disk in plain text",
)  # fmt: skip
"""As in tiny_run, which only instrumented processes import."""

RUN_FAILED = 6
Verdict = Literal["went on", "ended", "not reached", "HUNG", "CRASHED", "OTHER BITS", "OTHER CODE", "BROKEN"]
GOOD = ("went on", "ended", "not reached")


@dataclass(frozen=True)
class Case:
    """One exception at one point, in the first scenario that passes it."""

    point: Point
    scenario: str
    errno: str
    """Name of the OSError's number; empty: a RuntimeError."""

    def __str__(self) -> str:
        return f"{self.errno or 'RuntimeError'} at {self.point} [{self.scenario}]"


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: Case
    verdict: Verdict
    detail: str
    seconds: float


class Survey:
    """Which scenario passes which point, undisturbed, and the bits that each ends with."""

    def __init__(self) -> None:
        self.sha256: dict[str, str] = {}
        self._first: dict[str, str] = {}
        self._nothing: set[str] = set()
        with Process() as process:
            for scenario in SCENARIOS:
                outcome = process.ask(scenario)
                assert outcome is not None and outcome["sha256"], (scenario, outcome)
                self.sha256[scenario] = outcome["sha256"]
                self._nothing |= set(outcome["nothing"])
                for name in outcome["reached"]:
                    self._first.setdefault(name, scenario)

    def cases(self) -> list[Case]:
        """Every point that some scenario passes; at a write both exceptions."""
        found = []
        for point in every_point():
            if point.name in self._first:
                errors = ("", "ENOSPC") if point.kind == "write" else ("",)
                found += [Case(point, self._first[point.name], each) for each in errors]
        return found

    def never_reached(self) -> list[Point]:
        """Points that no scenario passes, but for those that are none: what was handed over is no function."""
        return [p for p in every_point() if p.name not in self._first and p.name not in self._nothing]

    def judge(self, case: Case, outcome: dict[str, Any] | None, seconds: float, stderr: str) -> Result:
        """Is it what must come of a fault?"""
        if outcome is None:
            return Result(case, "HUNG", stderr, seconds)
        verdict, detail = self._verdict(case, outcome)
        return Result(case, verdict, detail, seconds)

    def _verdict(self, case: Case, outcome: dict[str, Any]) -> tuple[Verdict, str]:
        error = str(outcome["error"])
        if outcome["broken"]:
            return "BROKEN", "; ".join([*outcome["broken"], error])
        if not outcome["raised"]:
            return "not reached", error
        if not error:
            same = outcome["sha256"] == self.sha256[case.scenario]
            return ("went on", "") if same else ("OTHER BITS", outcome["sha256"])
        if outcome["exit_code"] == 1:
            return "CRASHED", error
        refused_at_start = not outcome["listening"]
        return ("ended", error) if outcome["exit_code"] == RUN_FAILED or refused_at_start else ("OTHER CODE", error)


class Process:
    """One process of trials.py; a fresh one in its place where a run hangs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("trials.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._stderr, text=True,
        )  # fmt: skip

    def ask(self, scenario: str, point: str | None = None, errno: str = "") -> dict[str, Any] | None:
        """The outcome of one run, or None where it did not end; `stderr` then has the stacks."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"scenario": scenario, "point": point, "errno": errno}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self.stderr = self._end()
        self._start()
        return None

    def _end(self) -> str:
        self._process.kill()
        self._process.communicate()
        self._stderr.seek(0)
        said = self._stderr.read()
        self._stderr.close()
        return said

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def inject(
    survey: Survey, cases: Sequence[Case], processes: int, tell: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Every case, by so many processes at once; in the order in which they end."""
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    results: list[Result] = []

    def work() -> None:
        with Process() as process:
            while True:
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                start = perf_counter()
                outcome = process.ask(case.scenario, case.point.name, case.errno)
                stderr = process.stderr if outcome is None else ""
                result = survey.judge(case, outcome, perf_counter() - start, stderr)
                results.append(result)
                tell(result)

    threads = [threading.Thread(target=work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def bad(results: Iterable[Result]) -> list[str]:
    """One text for each result that must not be."""
    return [f"{r.verdict} ({r.seconds:.1f} s): {r.case}\n{r.detail[-6000:]}" for r in results if r.verdict not in GOOD]
