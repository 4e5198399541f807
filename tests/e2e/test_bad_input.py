"""Bad input gets one clear line, the right exit code, and stops nobody else."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Bench, Program, spec_of

from heron_core.version import PROTOCOL_VERSION
from heron_simulator.simulator import simulate

HERE = Path(__file__).parent
USAGE, PEER, INPUT = 2, 3, 4
TINY: dict[str, Any] = {
    "rounds": 2,
    "model": {"name": "mlp", "input_shape": [1, 8, 8]},
    "method": {"local_steps": 2, "batch_size": 8},
    "federation": {"clients": 1},
}
OWN: dict[str, Any] = {
    "rounds": 2,
    "model": {"name": "own_parts:fitting"},
    "data": {"source": "client"},
    "method": {"local_steps": 4, "batch_size": 8},
}
ALLOWED = {"python_path": [str(HERE)], "allow_model_code": ["own_parts:fitting"]}


def ends_with_one_line(program: Program, code: int, *said: str) -> None:
    """The exit code, and a single line on stderr in which every pattern of `said` is found."""
    assert program.ends() == code, program.stderr
    assert len(program.stderr) == 1, program.stderr
    for pattern in said:
        assert re.search(pattern, program.stderr[0]), program.stderr[0]


def run_server(bench: Bench, *flags: str, **tables: Any) -> Program:
    return bench.program("-m", "heron_server", "run", str(bench.run_file({**TINY, **tables})), *flags)


def quiet_client(bench: Bench, name: str, address: str, **settings: Any) -> Program:
    """A client that says nothing but how it ends."""
    return bench.client(name, address, "--log-level", "error", **settings)


def own_data(path: Path, samples: int = 40, **wrong: Any) -> dict[str, Any]:
    """A client's [data] table that names an .npz for own_parts; `wrong` replaces its arrays."""
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(samples, 5)).astype(np.float32), "y": np.arange(samples) % 3, **wrong}
    np.savez(path, **arrays)
    return {"source": "npz", "path": str(path)}


# -- settings and flags ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("method.zo.nu=1.0", [r"unknown key method\.zo\.nu", r"did you mean mu"]),
        ("method.zo.mu=-1.0", [r"method\.zo\.mu", r"greater than 0", r"-1\.0"]),
        ("rounds=ten", [r"rounds", r"integer", r"'ten'"]),
        ("method.micro_batch=3", [r"micro_batch must divide batch_size", r"3 and 8"]),
        ("federation.min_clients=2", [r"min_clients = 2 is more than clients = 1"]),
        ("rounds", [r"--set wants a\.b=value, got 'rounds'"]),
        ("rounds.x=1", [r"rounds is a value, not a table"]),
        ("server.address=nowhere", [r"server\.address", r"host:port", r"'nowhere'"]),
        ("federation.clients_per_round=2", [r"clients_per_round = 2 is more than clients = 1", "lower it, or 0"]),
        ("method.moments=sometimes", [r"method\.moments", r"'sometimes'"]),
        ("method.alignment.passes=3", [r"method\.alignment\.passes is not used by heron, only by fsl_sage"]),
        ("model.lora_rank=2", [r"model\.lora_rank is not used with model.trainable = \"all\", only with \"lora\""]),
        ("method.zo.scope=sample", [r"which front\.\S+ cannot have", r"set model\.trainable = \"norm\""]),
        ("method.zo.scope=micro_batch", [r"with one micro-batch a step", "smaller divisor of batch_size = 8"]),
        ("server.memory_limit=100", [r"the run needs .* server\.memory_limit is 100 B", "lower "]),
    ],
)
def test_wrong_setting_of_the_server_is_named_with_its_place(bench: Bench, flag: str, said: list[str]) -> None:
    ends_with_one_line(run_server(bench, "--set", flag), USAGE, "^heron-server: ", *said)


@pytest.mark.parametrize("command", [["heron_server", "run"], ["heron_server", "validate"], ["heron_simulator"]])
def test_a_setting_that_the_method_does_not_use_is_refused_by_every_command(bench: Bench, command: list[str]) -> None:
    file = str(bench.run_file({**TINY, "method": {**TINY["method"], "name": "sflv2"}}))
    refused = bench.program("-m", *command, file, "--set", "method.zo.mu=1e-2")
    ends_with_one_line(refused, USAGE, r"method\.zo\.mu is not used by sflv2, only by heron; remove it")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("sever=127.0.0.1:1", [r"unknown key sever", r"did you mean server"]),
        ("name=no spaces", [r"name", r"'no spaces'"]),
        ("retry_for_s=soon", [r"retry_for_s", r"'soon'"]),
        ("data.sauce=npz", [r"unknown key data\.sauce", r"did you mean source"]),
        ("=1", [r"--set wants a\.b=value"]),
    ],
)
def test_wrong_setting_of_the_client_is_named_with_its_place(bench: Bench, flag: str, said: list[str]) -> None:
    client = bench.program("-m", "heron_client", "run", "--set", "name=a", "--set", flag)
    ends_with_one_line(client, USAGE, "^heron-client: ", *said)


