"""heron_client -> heron_core <- heron_server; torch only where something is computed; nobody unpickles."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from tree import PACKAGES, ROOT, Import, imports_of, module_files, module_name, parsed, run_python, tracked_files

RUNTIMES = "heron_client.compute.backends"
"""What runs a model on a client. All else on the client works on NumPy."""

CORE_WITH_TORCH = ("heron_core.models", "heron_core.device", "heron_core.testing.split_models")


def crossings(package: str, others: tuple[str, ...]) -> list[Import]:
    files = [path for path in module_files() if path.relative_to(ROOT).parts[0] == package]
    return [i for path in files for i in imports_of(path) if i.module.split(".")[0] in others]


def test_the_client_never_imports_the_server() -> None:
    assert crossings("heron_client", ("heron_server", "heron_simulator")) == []


def test_the_server_never_imports_the_client_nor_the_simulator() -> None:
    assert crossings("heron_server", ("heron_client", "heron_simulator")) == []


def test_core_imports_neither_side() -> None:
    assert crossings("heron_core", ("heron_client", "heron_server", "heron_simulator")) == []


STATE_MACHINES = [
    "heron_server/rounds/machine.py", "heron_server/rounds/in_progress.py", "heron_client/session/session.py",
    "heron_server/uploads/scheduler.py",
]  # fmt: skip


@pytest.mark.parametrize("file", STATE_MACHINES)
def test_a_state_machine_has_no_await_no_clock_no_torch(file: str) -> None:
    outside = {"time", "datetime", "asyncio", "threading", "random", "socket", "grpc", "torch", "os", "pathlib"}
    assert [str(i) for i in imports_of(ROOT / file) if i.module.split(".")[0] in outside] == []
    assert not any(isinstance(n, ast.Await | ast.AsyncFunctionDef) for n in ast.walk(parsed(ROOT / file)))


def test_heron_s_own_modules_import_torch_optim_nowhere_on_the_client() -> None:
    assert [str(i) for i in crossings("heron_client", ("torch",)) if i.module.startswith("torch.optim")] == []


IMPORT_EACH = """
import importlib, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} is blocked in this test")

refused = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Refuse())
failed = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""


def failures(refused: str, names: list[str]) -> dict[str, str]:
    """Which of `names` cannot be imported where the packages `refused` (comma-separated) are missing, and why."""
    result: dict[str, str] = json.loads(run_python(IMPORT_EACH, refused, *names))
    return result


def modules_of(package: str) -> list[str]:
    """All but the __main__ of a package: importing that runs the command."""
    return [n for n in map(module_name, module_files()) if n.split(".")[0] == package and not n.endswith(".__main__")]


def test_session_wire_codec_and_data_of_a_client_need_no_torch() -> None:
    client = [name for name in modules_of("heron_client") if not name.startswith(RUNTIMES)]
    core = [name for name in modules_of("heron_core") if not name.startswith(CORE_WITH_TORCH)]
    assert {"heron_client.session.runner", "heron_client.uploads.uploader"} <= set(client)
    arithmetic = {f"heron_client.compute.{name}" for name in ("zo", "replica", "steps", "local_round", "workspace")}
    assert arithmetic <= set(client)
    assert {"heron_core.wire.codec", "heron_core.wire.frames", "heron_core.streams", "heron_core.data"} <= set(core)
    assert failures("torch", [*client, *core]) == {}


def test_the_client_runs_where_the_server_and_what_only_it_needs_are_missing() -> None:
    of_a_server = "heron_server,grpc_health,grpc_reflection,typer,rich,cryptography"
    assert failures(f"{of_a_server},matplotlib,safetensors,sklearn,scipy,PIL", modules_of("heron_client")) == {}


def test_only_what_makes_certificates_needs_the_library_for_them() -> None:
    makers = ("heron_server.certs.authority", "heron_server.certs.files")
    names = [n for p in ("heron_core", "heron_server") for n in modules_of(p) if n not in makers and "testing" not in n]
    assert failures("cryptography", [n for n in names if n != "heron_server.cli"]) == {}


LOADED = "import sys, {module}; print(*(n for n in {heavy!r} if n in sys.modules))"


@pytest.mark.parametrize("module", ["heron_core", "heron_client", "heron_server", "heron_simulator"])
def test_importing_a_package_takes_little(module: str) -> None:
    heavy = ["torch", "numpy", "grpc", "google.protobuf", "pydantic", "typer", "rich", "safetensors", "matplotlib"]
    assert run_python(LOADED.format(module=module, heavy=heavy)).split() == []


def test_the_process_that_starts_a_sweeps_runs_needs_no_torch() -> None:
    modules = "heron_simulator.sweep.command, heron_simulator.sweep.job"
    assert run_python(LOADED.format(module=modules, heavy=["torch"])).split() == []


def test_importing_the_codec_takes_neither_grpc_nor_pydantic() -> None:
    heavy = ["torch", "grpc", "pydantic"]
    assert run_python(LOADED.format(module="heron_core.wire.frames, heron_core.wire.bulk", heavy=heavy)).split() == []


HELP = """
import sys
from {package}.cli import app
sys.argv = ["{command}", *sys.argv[1:]]
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *(n for n in ("torch", "numpy", "grpc", "matplotlib") if n in sys.modules))
"""


@pytest.mark.parametrize(
    ("package", "command", "arguments"),
    [
        ("heron_server", "heron-server", ["--help"]),
        ("heron_server", "heron-server", ["run", "--help"]),
        ("heron_client", "heron-client", ["--help"]),
        ("heron_client", "heron-client", ["run", "--help"]),
        ("heron_client", "heron-client", ["check", "--help"]),
        ("heron_simulator", "heron-simulate", ["--help"]),
    ],
)
def test_help_of_a_command_imports_no_torch(package: str, command: str, arguments: list[str]) -> None:
    out = run_python(HELP.format(package=package, command=command), *arguments)
    assert "usage: " in out.lower()
    assert out.splitlines()[-1].split() == ["LOADED"]


PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
UNPICKLING_CALLS = ("torch.load", "torch.save", "torch.jit.load", "torch.package")
OWN_FORMAT = {
    "heron_server/export.py": "torch.save(state, path)",
    "tests/server/test_export.py": "torch.load(path, weights_only=True)",
}
"""`export --format module-state` writes PyTorch's own format, for whoever asks for that. Heron never reads it."""


def written_python() -> list[Path]:
    return sorted({*module_files(), *(path for path in tracked_files() if path.suffix == ".py")})


@pytest.mark.parametrize("path", written_python(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_pickles(path: Path) -> None:
    found = [str(i) for i in imports_of(path) if i.module.split(".")[0] in PICKLERS]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            allows = any(
                k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                for k in node.keywords
            )
            refused = allows or ast.unparse(node.func).startswith(UNPICKLING_CALLS)
            if refused and ast.unparse(node) != OWN_FORMAT.get(str(path.relative_to(ROOT))):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert found == []


def test_the_scan_sees_what_it_shall_refuse(tmp_path: Path) -> None:
    assert set(PACKAGES) == {path.relative_to(ROOT).parts[0] for path in module_files()}
    torch_backend = ROOT / "heron_client" / "compute" / "backends" / "torch_backend.py"
    assert any(i.module == "torch" for i in imports_of(torch_backend))
    assert failures("torch", ["heron_client.compute.backends.torch_backend"]) != {}
