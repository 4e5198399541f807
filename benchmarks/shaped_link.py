"""Seconds a round over real links of a rate and a latency, beside what the virtual clock says of the same messages.

A server and three client processes over gRPC, each in a network namespace of its own. Each client's link is a pair of
TUN devices whose IP packets this process carries: one after the other at the rate, and each one latency later; nothing
is lost and no queue ends. So TCP is the kernel's own, with its handshake, windows and slow start, on links that are
shaped here, packet by packet, and not by `tc` (netem is in few kernels). The rate is of IP packets.

Modelled is docs/results/network's clock (heron_simulator/network_model.py) on the messages of the same run, with the
time of a client's local step and of the server's as the processes measured it. It knows no packet headers (about 4 %),
no TCP, no average, no checkpoint. Without shaping, what is left between the two is the machine's own.
docs/results/shaped_link.md has what came out.

Needs Linux, root and `ip` (iproute2).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import selectors
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from common import REPO, table

from heron_core.config import apply_overrides
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator.conditions import Conditions
from heron_simulator.settings import SimulateSettings
from heron_simulator.simulator import simulate

PAPER = REPO / "benchmarks" / "sweeps" / "presets" / "paper.toml"
TIMED = Path(__file__).with_name("timed.py")
CLIENTS, PORT, PATIENCE_S = 3, 50051, 600
LINKS = {"no shaping": (0.0, 0.0), "100 Mbit/s, 10 ms": (100.0, 10.0), "10 Mbit/s, 100 ms": (10.0, 100.0)}
INT4 = {"codec.uploads": "int4", "codec.labels": "packed"}
LARGE = {"model.widths": [16, 16, 16], "model.cut": "conv1", "method.batch_size": 64}
RUNS: dict[str, dict[str, object]] = {
    "the page's, 2 KiB an upload": {}, "the same, int4": INT4,
    "a large cut, 256 KiB an upload": LARGE, "a large cut, int4": {**LARGE, **INT4},
}  # fmt: skip
TUNSETIFF, IFF_TUN, IFF_NO_PI, PACKET = 0x400454CA, 0x0001, 0x1000, 1 << 16


@dataclass
class Way:
    """One direction of a link: packets from one device to another."""

    source: int
    target: int
    bit_per_s: float
    latency_s: float
    free_at: float = 0.0
    """When the last packet has left."""
    flying: deque[tuple[float, bytes]] = field(default_factory=deque)
    """(when it arrives, packet)"""

    def take(self, now: float) -> None:
        with suppress(BlockingIOError):
            while packet := os.read(self.source, PACKET):
                bits = 8 * len(packet)
                self.free_at = max(self.free_at, now) + (bits / self.bit_per_s if self.bit_per_s else 0.0)
                self.flying.append((self.free_at + self.latency_s, packet))

    def deliver(self, now: float) -> None:
        while self.flying and self.flying[0][0] <= now:
            with suppress(OSError):  # the device is gone, or down
                os.write(self.target, self.flying.popleft()[1])


def carry(ways: list[Way], over: threading.Event) -> None:
    """Carries packets until it is over."""
    with selectors.DefaultSelector() as selector:
        for way in ways:
            selector.register(way.source, selectors.EVENT_READ, way)
        while not over.is_set():
            next_at = min((way.flying[0][0] for way in ways if way.flying), default=time.monotonic() + 0.1)
            for key, _ in selector.select(max(0.0, next_at - time.monotonic())):
                key.data.take(time.monotonic())
            for way in ways:
                way.deliver(time.monotonic())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def device(stack: ExitStack, name: str, namespace: str, address: str) -> int:
    """A TUN device in that namespace; its descriptor is here."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, handle)
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    ip("link", "set", name, "netns", namespace)
    ip("-n", namespace, "address", "add", f"{address}/24", "dev", name)
    ip("-n", namespace, "link", "set", name, "txqueuelen", "10000", "up")
    return handle


