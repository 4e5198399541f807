"""One run of clients and a server, each a process, that is disturbed at given moments and must end by itself.

The harness does what an operator and a service manager would: it starts again what has ended otherwise than well (the
server with --resume once there is a checkpoint), frees the disk, lets what was stopped go on.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import common  # noqa: F401 (puts the repository on the path)
from endings import CLIENTS, ROUNDS, Disturbance, Ending, Plan, Undisturbed, judge, shape
from relay import Relay
from warm import Child, Starter

LOOK_S = 0.01
RESTART_S = 0.3
"""From the end of a process to its next start."""
RETRY_FOR_S = 10.0
"""A client gives up after so long without a server; then the harness starts it again."""
ENDS_S = 90.0
"""A run must have ended so long after its last disturbance was over."""
DISK_BYTES = 1 << 20
ASKED_FOR = {"kill": -signal.SIGKILL, "term": 5}
"""How the harness ends a process, and the exit code that this must give."""
FIRST_INSTRUCTION_S = 1.0
"""An interpreter that is younger may not have reached the command's first instruction; it is too early for code 5."""
REFUSALS = (2, 3, 4, 6)
"""Exit codes of a process that ends itself and says why."""

TABLES: dict[str, Any] = {
    "rounds": ROUNDS,
    "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [16, 16]},
    "method": {"local_steps": 15, "batch_size": 8},
    "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
    "server": {
        "heartbeat_s": 0.2, "silence_s": 1.5, "grace_s": 1.0, "step_deadline_s": 4.0, "round_deadline_s": 20.0,
        "rejoin_s": 30.0,
    },
}  # fmt: skip


