"""The control while the run goes on: simulated beside it, and compared with it after each round.

It says once where clients that never train are better than the run's own by more than noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from heron_core.device import resolve_device
from heron_core.process.children import at_once
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.metrics.behind import ERRORS, RECENT, Behind, behind
from heron_server.metrics.figures import RoundRecord, Summary
from heron_server.metrics.observers import Observer
from heron_server.simulated import Simulated, simulated
from heron_server.text.figures import name_text, value_text

CONTROL = "frozen"


class Control(Observer):
    """Begins the control with the run's first round, hears of the run's rounds, and reads the control's."""

    def __init__(self, start: Callable[[], Simulated], spec: RunSpec, display: Observer) -> None:
        """`start` begins it. `spec`: the run that it stands beside. `display`: is told the warning."""
        self._start, self._rounds, self._method, self._display = start, spec.rounds, spec.method.name, display
        self._run: Simulated | None = None
        self._own: list[RoundRecord] = []
        self._theirs: list[RoundRecord] = []
        self._read = 0
        """Bytes of the control's log that are read: whole lines."""
        self.said = False

    @property
    def has_begun(self) -> bool:
        """Is there a control to wait for?"""
        return self._run is not None

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        """Begins the control, once."""
        if self._run is None:
            self._run = self._start()
            self._display.note("the control, clients that never train, is simulated beside the run")

    def round_done(self, record: RoundRecord) -> None:
        """Compares the last round that both have done."""
        self._own.append(record)
        if self.said:
            return
        self._read_log()
        if found := behind(self._own, self._theirs, self._rounds):
            self.said = True
            self._display.warning(behind_text(found, self._method))

    def _read_log(self) -> None:
        log = None if self._run is None else self._run.run_dir / "metrics.jsonl"
        if log is None or not log.exists():
            return
        with log.open("rb") as lines:
            lines.seek(self._read)
            whole = lines.read().rpartition(b"\n")[0]
        if whole:
            self._read += len(whole) + 1
            self._theirs += [json.loads(line) for line in whole.splitlines()]

    def summary(self) -> Summary:
        """Waits for the control's end; raises what its failing means, as `Simulated.summary`."""
        assert self._run is not None, "a control that has not begun has no end"
        return self._run.summary()


@contextmanager
def control_beside(
    spec: RunSpec, others: Sequence[RunSpec], settings: ServerSettings, display: Observer,
    simulate: Mapping[str, object] | None = None, client_files: Sequence[Path] = (),
) -> Iterator[list[Control]]:  # fmt: skip
    """The control among `others`, if this machine has a core for it: it gives way to the run, and ends with the block.

    None where there is no such core, or the run computes on an accelerator: then the control has to come after.
    """
    with ExitStack() as stack:

        def start() -> Simulated:
            return stack.enter_context(
                simulated(others[0], settings, simulate or {}, client_files, gives_way=True)
            )  # fmt: skip

        wanted = others and others[0].method.name == CONTROL and _has_room(others[0], settings)
        yield [Control(start, spec, display)] if wanted else []


def _has_room(spec: RunSpec, settings: ServerSettings) -> bool:
    threads = max(spec.threads.client, spec.threads.server)
    return resolve_device(settings.device).type == "cpu" and at_once(threads) > 1


def behind_text(found: Behind, method: str) -> str:
    """What was found, by which rule, and what to do."""
    own, control, noise = (value_text(value, found.is_share) for value in (found.own, found.control, found.noise))
    return (
        f"clients that never train are ahead after round {found.round}: {name_text(found.name)} {control}, {method} "
        f"{own} (means of {RECENT} evaluations; {noise} would be noise, {ERRORS:g} standard errors); search the "
        "learning rates of both as hard (heron-simulate --tune RUN.toml --compare cse_fsl); if first order is not "
        "ahead of them either, what clients learn does not matter at this cut: cut later or narrower, or take "
        f'method.name = "{CONTROL}"'
    )
