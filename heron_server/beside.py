"""`--control` and `--compare`: the same run by other methods, simulated by a process for each, and one table of all.

Every claim about clients is read beside clients that never train, so the control comes first whatever is compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

from heron_core.errors import ConfigError
from heron_core.json_text import to_json
from heron_core.models.names import nearest
from heron_core.process.children import at_once
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.spec.unused import as_method
from heron_server.config import ServerSettings
from heron_server.control import CONTROL, Control, behind_text
from heron_server.display.choose import make_display
from heron_server.display.report import print_final_table
from heron_server.metrics.behind import behind
from heron_server.metrics.figures import Summary
from heron_server.planning.checks import check_run
from heron_server.simulated import simulated

METHODS: tuple[str, ...] = get_args(MethodSpec.model_fields["name"].annotation)


def methods_beside(spec: RunSpec, control: bool, compare: str) -> list[str]:
    """Names of the methods to show beside the run, the control first; `compare`: names with commas between them.

    ConfigError: a name that is no method, or is the run's own.
    """
    names = [name for part in compare.split(",") if (name := part.strip())]
    if compare and not names:
        raise ConfigError(f"--compare wants methods, such as --compare cse_fsl,sflv2, got {compare!r}")
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"--compare {name}: there is no such method{nearest(name, METHODS)}")
    own = spec.method.name
    if own in names or (control and own == CONTROL):
        raise ConfigError(f"{own} is this run's own method; compare it with others")
    wanted = [CONTROL, *names] if control or names else []
    return [name for name in dict.fromkeys(wanted) if name != own]


def runs_beside(spec: RunSpec, settings: ServerSettings, control: bool, compare: str) -> list[RunSpec]:
    """The same run by each of `methods_beside`; raises what would refuse one of them, before anything runs."""
    specs = [as_method(spec, name) for name in methods_beside(spec, control, compare)]
    for other in specs:
        check_run(other, settings)
    return specs


def show_beside(
    summary: Summary, specs: Sequence[RunSpec], settings: ServerSettings, log_format: str, *,
    simulate: Mapping[str, object] | None = None, client_files: Sequence[Path] = (), controls: Sequence[Control] = (),
) -> None:  # fmt: skip
    """Simulates the runs and shows one table of all; where one fails, of those that did not, and then raises.

    `controls`: of the first of them, where it has begun. Where it is better, a warning says so, unless it did already.
    """
    control = next((each for each in controls if each.has_begun), None)
    left = [spec.method.name for spec in (specs if control is None else specs[1:])]
    if log_format == "text" and (left or control is not None):
        print(announcement(left) if left else "Now the rest of the control.", flush=True)
    summaries = [summary]
    try:
        summaries += _summaries(specs, settings, simulate or {}, client_files, control)
    finally:
        show(summaries, log_format)
    _warn(summaries, log_format, control)


def _warn(summaries: Sequence[Summary], log_format: str, control: Control | None) -> None:
    """Of a control that is better, the second of them if there is one."""
    said = control is not None and control.said
    if said or len(summaries) < 2 or summaries[1]["method"] != CONTROL:
        return
    if found := behind(summaries[0]["history"], summaries[1]["history"], summaries[0]["rounds"]):
        make_display(log_format, sys.stdout).warning(behind_text(found, summaries[0]["method"]))


def show(summaries: Sequence[Summary], log_format: str) -> None:
    """The final table for people; for programs one object for each run beside the first, which has its own folder."""
    if log_format == "text":
        print_final_table(summaries, sys.stdout)
    else:
        for other in summaries[1:]:
            print(to_json({"event": "beside", "summary": other}), flush=True)


def announcement(methods: Sequence[str]) -> str:
    """What is simulated now, in a sentence."""
    control = "Now the control: the same run with clients that never train" if CONTROL in methods else ""
    others = ", ".join(name for name in methods if name != CONTROL)
    beside = f"{', and with' if control else 'Now the same run with'} {others}" if others else ""
    return f"{control}{beside} (in the simulator)."


def _summaries(
    specs: Sequence[RunSpec], settings: ServerSettings, simulate: Mapping[str, object], client_files: Sequence[Path],
    control: Control | None,
) -> Iterator[Summary]:  # fmt: skip
    """In order, as many runs at a time as the cores carry."""

    def summary_of(spec: RunSpec) -> Summary:
        with simulated(spec, settings, simulate, client_files) as run:
            return run.summary()

    threads = max((max(spec.threads.client, spec.threads.server) for spec in specs), default=1)
    with ThreadPoolExecutor(at_once(threads), thread_name_prefix="heron-beside") as pool:
        left = pool.map(summary_of, specs if control is None else specs[1:])
        if control is not None:
            yield control.summary()
        yield from left
