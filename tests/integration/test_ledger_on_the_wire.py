"""The ledger against a relay that counts every byte between three client processes and the server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from relay import Relay

CLIENTS = 3
PATIENCE_S = 120.0
RUN = {
    "rounds": 3,
    "method.local_steps": 10,
    "federation.clients": CLIENTS,
    "federation.min_clients": CLIENTS,
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def command(module: str, *words: str, **settings: object) -> list[str]:
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", module, *words, *sets]


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not listen on {port}; exit status {server.poll()}")


@pytest.mark.slow
def test_the_ledger_agrees_with_the_bytes_that_a_relay_counted(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "run.toml").write_text('name = "ledger"\n')
    settings = {**RUN, "server.address": f"127.0.0.1:{port}", "server.run_dir": tmp_path / "run"}
    processes = [subprocess.Popen(command("heron_server", "run", str(tmp_path / "run.toml"), **settings))]
    try:
        wait_for_port(port, processes[0])
        with Relay(f"127.0.0.1:{port}") as relay:
            for i in range(CLIENTS):
                own = {"name": f"client-{i}", "server": relay.address, "retry_for_s": PATIENCE_S}
                processes.append(subprocess.Popen(command("heron_client", "run", "--once", **own)))
            assert [process.wait(PATIENCE_S) for process in reversed(processes)] == [0] * (CLIENTS + 1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    ledger = json.loads((tmp_path / "run" / "summary.json").read_text())["ledger"]
    assert ledger["wire_up"] == pytest.approx(relay.up, rel=0.01)
    assert ledger["wire_down"] == pytest.approx(relay.down, rel=0.02)  # half of it is acknowledgements: timing shows
    assert ledger["wire_up"] + ledger["wire_down"] == pytest.approx(relay.up + relay.down, rel=0.01)
    kinds = sum(count for kind, count in ledger.items() if not kind.startswith("wire_"))
    assert kinds == ledger["wire_up"] + ledger["wire_down"]
