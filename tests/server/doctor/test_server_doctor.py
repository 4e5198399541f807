"""What goes wrong in setting up a server: each mistake has its line, and doing what the line says mends it."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctors import Doctored
from secured import Secured
from server.driven import Start
from typer.testing import CliRunner

from heron_core.doctor.examination import Level
from heron_core.errors import ConfigError
from heron_core.spec.run_spec import RunSpec
from heron_server.api.server import listen
from heron_server.certs_command import app as certs_app
from heron_server.cli import app
from heron_server.config import ServerSettings
from heron_server.doctor.command import run_doctor
from heron_server.doctor.run import files
from heron_server.doctor.visit import Visit
from heron_server.storage.run_dir import RunDir

USAGE, INPUT = 2, 4
SMALL: dict[str, Any] = {
    "rounds": 2,
    "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
    "method": {"local_steps": 2, "batch_size": 8},
    "federation": {"clients": 2},
}


class Doctor(Doctored):
    """A run file's."""

    def __init__(self, insecure: bool = False, **settings: Any) -> None:
        super().__init__(**{"address": "127.0.0.1:0", "device": "cpu", **settings})
        self._insecure = insecure

    def examined(self, say: Callable[[str], None], now: datetime | None) -> int:
        spec, settings = RunSpec.model_validate(SMALL), ServerSettings.model_validate(self.settings)
        return run_doctor(spec, settings, say, self._insecure, now)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sound_run_gets_a_line_for_each_thing_and_exit_code_0(tmp_path: Path) -> None:
    Path("run.toml").write_text(
        '[model]\nname = "mlp"\ninput_shape = [1, 8, 8]\nwidths = [8, 8]\n[server]\naddress = "127.0.0.1:0"\n'
    )
    done = CliRunner().invoke(app, ["doctor", "run.toml"])
    assert done.exit_code == 0, done.output
    topics = [line[11:25].strip() for line in done.output.splitlines()]
    assert list(dict.fromkeys(topics[:-1])) == [
        "versions", "certificates", "address", "open files", "run folder", "run", "memory", "disk",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"], "nothing is made"
    done = CliRunner().invoke(app, ["doctor", "run.toml", "--set", "server.memory_limit=100"])
    assert done.exit_code == USAGE


# -- the address -----------------------------------------------------------------------------------------------------


def test_an_address_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.doctor.port.PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        doctor = Doctor(address=f"127.0.0.1:{taken.getsockname()[1]}")
        doctor.fails(USAGE, "address", "already in use; stop what listens there .* another port: server.address")
    doctor.is_well()


def test_an_address_at_which_a_heron_server_serves_already(start: Start) -> None:
    async def scenario() -> None:
        port, address = await listen(start().coordinator, "127.0.0.1:0", False)
        said = r"already in use \(a Heron server, which serves\); stop what listens there"
        await asyncio.to_thread(Doctor(address=address).fails, USAGE, "address", said)
        await port.stop(0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.1:0", r"no address of this machine; take one of its own \(ip addr\), or 0\.0\.0\.0 for all"),
        ("unix:nowhere/heron.sock", "No such file or directory; mend server.address"),
    ],
)
def test_an_address_that_is_not_this_machine_s(address: str, said: str) -> None:
    doctor = Doctor(insecure=True, address=address)
    code, lines = doctor.says()
    assert code == USAGE and re.search(said, lines[-1])
    doctor.is_well(address="127.0.0.1:0")


def test_a_socket_in_the_file_system_is_tried_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heron_server.doctor.port.PATIENCE_S", 0.1)
    Doctor(address="unix:heron.sock").is_well()
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("heron.sock")
        Doctor(address="unix:heron.sock").is_well()  # nobody listens
        taken.listen(1)
        Doctor(address="unix:heron.sock").fails(USAGE, "address", "already in use; stop what listens there")


