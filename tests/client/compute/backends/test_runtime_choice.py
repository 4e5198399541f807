"""Which runtime runs a client's model: what its file says, or what is installed."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest

from heron_client.compute.backends import choice
from heron_client.compute.backends.choice import kind_of, load, runtime_of
from heron_client.config import ClientSettings
from heron_client.doctor.command import run_doctor
from heron_core.errors import ConfigError


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
    with pytest.raises(ConfigError, match='device = "cuda:1": graphs run on the cpu here'):
        load(settings("onnx", device="cuda:1"))


def test_a_doctor_says_so_first(installed: set[str]) -> None:
    lines: list[str] = []
    assert run_doctor(settings(), lines.append) == 2
    assert lines[0].startswith("failed     versions      neither torch nor onnxruntime is installed here")