@pytest.mark.parametrize("program", ["heron_server", "heron_client"])
def test_missing_settings_file_is_named(bench: Bench, program: str) -> None:
    ends_with_one_line(bench.program("-m", program, "run", "nowhere.toml"), USAGE, "no settings file at nowhere.toml")


@pytest.mark.parametrize("program", ["heron_server", "heron_client"])
@pytest.mark.parametrize("command", [[], ["run"]])
def test_help_imports_no_torch(bench: Bench, program: str, command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['x', *{command!r}, '--help']\n"
        f"from {program}.cli import app\n"
        "try:\n    app()\n"
        "except SystemExit as end:\n    sys.exit('torch was imported' if 'torch' in sys.modules else end.code)\n"
    )
    helped = bench.program("-c", code)
    assert helped.ends() == 0, helped.stderr
    assert any("usage: " in line.lower() for line in helped.stdout)


# -- what a server refuses before anyone can join --------------------------------------------------------------------


def test_missing_data_folder_is_named_by_the_server(bench: Bench) -> None:
    server = run_server(bench, data={"source": "cifar10"}, server={"data_folder": "/nowhere"})
    ends_with_one_line(server, INPUT, "no data folder at /nowhere", "data_folder|server")


def test_model_whose_parts_do_not_fit_is_refused_with_both_shapes(bench: Bench) -> None:
    server = run_server(bench, model={"name": "own_parts:unfitting"}, server={"python_path": [str(HERE)]})
    ends_with_one_line(server, INPUT, r"back does not accept activations \[6\]", r"7")


def test_an_alpha_that_leaves_a_client_empty_is_named_before_anyone_joins(bench: Bench) -> None:
    server = run_server(
        bench, data={"partition": "dirichlet", "alpha": 1e-3}, federation={"clients": 40}, method={"batch_size": 1}
    )
    ends_with_one_line(server, INPUT, r"rank \d+ of 40 would get no samples with alpha = 0\.001; raise alpha")


def test_initial_weights_that_are_not_there_are_named_with_what_to_copy(bench: Bench) -> None:
    model = {**TINY["model"], "weights": "pretrained/model"}
    server = run_server(bench, model=model, server={"data_folder": "/nowhere"})
    ends_with_one_line(server, INPUT, "no model.safetensors in /nowhere/pretrained/model", "copy the model folder")


