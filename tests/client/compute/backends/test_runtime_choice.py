"""Which runtime runs a client's model: what its file says, or what is installed."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest

from heron_client.compute.backends import choice
from heron_client.compute.backends.choice import kind_of, load, provider_of, runtime_of
from heron_client.config import ClientSettings
from heron_client.doctor.command import run_doctor
from heron_core.errors import ConfigError
from heron_core.wire.software import Software


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is installed, as far as these functions can see."""
    found: set[str] = set()
    monkeypatch.setattr(choice, "find_spec", lambda name: ModuleSpec(name, None) if name in found else None)
    return found


def settings(backend: str = "auto", **more: str) -> ClientSettings:
    return ClientSettings.model_validate({"name": "edge", "backend": backend, **more})


@pytest.mark.parametrize(("there", "backend", "runtime"), [
    ({"torch", "onnxruntime"}, "auto", "torch"), ({"torch"}, "auto", "torch"), ({"onnxruntime"}, "auto", "onnx"),
    ({"torch", "onnxruntime"}, "onnx", "onnx"), ({"torch", "onnxruntime"}, "torch", "torch"),
])  # fmt: skip
def test_torch_where_it_is_installed_else_graphs_and_what_the_file_says_first(
    installed: set[str], there: set[str], backend: str, runtime: str
) -> None:
    installed |= there
    assert runtime_of(settings(backend)) == runtime


def test_what_is_missing_is_named_with_the_extra(installed: set[str]) -> None:
    with pytest.raises(ConfigError, match=r"neither torch nor onnxruntime .*heron-sfl\[onnx\].*heron-sfl\[torch\]"):
        runtime_of(settings())
    installed.add("torch")
    with pytest.raises(ConfigError, match=r'backend = "onnx" needs onnxruntime, .*heron-sfl\[onnx\]'):
        runtime_of(settings("onnx"))


def test_a_device_that_graphs_do_not_run_on_is_refused() -> None:
    pytest.importorskip("onnxruntime")
    assert kind_of(settings("onnx")) == "onnx" and load(settings("onnx")).startswith("onnxruntime ")
    with pytest.raises(ConfigError, match='device = "cuda:1": is for torch; take "auto" and an execution_provider'):
        load(settings("onnx", device="cuda:1"))


def test_a_provider_is_taken_by_its_name_and_told_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    names = [f"{name}ExecutionProvider" for name in ("CoreML", "Azure", "CPU")]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: names)
    assert provider_of(settings("onnx")) == "CPUExecutionProvider"
    assert provider_of(settings("onnx", execution_provider="coreml")) == "CoreMLExecutionProvider"
    assert kind_of(settings("onnx", execution_provider="CoreML")) == "onnx coreml"
    assert Software.here("onnx coreml").runs_graphs and not Software.here("cpu").runs_graphs
    for missing in ("cuda", "azure"):  # Azure computes elsewhere
        with pytest.raises(ConfigError, match=f'execution_provider = "{missing}": onnxruntime .* has coreml, cpu here'):
            load(settings("onnx", execution_provider=missing))


def test_a_provider_beside_torch_is_refused(installed: set[str]) -> None:
    installed.add("torch")
    with pytest.raises(ConfigError, match='execution_provider = "cuda" is for graphs, and torch runs the model here'):
        load(settings(execution_provider="cuda"))


def test_a_doctor_says_so_first(installed: set[str]) -> None:
    lines: list[str] = []
    assert run_doctor(settings(), lines.append) == 2
    assert lines[0].startswith("failed     versions      neither torch nor onnxruntime is installed here")