class DisturbedRun:
    """One trial in its own folder, from start to verdict."""

    def __init__(
        self, plan: Plan, folder: Path, starter: Starter, undisturbed: Undisturbed | None, clients: int = CLIENTS
    ) -> None:
        self._plan, self._folder, self._starter, self._undisturbed = plan, folder, starter, undisturbed
        self._run_dir = folder / "disk" / "run"
        self._disk_is_mounted = any(d.kind == "full-disk" for d in plan.disturbances)
        self._relays = [Relay() for _ in range(clients)]
        self._address = ""
        self._cut: set[int] = set()
        self._server: Child | None = None
        self._heard = 0
        """Bytes of the server's lines that were read."""
        self._clients: list[Child | None] = [None] * clients
        self._asked_to_end: dict[Child, dict[str, float]] = {}
        """Those that the harness ended itself, and how old each was when it was to be killed or terminated."""
        self._due: list[tuple[float, Any]] = []
        """(moment, what is to be done): restarts, and what undoes a disturbance."""
        self._starts = 0
        self._end = Ending(plan)

    def run(self) -> Ending:
        """Runs it to its end, or until it has had ENDS_S since its last disturbance was over."""
        self._run_dir.parent.mkdir(parents=True)
        if self._disk_is_mounted:
            _command("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "heron-chaos", str(self._run_dir.parent))
        start = monotonic()
        try:
            self._play(start)
        finally:
            self._end.seconds = monotonic() - start
            self._clear()
        return self._end

    def _play(self, start: float) -> None:
        self._begin(start)
        deadline = start + ENDS_S
        while not self._over():
            if self._look():
                deadline = monotonic() + ENDS_S
            if monotonic() > deadline:
                self._end.wrong.append(f"did not end within {ENDS_S:g} s of its last disturbance\n{self._scene()}")
                return
            sleep(LOOK_S)
        judge(self._end, self._run_dir, sum(relay.up for relay in self._relays), self._undisturbed)

    def _begin(self, start: float) -> None:
        self._start_server()
        for number in range(len(self._clients)):
            self._start_client(number)
        for each in self._plan.disturbances:
            self._due.append((start + each.at_s, lambda each=each: self._disturb(each)))

    def _look(self) -> bool:
        """Does what is due, and starts again what has ended. Was anything due?"""
        now = monotonic()
        due = [item for item in self._due if item[0] <= now]
        for item in due:
            self._due.remove(item)
            item[1]()
        self._look_at_server()
        self._look_at_clients()
        return bool(due)

    def _over(self) -> bool:
        children = [self._server, *self._clients]
        return self._has_finished() and not any(child is not None and child.running for child in children)

    def _has_finished(self) -> bool:
        return self._server is not None and self._server.code == 0

    # -- processes -----------------------------------------------------------------------------------------------

    def _start_server(self) -> None:
        from heron_server.text.toml import to_toml

        run_file = self._folder / "run.toml"
        if not run_file.exists():
            run_file.write_text(to_toml(self._tables()))
        resumes = any(self._run_dir.glob("checkpoints/round-*.safetensors"))
        flags = ["--resume"] if resumes else []
        self._heard = 0
        self._server = self._start("heron_server", "server", "run", str(run_file), "--log-format", "json", *flags)

    def _tables(self) -> dict[str, Any]:
        local = {"address": "127.0.0.1:0", "run_dir": str(self._run_dir)}
        federation = {**TABLES["federation"], "min_clients": self._plan.min_clients}
        return {**TABLES, "federation": federation, "server": {**TABLES["server"], **local}}

    def _start_client(self, number: int) -> None:
        from heron_server.text.toml import to_toml

        file = self._folder / f"client-{number}.toml"
        file.write_text(to_toml(self._facts_of(number)))
        self._clients[number] = self._start("heron_client", f"client-{number}", "run", str(file), "--once")

    def _facts_of(self, number: int) -> dict[str, Any]:
        facts = {
            "name": f"client-{number}", "server": self._relays[number].address, "retry_max_s": 0.5,
            "retry_for_s": RETRY_FOR_S, "rpc_deadline_s": 5.0,
        }  # fmt: skip
        return {**facts, "state_dir": str(self._folder / f"client-{number}")} if self._plan.identities else facts

    def _start(self, module: str, name: str, *arguments: str) -> Child:
        self._starts += 1
        out, err = (self._folder / f"{self._starts:03d}-{name}.{stream}" for stream in ("out", "err"))
        child = self._starter.start(module, arguments, out, err)
        child.name = name
        return child

    def _look_at_server(self) -> None:
        server = self._server
        if server is None:
            return
        for event in self._news(server):
            if event["event"] == "listening":
                self._address = str(event["address"])
                for number in range(len(self._clients)):
                    self._connect(number)
            self._heard_of(event)
        if not server.running and server.code != 0:
            self._ended(server)
            self._server = None
            self._later(RESTART_S, self._start_server)

    def _heard_of(self, event: dict[str, Any]) -> None:
        self._end.pauses += event["event"] == "paused"

    def _look_at_clients(self) -> None:
        for number, client in enumerate(self._clients):
            if client is None or client.running or client.code == 0:
                continue
            self._ended(client)
            self._clients[number] = None
            if not self._has_finished():
                self._later(RESTART_S, lambda number=number: self._start_client(number))

    def _news(self, server: Child) -> Iterator[dict[str, Any]]:
        if not server.out.exists():
            return
        with server.out.open("rb") as lines:
            lines.seek(self._heard)
            whole = lines.read().rpartition(b"\n")[0]
        self._heard += len(whole) + bool(whole)
        for line in whole.splitlines():
            yield json.loads(line)

    def _ended(self, child: Child) -> None:
        """Counts an end that nobody asked for; one without a documented code is wrong."""
        asked = self._asked_to_end.get(child, {})
        too_early = child.code == self._starter.too_early and asked.get("term", inf) < FIRST_INSTRUCTION_S
        if too_early or child.code in [ASKED_FOR[what] for what in asked]:
            return
        last_words = child.stderr.strip().rpartition("\n")[2]
        self._end.refusals[f"{child.name.partition('-')[0]} exit {child.code}: {shape(last_words)}"] += 1
        if child.code not in REFUSALS:
            self._end.wrong.append(f"{child.name} ended with {child.code}:\n{child.stderr[-3000:]}")

    def _later(self, after_s: float, what: Any) -> None:
        self._due.append((monotonic() + after_s, what))

    # -- disturbances --------------------------------------------------------------------------------------------

    def _disturb(self, each: Disturbance) -> None:
        """Nobody is there to be killed where it has ended already, and starts again."""
        what, _, whom = each.kind.partition("-")
        if whom == "link":
            self._cut.add(each.client)
            self._relays[each.client].cut()
            self._later(each.lasts_s, lambda: (self._cut.discard(each.client), self._connect(each.client)))
        elif whom == "disk":
            self._fill_disk()
            self._later(each.lasts_s, self._free_disk)
        else:
            child = self._server if whom == "server" else self._clients[each.client]
            if child is not None and child.running:
                self._signal(child, what, each.lasts_s)

    def _signal(self, child: Child, what: str, lasts_s: float) -> None:
        if what == "stop":
            child.signal(signal.SIGSTOP)
            self._later(lasts_s, lambda: child.signal(signal.SIGCONT))
            return
        self._asked_to_end.setdefault(child, {}).setdefault(what, child.age_s)
        child.signal(signal.SIGKILL if what == "kill" else signal.SIGTERM)

    def _connect(self, number: int) -> None:
        if self._address and number not in self._cut:
            self._relays[number].lead_to(self._address)

    def _fill_disk(self) -> None:
        with suppress(OSError), (self._run_dir.parent / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(b"\0" * 4096)

    def _free_disk(self) -> None:
        (self._run_dir.parent / "filler").unlink(missing_ok=True)

    # -- the end -------------------------------------------------------------------------------------------------

    def _scene(self) -> str:
        """What there is to see of a run that does not end."""
        if self._server is not None and self._server.running:
            self._server.signal(signal.SIGUSR1)  # it writes story.txt
            sleep(1.0)
        said = []
        for path in sorted(self._folder.glob("0*.*")):
            said += [f"{path.name}: {line}" for line in path.read_text(errors="replace").splitlines()[-6:]]
        with suppress(OSError):
            said.append((self._run_dir / "story.txt").read_text()[-6000:])
        return "\n".join(said)

    def _clear(self) -> None:
        for child in [self._server, *self._clients]:
            if child is not None and child.running:
                child.signal(signal.SIGKILL)
                child.ends(10)
        for relay in self._relays:
            relay.cut()
            relay.__exit__()
        if self._disk_is_mounted:
            _command("umount", "-l", str(self._run_dir.parent))
        if not self._end.wrong:
            shutil.rmtree(self._folder, ignore_errors=True)


def mounting_is_allowed(folder: Path) -> bool:
    """May this user mount a file system of a given size?"""
    try:
        _command("mount", "-t", "tmpfs", "-o", "size=64k", "heron-chaos", str(folder))
    except (OSError, subprocess.CalledProcessError):
        return False
    _command("umount", str(folder))
    return True


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