def test_port_in_use_is_named(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = run_server(bench, server={"address": address})
        ends_with_one_line(server, USAGE, f"cannot listen on {address}", "in use")


def test_non_loopback_address_needs_insecure(bench: Bench) -> None:
    ends_with_one_line(run_server(bench, server={"address": "0.0.0.0:0"}), USAGE, r"0\.0\.0\.0:0", "--insecure")


def test_second_server_on_the_same_run_directory_is_refused_and_the_first_goes_on(bench: Bench) -> None:
    first = bench.server(TINY)
    address = first.address()
    ends_with_one_line(run_server(bench), USAGE, "another server works in", "run_dir")
    client = bench.client("a", address)
    assert first.summary()["rounds_done"] == TINY["rounds"]
    assert client.ends() == 0


@pytest.fixture
def finished(bench: Bench) -> dict[str, Any]:
    """The summary of a run that ended in the bench's run directory."""
    return simulate(spec_of(TINY), run_dir=bench.run_dir).summary


def test_run_directory_that_holds_a_run_needs_resume(bench: Bench, finished: dict[str, Any]) -> None:
    ends_with_one_line(run_server(bench), USAGE, "already holds a run", "--resume")
    assert json.loads((bench.run_dir / "summary.json").read_text())["model_sha256"] == finished["model_sha256"]


def test_nothing_to_resume_is_said(bench: Bench) -> None:
    ends_with_one_line(run_server(bench, "--resume"), INPUT, "no checkpoint to resume from", "without --resume")


def test_checkpoint_of_another_run_is_refused_with_what_differs(bench: Bench, finished: dict[str, Any]) -> None:
    server = run_server(bench, "--resume", "--set", "seed=7")
    ends_with_one_line(server, INPUT, "of another run", "seed was 0, is 7")


def test_torn_checkpoint_is_refused_and_the_one_before_it_gives_the_same_bits(
    bench: Bench, finished: dict[str, Any]
) -> None:
    newest = max((bench.run_dir / "checkpoints").glob("round-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    refused = run_server(bench, "--resume")
    ends_with_one_line(refused, INPUT, "is torn", "newest good one is that after round 1; go on from it with: python")
    command = shlex.split(refused.stderr[0].partition("go on from it with: python ")[2])
    resumed = bench.program(*command, "--set", "server.rejoin_s=0.5")  # the name was a simulated client's
    client = bench.client("client-0", resumed.line("listening").split()[2].rstrip(","))
    assert (resumed.ends(), client.ends()) == (0, 0)
    assert json.loads((bench.run_dir / "summary.json").read_text())["model_sha256"] == finished["model_sha256"]


# -- what a client is told -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of own_parts that waits for more clients, with one called `good` in it."""
    with Bench(tmp_path_factory.mktemp("waiting")) as bench:
        server = bench.server({**OWN, "federation": {"clients": 9}, "server": {"python_path": [str(HERE)]}})
        address = server.address()
        good = bench.client("good", address, data=own_data(bench.folder / "good.npz"), **ALLOWED)
        good.line("server: 1 of 9 clients are here")
        yield address
        assert server.running and good.running, "somebody's bad input ended another's process"
        assert server.stderr == []


def test_server_that_is_not_there_is_named_once_patience_ends(bench: Bench) -> None:
    client = quiet_client(bench, "a", "127.0.0.1:1", retry_for_s=0.1)
    ends_with_one_line(client, PEER, "no server for 0.1 s", "127.0.0.1:1", "check the address")


def test_other_protocol_version_is_refused_with_both_named(bench: Bench, waiting: str) -> None:
    code = (
        "from heron_core import version; version.PROTOCOL_VERSION = 99; "
        "from heron_client.__main__ import main; main()"
    )
    settings = ["--set", "name=newer", "--set", f"server={waiting}"]
    client = bench.program("-c", code, "run", "--log-level", "error", *settings)
    named = f"this server speaks protocol version {PROTOCOL_VERSION}, the client 99"
    ends_with_one_line(client, PEER, named, "same Heron")


def test_second_client_of_the_same_name_is_refused(bench: Bench, waiting: str) -> None:
    client = quiet_client(bench, "good", waiting, **ALLOWED)
    ends_with_one_line(client, PEER, "another live client holds the name 'good'", "another name")


def test_model_code_that_its_operator_does_not_allow_is_not_imported(bench: Bench, waiting: str) -> None:
    client = quiet_client(bench, "careful", waiting, python_path=ALLOWED["python_path"])
    ends_with_one_line(client, INPUT, "'own_parts:fitting'", "allows none", "allow_model_code")


def test_missing_own_data_is_named_by_the_client(bench: Bench, waiting: str) -> None:
    client = quiet_client(bench, "empty", waiting, data={"source": "npz", "path": "/nowhere.npz"}, **ALLOWED)
    ends_with_one_line(client, INPUT, "no .npz file at /nowhere.npz", "data.path")


def test_check_says_what_works_and_takes_no_place(bench: Bench, waiting: str) -> None:
    data = own_data(bench.folder / "own.npz")
    client = bench.client("good", waiting, data=data, command="check", **ALLOWED)
    assert client.ends() == 0, client.stderr
    said = {line.split()[0]: line for line in client.stdout if not line.startswith(" ")}
    assert list(said) == ["server", "software", "samples", "data", "task", "model", "one"]
    assert "36 training samples" in said["data"]
    assert "2 forward passes" in said["one"]


def test_check_says_what_does_not_work(bench: Bench, waiting: str) -> None:
    nobody = bench.client("a", "127.0.0.1:1", command="check")
    ends_with_one_line(nobody, PEER, "no Heron server answers at 127.0.0.1:1")
    data = own_data(bench.folder / "own.npz", y=np.full(40, 7))
    unlabelled = bench.client("a", waiting, data=data, command="check", **ALLOWED)
    ends_with_one_line(unlabelled, INPUT, "labels|class", "7")


def test_broken_clients_are_told_and_the_others_finish(bench: Bench) -> None:
    """Three whose own data cannot be used, three that send what cannot be, and two good ones, in one round."""
    shares = {
        "labels": ({"y": np.full(40, 7)}, "7"),
        "nan": ({"x": np.full((40, 5), np.nan, dtype=np.float32)}, "finite"),
        "small": ({"samples": 8}, "one batch needs 8"),
    }
    sent = {"shape": "expected|must be", "nan": "must be finite, got 1 NaN or Inf", "labels": r"0\.\.2, got 0\.\.1000"}
    run = {**OWN, "federation": {"clients": 6, "min_clients": 2}}
    server = bench.server({**run, "server": {"python_path": [str(HERE)], "quorum": 0.1, "grace_s": 0.2}})
    address = server.address()
    good = [
        bench.client(name, address, data=own_data(bench.folder / f"{name}.npz"), **ALLOWED) for name in ("good", "fine")
    ]
    own = {}
    for fault, (wrong, _) in shares.items():
        data = own_data(bench.folder / f"{fault}.npz", **wrong)
        own[fault] = quiet_client(bench, f"own-{fault}", address, data=data, **ALLOWED)
    hostile = {
        fault: bench.program(str(HERE / "broken_client.py"), address, f"sends-{fault}", fault) for fault in sent
    }
    summary = server.summary()
    assert [client.ends() for client in good] == [0, 0]
    assert summary["history"][-1]["participants"] == 2
    assert server.stderr == []
    for fault, client in own.items():
        ends_with_one_line(client, INPUT, shares[fault][1])
    for fault, client in hostile.items():
        assert client.ends() == 0, client.stderr
        assert re.search(sent[fault], client.stdout[0]), client.stdout