@contextmanager
def links(mbit_per_s: float, latency_ms: float) -> Iterator[list[str]]:
    """The server's namespace, then each client's, with a link between the two."""
    names = [f"heron-{os.getpid()}-{end}" for end in ("server", *(f"c{i}" for i in range(CLIENTS)))]
    with ExitStack() as stack:
        ways, over = [], threading.Event()
        for name in names:
            ip("netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True, check=False)
            ip("-n", name, "link", "set", "lo", "up")
        for i, name in enumerate(names[1:]):
            ends = [device(stack, f"hs{i}", names[0], f"10.77.{i}.1"), device(stack, f"hc{i}", name, f"10.77.{i}.2")]
            ways += [Way(a, b, 1e6 * mbit_per_s, latency_ms / 1e3) for a, b in (ends, ends[::-1])]
        carrier = threading.Thread(target=carry, args=(ways, over), daemon=True)
        carrier.start()
        stack.callback(carrier.join)
        stack.callback(over.set)
        yield names


def started(namespace: str, *words: str, **settings: object) -> subprocess.Popen[bytes]:
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ["ip", "netns", "exec", namespace, sys.executable, *words, *sets]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def over_links(namespaces: list[str], settings: dict[str, object]) -> tuple[float, float, float]:
    """Seconds a round, of a client's local step, and of the server's."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir, notes = Path(folder) / "run", Path(folder) / "server.jsonl"
        mine = {"server.address": f"0.0.0.0:{PORT}", "server.run_dir": str(run_dir), "server.insecure": True}
        server = started(
            namespaces[0], str(TIMED), str(notes), "heron_server", "run", str(PAPER), "--insecure", **settings, **mine
        )
        clients = [
            started(name, "-m", "heron_client", "run", "--once", "--log-level", "error", "--insecure",
                    name=f"client-{i}", server=f"10.77.{i}.1:{PORT}", retry_for_s=60)
            for i, name in enumerate(namespaces[1:])
        ]  # fmt: skip
        try:
            if server.wait(PATIENCE_S):
                raise RuntimeError(f"the server ended with exit status {server.returncode}")
        finally:
            for process in (server, *clients):
                process.terminate()
                process.wait(30)
        summary = json.loads((run_dir / "summary.json").read_text())
        steps_s = [json.loads(line)["steps"] for line in notes.read_text().splitlines()]
    history, method = summary["history"], RunSpec.model_validate(run_tables(settings)).method
    server_step_s = (steps_s[-1] - steps_s[0]) / (len(steps_s) - 1) / CLIENTS / method.local_steps
    return median(r["wall_s"] for r in history[1:]), summary["client_step"]["seconds_median"], server_step_s


def run_tables(settings: dict[str, object]) -> dict[str, Any]:
    """The preset's, with these on top."""
    sets = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return apply_overrides(tomllib.loads(PAPER.read_text()), sets)


class Modelled:
    """The virtual clock, on the messages of one simulation of the run."""

    def __init__(self, settings: dict[str, object]) -> None:
        self._spec = RunSpec.model_validate(run_tables(settings))
        recorded = Conditions(self._spec, SimulateSettings())
        self._facts = simulate(self._spec, around=recorded.around).facts
        self._recording = recorded.recording

    def round_s(self, mbit_per_s: float, latency_ms: float, step_s: float, server_step_s: float) -> float:
        conditions = Conditions(self._spec, SimulateSettings.model_validate({"network": {
            "mbit_per_s": mbit_per_s, "latency_ms": latency_ms, "compute_s_per_step": step_s,
            "server_s_per_step": server_step_s,
        }}))  # fmt: skip
        conditions.recording = self._recording
        return median(conditions.figures(self._facts, ServerSettings().byte_budget).round_s[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    if sys.platform != "linux" or os.geteuid():
        parser.error("network namespaces and TUN devices are for root on Linux")
    rows = []
    for name, more in RUNS.items():
        settings = {"rounds": rounds, "evaluate_every": rounds, "federation.clients": CLIENTS, **more}
        modelled = Modelled(settings)
        for link, (mbit_per_s, latency_ms) in LINKS.items():
            with links(mbit_per_s, latency_ms) as namespaces:
                round_s, step_s, server_step_s = over_links(namespaces, settings)
            clock_s = modelled.round_s(mbit_per_s, latency_ms, step_s, server_step_s)
            rows.append([name, link, round_s, clock_s, round_s - clock_s, 1e3 * step_s, 1e3 * server_step_s])
            print(rows[-1], file=sys.stderr, flush=True)
    header = ["run", "link", "measured s a round", "modelled", "difference", "client step ms", "server step ms"]
    table(header, rows)


if __name__ == "__main__":
    main()
