"""`--control` and `--compare`: the same run by other methods, simulated by a process for each, and one table of all.

Every claim about clients is read beside clients that never train, so the control comes first whatever is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

from heron_core.config import written
from heron_core.errors import ConfigError, Internal
from heron_core.json_text import to_json
from heron_core.models.names import nearest
from heron_core.process.children import at_once, ending, kept_folder, let_go, start_child
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.spec.unused import as_method, file_tables
from heron_server.config import ServerSettings
from heron_server.display.report import print_final_table
from heron_server.metrics.figures import Summary
from heron_server.planning.checks import check_run
from heron_server.text.toml import to_toml

CONTROL = "frozen"
METHODS: tuple[str, ...] = get_args(MethodSpec.model_fields["name"].annotation)
OF_THE_SERVICE = {"address", "certs", "tokens", "insecure", "run_dir", "reflection"}
"""Settings of [server] that a simulated run has no use for."""


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
    simulate: Mapping[str, object] | None = None, client_files: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Simulates the runs and shows one table of all; where one fails, of those that did not, and then raises."""
    if specs and log_format == "text":
        print(announcement([spec.method.name for spec in specs]), flush=True)
    summaries = [summary]
    try:
        summaries += _summaries(specs, settings, simulate or {}, client_files)
    finally:
        show(summaries, log_format)


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
    specs: Sequence[RunSpec], settings: ServerSettings, simulate: Mapping[str, object], client_files: Sequence[Path]
) -> Iterator[Summary]:
    """In order, as many runs at a time as the cores carry."""

    def summary_of(spec: RunSpec) -> Summary:
        return _simulated(spec, settings, simulate, client_files)

    threads = max((max(spec.threads.client, spec.threads.server) for spec in specs), default=1)
    with ThreadPoolExecutor(at_once(threads), thread_name_prefix="heron-beside") as pool:
        yield from pool.map(summary_of, specs)


def _simulated(
    spec: RunSpec, settings: ServerSettings, simulate: Mapping[str, object], client_files: Sequence[Path]
) -> Summary:
    """The run's summary, by a process of its own.

    Where that fails, what it said goes to stderr, and SystemExit has its exit code; Internal: it was killed.
    """
    with kept_folder("heron-beside-") as kept:
        run_file, run_dir, said = (kept.path / name for name in ("run.toml", "run", "said.txt"))
        run_file.write_text(to_toml(tables_beside(spec, settings, run_dir, simulate)), encoding="utf-8")
        clients = [word for path in client_files for word in ("--client", str(path.absolute()))]
        command = ("-m", "heron_simulator", str(run_file), "--log-format", "json", *clients)
        with said.open("wb") as stderr:
            child = start_child(*command, stdout=subprocess.DEVNULL, stderr=stderr, folder=kept)
            try:
                code = child.wait()
            finally:
                let_go(child)
        name = spec.method.name
        if code < 0:
            raise Internal(f"the process that ran {name}: {ending(code)}; the run before it is saved")
        if code:
            print(f"{name}: {said.read_text(encoding='utf-8', errors='replace')}", end="", file=sys.stderr)
            sys.exit(code)
        summary: Summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        return summary


def tables_beside(
    spec: RunSpec, settings: ServerSettings, run_dir: Path, simulate: Mapping[str, object]
) -> dict[str, object]:
    """A run file that means the same wherever it lies."""
    server = {**settings.model_dump(exclude=OF_THE_SERVICE), "run_dir": run_dir}
    return {**file_tables(spec), "server": written(server), "simulate": dict(simulate)}