def test_a_socket_that_is_a_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.doctor.port.PATIENCE_S", 0.1)
    doctor = Doctor(address=f"unix-abstract:heron-doctor-{os.getpid()}")
    doctor.is_well()
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"\0heron-doctor-{os.getpid()}")
        doctor.fails(USAGE, "address", "already in use; stop what listens there")


# -- certificates ----------------------------------------------------------------------------------------------------


def test_no_certificates_for_an_address_that_others_reach() -> None:
    doctor = Doctor(address="0.0.0.0:0")
    line = doctor.fails(USAGE, "certificates", "there are no certificates in certs/server. Make them: ")
    commands = re.findall(r"heron-server certs ((?:init|server|client)[^;.]*?)(?:;| for each)", line)
    assert len(commands) == 3
    for command in commands:
        typed = command.replace("THIS-MACHINE", "heron.example").replace("NAME", "a").split()
        assert CliRunner().invoke(certs_app, typed).exit_code == 0
    doctor.is_well()


def test_what_is_wrong_with_the_certificates(tmp_path: Path) -> None:
    certs = Secured(tmp_path / "made")
    folder = certs.store.server
    doctor = Doctor(certs=str(folder))
    certs.serve(days=1, age_days=9)
    doctor.fails(USAGE, "certificates", "expired on .* make a new certificate with `heron-server certs`")
    certs.serve(days=30)
    doctor.is_well()
    doctor.settings.update(address="0.0.0.0:0")
    doctor.warns("certificates", "reaches this server by an address refuses it", "certs server --host NAME-OR-ADDRESS")
    certs.serve(("heron.example",), days=30)
    doctor.is_well()
    (folder / "key.pem").chmod(0o640)
    doctor.warns("certificates", f"has mode 0640, .*: chmod 600 {folder / 'key.pem'}$")
    (folder / "key.pem").unlink()
    doctor.fails(USAGE, "certificates", r"no key\.pem in .* make it anew with `heron-server certs`")


def test_tokens_that_are_not_there() -> None:
    doctor = Doctor(tokens="certs/server/tokens.txt")
    line = doctor.fails(USAGE, "certificates", "no certs/server/tokens.txt .* make one: heron-server certs token NAME")
    command = line.rpartition("heron-server certs ")[2].replace("NAME", "a")
    assert CliRunner().invoke(certs_app, command.split()).exit_code == 0
    doctor.is_well()


# -- the machine and the run -----------------------------------------------------------------------------------------


def test_a_run_directory_that_another_server_holds(tmp_path: Path) -> None:
    doctor = Doctor(run_dir=str(tmp_path / "run"))
    with closing(RunDir(tmp_path / "run")):
        doctor.fails(USAGE, "run folder", "another server works in .* stop it, or choose another run_dir")
    doctor.is_well()
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "round-000003.safetensors").touch()
    doctor.warns("run folder", "holds a run up to round 3: go on with --resume, or choose another run_dir")


def test_more_clients_than_a_process_may_have_connections() -> None:
    """Not the soft limit counts: a server raises that by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        assert [found.level for found in files(Visit(RunSpec.model_validate(SMALL), ServerSettings()))] == [Level.OK]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    crowd = RunSpec.model_validate({**SMALL, "federation": {"clients": 10**9}})
    said = r"a run of 1000000000 clients needs 2000000160 .* as root .* ulimit -n 2000000160 \(in a systemd unit"
    with pytest.raises(ConfigError, match=said):
        list(files(Visit(crowd, ServerSettings())))


def test_a_disk_that_is_too_full() -> None:
    doctor = Doctor(keep_checkpoints=10**12)
    doctor.fails(USAGE, "disk", "are free in .* free some, or lower server.keep_checkpoints or choose another run_dir")
    doctor.is_well(keep_checkpoints=2)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    doctor = Doctor(test_data="npz", test_path=str(tmp_path / "test.npz"))
    doctor.fails(INPUT, "run", r"no \.npz file at .*test\.npz", "path")
    np.savez(tmp_path / "test.npz", x=np.ones((8, 1, 8, 8), np.float32), y=np.arange(8))
    doctor.is_well()
