"""What goes wrong in setting up a client: each mistake has its line, and doing what the line says mends it."""

from __future__ import annotations

import os
import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client.transport.odd_server import odd_server
from client.transport.proxy_server import proxy_to
from doctors import Doctored
from integration.test_transports import spec
from integration.worlds import GrpcWorld
from secured import HERE, Secured, today
from typer.testing import CliRunner

from heron_client.cli import app
from heron_client.config import ClientSettings
from heron_client.doctor.command import run_doctor
from heron_client.doctor.own import OWN_FILES
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.certs_command import app as certs_app

E2E = Path(__file__).parents[1] / "e2e"
USAGE, PEER, INPUT = 2, 3, 4


class Doctor(Doctored):
    """A client's."""

    def __init__(self, server: str, **settings: Any) -> None:
        super().__init__(**{"name": "a", "server": server, "device": "cpu", "rpc_deadline_s": 10.0, **settings})

    def examined(self, say: Callable[[str], None], now: datetime | None) -> int:
        return run_doctor(ClientSettings.model_validate(self.settings), say, now=now)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in plain text."""
    with closing(GrpcWorld(spec(), tmp_path_factory.mktemp("plain"))) as world:
        yield world.address


class Guarded:
    """A server with certificates, whose own is made anew in its place."""

    def __init__(self, folder: Path) -> None:
        self.certs = Secured(folder / "certs")
        self.world = GrpcWorld(spec(), folder / "run", guard=self.certs.guard)

    def doctor(self, **settings: Any) -> Doctor:
        usual = {"server": self.world.address, "certs": settings.get("certs") or self.folder("a")}
        return Doctor(**{**usual, **settings})

    def folder(self, name: str, days: float = 30, age_days: float = 0) -> str:
        folder = self.certs.client(name, days, age_days).certs
        assert folder is not None
        return str(folder.path)

    def serve(self, hosts: tuple[str, ...] = HERE, **facts: float) -> None:
        (self.certs.store.server / "cert.pem").unlink(missing_ok=True)  # its hosts would stay
        self.certs.serve(hosts, **facts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    yield guarded
    guarded.world.close()


@pytest.fixture
def guarded(made: Guarded) -> Guarded:
    made.serve()
    return made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- the way to the server -------------------------------------------------------------------------------------------


def test_a_sound_client_gets_a_line_for_each_thing_and_exit_code_0(
    guarded: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, address = guarded.folder("a"), guarded.world.address
    flags = [f"--set={key}={value}" for key, value in {"name": "a", "server": address, "certs": folder}.items()]
    with pytest.raises(SystemExit) as end:
        app(["doctor", *flags, f"--set=state_dir={tmp_path / 'state'}"])
    output = capsys.readouterr().out
    assert end.value.code == 0, output
    topics = [line[11:25].strip() for line in output.splitlines()]
    assert list(dict.fromkeys(topics[:-1])) == [
        "versions", "certificates", "state folder", "own data", "open files", "name", "proxy", "port", "handshake",
        "server", "model", "data", "one step",
    ]  # fmt: skip
    assert re.search(r"TLS, the server's certificate is for localhost, 127\.0\.0\.1, valid until \d{4}-", output)
    assert re.search(r"one step +the client at work needs \d+ MiB", output)
    assert not (tmp_path / "state").exists(), "nothing is made"


def test_no_server_at_that_port(plain: str) -> None:
    doctor = Doctor(f"127.0.0.1:{free_port()}")
    doctor.fails(PEER, "port", "nothing listens at this port; start heron-server there, or put the address .* `server`")
    doctor.is_well(server=plain)
    doctor = Doctor("unix:nowhere.sock")
    doctor.fails(PEER, "port", "No such file or directory; start heron-server there")


def test_a_name_that_nobody_knows(plain: str) -> None:
    doctor = Doctor(plain.replace("127.0.0.1", "box.invalid"), insecure=True)
    said: list[str] = []
    assert run_doctor(ClientSettings.model_validate(doctor.settings), said.append, insecure=True) == PEER
    assert [line for line in said if "nobody here knows 'box.invalid'" in line and "put the server's address" in line]
    doctor.is_well(server=plain)


def pretend(monkeypatch: pytest.MonkeyPatch, host: str, address: str | None) -> None:
    """The system's resolver, as Python asks it, knows `host` as `address`, or not at all."""
    ask = socket.getaddrinfo

    def answer(name: Any, *arguments: Any, **named: Any) -> Any:
        if name == host and address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(address if name == host else name, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_a_name_that_grpc_alone_knows_is_a_warning(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "localhost", None)
    code, lines = Doctor(plain.replace("127.0.0.1", "localhost")).says()
    assert code == 0
    assert "own resolver does not know localhost" in lines[0] and "is not reached directly" in lines[1]


def test_a_name_that_grpc_s_own_resolver_does_not_know(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.serve((*HERE, "box.invalid"))
    pretend(monkeypatch, "box.invalid", "127.0.0.1")
    doctor = guarded.doctor(server=guarded.world.address.replace("127.0.0.1", "box.invalid"))
    doctor.fails(PEER, "server", "export GRPC_DNS_RESOLVER=native", "put the address into `server`")
    doctor.is_well(server=guarded.world.address)


def test_a_proxy_of_the_environment_is_not_used_unless_the_settings_say_so(
    plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{free_port()}")
    Doctor(plain).is_well()
    doctor = Doctor(plain, use_proxy=True)
    line = doctor.fails(PEER, "proxy", "gRPC goes by http_proxy = 'http://127.0.0.1:.* without it the server answers")
    assert "secret" not in line and line.endswith("leave use_proxy out")
    doctor.is_well(use_proxy=False)
    monkeypatch.delenv("http_proxy")
    Doctor(plain, use_proxy=True).warns("proxy", "none of grpc_proxy, https_proxy, http_proxy names one")


def test_a_server_that_a_proxy_alone_reaches(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_to(plain) as address:
        monkeypatch.setenv("http_proxy", f"http://{address}")
        doctor = Doctor(f"127.0.0.1:{free_port()}")
        code, lines = doctor.says()
        assert code == PEER and "is not used, and the server is reached by it alone; set use_proxy = true" in lines[0]
        doctor.settings["use_proxy"] = True
        doctor.warns("port", "is not reached directly")


def test_a_proxy_and_no_server_is_a_warning_beside_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    code, lines = Doctor(f"127.0.0.1:{free_port()}", use_proxy=True).says()
    assert code == PEER
    assert [line.split()[:2] for line in lines] == [["warning", "proxy"], ["failed", "port"]]
    code, lines = Doctor(f"127.0.0.1:{free_port()}").says()
    assert [line.split()[:2] for line in lines] == [["failed", "port"]]


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_plain_text_to_a_server_with_certificates(guarded: Guarded) -> None:
    doctor = guarded.doctor(certs=None)
    doctor.fails(PEER, "handshake", "speaks TLS", "copy its folder of .* here and name it: certs")
    doctor.is_well(certs=guarded.folder("a"))


def test_certificates_for_a_server_in_plain_text(guarded: Guarded, plain: str) -> None:
    doctor = guarded.doctor(server=plain)
    doctor.fails(PEER, "handshake", "answers, but in plain text", r"heron-server certs server.* or mend the port")
    doctor.is_well(server=guarded.world.address)


def test_a_certificate_of_another_ca(guarded: Guarded, tmp_path: Path) -> None:
    stranger = Secured(tmp_path / "other").client("a", 30).certs
    assert stranger is not None
    doctor = guarded.doctor(certs=str(stranger.path))
    doctor.fails(PEER, "handshake", "is not of the CA in", "copy this client's folder from the server again")
    doctor.is_well(certs=guarded.folder("a"))


def test_a_server_s_certificate_that_has_expired(guarded: Guarded) -> None:
    guarded.serve(days=1, age_days=9)
    doctor = guarded.doctor()
    line = doctor.fails(PEER, "handshake", "expired on", "make a new certificate with `heron-server certs`")
    assert "this machine's clock says" in line
    guarded.serve()
    doctor.is_well()


def test_a_server_s_certificate_for_other_names(guarded: Guarded) -> None:
    guarded.serve(("heron.example",))
    doctor = guarded.doctor()
    line = doctor.fails(PEER, "handshake", "is not for '127.0.0.1' but for heron.example")
    command = re.search(r"heron-server certs (server .*--force)$", line)
    assert command, line
    done = CliRunner().invoke(certs_app, [*command[1].split(), "--certs", str(guarded.certs.root)])
    assert done.exit_code == 0, done.output
    doctor.is_well()


def test_an_own_certificate_that_has_expired(guarded: Guarded) -> None:
    doctor = guarded.doctor(certs=guarded.folder("a", days=1, age_days=9))
    doctor.fails(USAGE, "certificates", "expired on", "make a new certificate with `heron-server certs`")
    doctor.is_well(certs=guarded.folder("a"))


def test_a_clock_that_is_wrong(guarded: Guarded) -> None:
    doctor = guarded.doctor()
    said = "is valid only from .* this machine's clock says 2002-.* that clock is wrong .* set it"
    doctor.fails(USAGE, "certificates", said, now=datetime(2002, 1, 1, tzinfo=today().tzinfo))
    code, lines = doctor.says(now=today() + timedelta(days=20))
    assert code == 0 and "expires on" in lines[0], "ten days are left"


def test_a_name_that_is_not_the_certificate_s(guarded: Guarded) -> None:
    doctor = guarded.doctor(name="gateway-7")
    line = doctor.fails(USAGE, "certificates", "is the certificate of 'a', and this client is called 'gateway-7'")
    found = re.search(r"set name = '(\w+)'", line)
    assert found
    doctor.is_well(name=found[1])


def test_a_key_that_others_may_read(guarded: Guarded) -> None:
    doctor = guarded.doctor()
    key = Path(doctor.settings["certs"]) / "key.pem"
    key.chmod(0o644)
    code, [line] = doctor.says()
    assert code == 0 and "has mode 0644" in line
    assert line.endswith(f"chmod 600 {key}")
    key.chmod(0o600)
    doctor.is_well()


def test_a_token_of_another_name_and_one_that_others_may_read(plain: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("gateway-7:secret")
    doctor = Doctor(plain, token_file=str(token))
    line = doctor.fails(USAGE, "certificates", "is the token of 'gateway-7', and this client is called 'a'")
    found = re.search(r"set name = '([\w-]+)'", line)
    assert found
    doctor.settings["name"] = found[1]
    code, [line] = doctor.says()
    assert code == 0 and line.endswith(f"chmod 600 {token}")
    token.chmod(0o600)
    doctor.is_well()


def test_without_certificates_the_way_is_looked_at_nevertheless() -> None:
    code, lines = Doctor("box.invalid:1").says()
    assert code == USAGE, "that of the first"
    assert "there are no certificates in certs" in lines[0] and "nobody here knows 'box.invalid'" in lines[1]


# -- this machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [True, False])
def test_own_data_that_is_not_there(plain: str, tmp_path: Path, empty: bool) -> None:
    folder = tmp_path / "parts"
    if empty:
        folder.mkdir()
    doctor = Doctor(plain, data={"source": "image_folder", "path": str(folder)})
    what = "is an empty folder" if empty else "cannot be read: No such file or directory"
    doctor.fails(INPUT, "own data", f"{folder} {what}; copy the data there, or mend data.path")
    folder.mkdir(exist_ok=True)
    (folder / "1.png").touch()
    doctor.is_well()


def test_a_state_folder_that_cannot_be_written(plain: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    doctor = Doctor(plain, state_dir=str(tmp_path / "file" / "state"))
    doctor.fails(USAGE, "state folder", "choose another state_dir")
    doctor.is_well(state_dir=str(tmp_path / "state"))


@contextmanager
def at_most(files: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_few_open_files(plain: str) -> None:
    doctor = Doctor(plain)
    with at_most(OWN_FILES - 1):
        line = doctor.fails(USAGE, "open files")
    found = re.search(r"ulimit -n (\d+) ", line)
    assert found
    with at_most(int(found[1]) + len(os.listdir("/proc/self/fd"))):  # noqa: PTH208 (a client has a process of its own)
        doctor.is_well()


# -- the run ---------------------------------------------------------------------------------------------------------


def test_another_protocol_version(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_client.session.joining.PROTOCOL_VERSION", 99)
    doctor = Doctor(plain)
    doctor.fails(PEER, "server", "speaks protocol version .* the client 99; install the same Heron on both sides")
    monkeypatch.undo()
    doctor.is_well()


def test_model_code_that_is_not_allowed_and_data_that_is_not_named(tmp_path: Path) -> None:
    own = spec(model={"name": "own_parts:fitting"}, data={"source": "client"})
    reply = pb.JoinReply(run_id="r", heartbeat_s=1.0, silence_s=3.0, run_spec_json=own.model_dump_json())
    with odd_server(Join=lambda requests, context: iter([reply.SerializeToString()])) as (_, address):
        doctor = Doctor(address, python_path=(str(E2E),))
        doctor.fails(INPUT, "model", "'own_parts:fitting'", "add it to allow_model_code")
        doctor.settings["allow_model_code"] = ("own_parts:fitting",)
        doctor.fails(INPUT, "data", "data.source must be .* or package.module:factory")
        x = np.ones((40, 5), np.float32)
        np.savez(tmp_path / "own.npz", x=x, y=np.arange(40) % 3)
        doctor.is_well(data={"source": "npz", "path": str(tmp_path / "own.npz")})
