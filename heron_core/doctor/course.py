"""How a doctor of either side goes about it: the libraries first, without which the rest may not even be imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from heron_core.doctor.examination import Check, Examination, Finding
from heron_core.doctor.probe import imports
from heron_core.doctor.versions import versions


def examine(
    libraries: Sequence[str], checks: Callable[[], Sequence[Check]], say: Callable[[str], None],
    runtime: Callable[[], str] = lambda: "torch",
) -> int:
    """Says a line for each thing that is looked at; returns the exit code. `checks` may import what it needs.
    `runtime`: which library runs the model; raises ConfigError where there is none."""

    def installed() -> Iterator[Finding]:
        yield from versions((runtime(), *libraries))

    def importable() -> Iterator[Finding]:
        yield from imports(runtime())

    examination = Examination(say)
    examination.run([Check("versions", installed), Check("libraries", importable, ("versions",))])
    if not examination.exit_code:
        examination.run(checks())
    examination.conclude()
    return examination.exit_code
