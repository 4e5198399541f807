"""docs/trust.md, from nothing to two machines: its commands, as they stand there, in two network namespaces.

Each machine has a network of its own, with a cable between the two, and a folder of its own. The one command that is
another here is scp, which copies between the two folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Bench, Program

from heron_server.text.toml import to_toml

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
MOST_COMMANDS = 6
SERVER, CLIENT, NETWORK = "10.0.0.5", "10.0.0.7", "/24"
TABLES = {
    "rounds": 2,
    "model": {"name": "mlp", "input_shape": [1, 8, 8]},
    "method": {"local_steps": 2, "batch_size": 8},
    "federation": {"clients": 1},
    "data": {"train_limit": 100, "test_limit": 20},
}


def documented() -> tuple[list[str], list[str]]:
    """The server's commands and the client's."""
    section = PAGE.read_text().partition("## From nothing to two machines")[2].partition("\n## ")[0]
    server, client = section.split("On the client")
    return tuple([line.strip() for line in part.splitlines() if line.startswith("    ")] for part in (server, client))


class Machine:
    """A network namespace and a folder."""

    def __init__(self, name: str, folder: Path, programs: Path) -> None:
        self.name, self.folder = f"heron-{os.getpid()}-{name}", folder
        folder.mkdir()
        self._env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OTHER": str(folder.parent / "client")}

    def does(self, command: str) -> None:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "sh", "-c", command], cwd=self.folder, env=self._env, timeout=60,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def starts(self, bench: Bench, command: str) -> Program:
        code = "import os, sys; os.execvp('ip', sys.argv[1:])"
        words = ("ip", "netns", "exec", self.name, "sh", "-c", f"exec {command}")
        return bench.program("-c", code, *words, env=self._env, cwd=self.folder)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """The server's and the client's, with a cable between them; skips where no network namespaces can be had."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, does in {
        "heron-server": f'{sys.executable} -m heron_server "$@"',
        "heron-client": f'{sys.executable} -m heron_client "$@"',
        "scp": 'cp "$1" "$2" "$OTHER/${3#*:}"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\nexec {does}\n")
        (programs / name).chmod(0o755)
    server, client = (Machine(name, tmp_path / name, programs) for name in ("server", "client"))
    if shutil.which("ip") is None:
        pytest.skip("no `ip` (iproute2) here to make network namespaces")
    try:
        for machine in (server, client):
            _ip("netns", "add", machine.name)
        cable = ("veth", "netns", server.name, "type", "veth", "peer", "name", "veth", "netns", client.name)
        _ip("link", "add", *cable)
        for machine, address in ((server, SERVER), (client, CLIENT)):
            _ip("-n", machine.name, "address", "add", address + NETWORK, "dev", "veth")
            for device in ("veth", "lo"):
                _ip("-n", machine.name, "link", "set", device, "up")
        yield server, client
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be had here: {error.stderr.strip()}")
    finally:
        for machine in (server, client):
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def test_the_documented_commands_bring_two_machines_together(bench: Bench, machines: tuple[Machine, Machine]) -> None:
    server, client = machines
    (*setting_up, serve), (join,) = documented()
    assert len(setting_up) + 2 <= MOST_COMMANDS
    (server.folder / "run.toml").write_text(to_toml(TABLES))
    for command in setting_up:
        server.does(command)
    served = server.starts(bench, serve)
    served.line("listening on 10.0.0.5:50051")
    client.starts(bench, join).line("joined run")
    assert served.ends() == 0
