"""How a doctor of either side goes about it: the libraries first, without which the rest may not even be imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from heron_core.doctor.examination import Check, Examination
from heron_core.doctor.probe import imports
from heron_core.doctor.versions import versions


def examine(
    libraries: Sequence[str], checks: Callable[[], Sequence[Check]], say: Callable[[str], None], runtime: str = "torch"
) -> int:
    """Says a line for each thing that is looked at; returns the exit code. `checks` may import what it needs.
    `runtime`: the library that runs the model."""
    examination = Examination(say)
    installed = Check("versions", partial(versions, libraries))
    examination.run([installed, Check("libraries", partial(imports, runtime), ("versions",))])
    if not examination.exit_code:
        examination.run(checks())
    examination.conclude()
    return examination.exit_code
