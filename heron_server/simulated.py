"""A run by a process of its own: the simulator, on a run file that means the same wherever it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from heron_core.config import written
from heron_core.errors import Internal
from heron_core.process.children import ending, kept_folder, let_go, start_child
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import file_tables
from heron_server.config import ServerSettings
from heron_server.metrics.figures import Summary
from heron_server.text.toml import to_toml

OF_THE_SERVICE = {"address", "certs", "tokens", "insecure", "run_dir", "reflection", "evaluate_start"}
"""Settings of [server] that a simulated run has no use for; it starts with the same model, which is evaluated once."""
GIVES_WAY = 10
"""Niceness of one that computes beside another run: about a tenth of a core that both want."""

ENDS_WITHIN_S = 5.0
"""How long one that is no longer wanted is waited for."""


@dataclass(frozen=True)
class Simulated:
    """A run that has been started."""

    name: str
    """Of its method."""
    run_dir: Path
    said: Path
    """What its process has written to stderr."""
    process: subprocess.Popen[bytes]

    def summary(self) -> Summary:
        """Waits for its end.

        Where it failed, what it said goes to stderr, and SystemExit has its exit code; Internal: it was killed.
        """
        code = self.process.wait()
        if code < 0:
            raise Internal(f"the process that ran {self.name}: {ending(code)}; the run before it is saved")
        if code:
            print(f"{self.name}: {self.said.read_text(encoding='utf-8', errors='replace')}", end="", file=sys.stderr)
            sys.exit(code)
        summary: Summary = json.loads((self.run_dir / "summary.json").read_text(encoding="utf-8"))
        return summary


@contextmanager
def simulated(
    spec: RunSpec, settings: ServerSettings, simulate: Mapping[str, object], client_files: Sequence[Path], *,
    gives_way: bool = False,
) -> Iterator[Simulated]:  # fmt: skip
    """The run by another process, which ends with the block. `gives_way`: others that compute come first."""
    with kept_folder("heron-beside-") as kept:
        run_file, run_dir, said = (kept.path / name for name in ("run.toml", "run", "said.txt"))
        run_file.write_text(to_toml(tables_beside(spec, settings, run_dir, simulate)), encoding="utf-8")
        clients = [word for path in client_files for word in ("--client", str(path.absolute()))]
        command = ("-m", "heron_simulator", str(run_file), "--log-format", "json", *clients)
        with said.open("wb") as stderr:
            child = start_child(*command, stdout=subprocess.DEVNULL, stderr=stderr, folder=kept)
        try:
            if gives_way:
                with suppress(OSError):  # it has ended, or may not
                    os.setpriority(os.PRIO_PROCESS, child.pid, GIVES_WAY)
            yield Simulated(spec.method.name, run_dir, said, child)
        finally:
            let_go(child)
            with suppress(subprocess.TimeoutExpired):
                child.wait(ENDS_WITHIN_S)


def tables_beside(
    spec: RunSpec, settings: ServerSettings, run_dir: Path, simulate: Mapping[str, object]
) -> dict[str, object]:
    """A run file that means the same wherever it lies."""
    server = {**settings.model_dump(exclude=OF_THE_SERVICE), "run_dir": run_dir}
    return {**file_tables(spec), "server": written(server), "simulate": dict(simulate)}
