"""Which runtime this client's model runs in. Torch is imported only where it is the one."""

from __future__ import annotations

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Literal

from heron_client.config import ClientSettings
from heron_core.errors import ConfigError
from heron_core.wire.software import BY_GRAPHS

Runtime = Literal["torch", "onnx"]
PACKAGES: dict[Runtime, str] = {"torch": "torch", "onnx": "onnxruntime"}
"""What is imported and installed for each."""
PROVIDER = "ExecutionProvider"
REMOTE = ("AzureExecutionProvider",)
"""They compute nothing here."""


def runtime_of(settings: ClientSettings) -> Runtime:
    """What the settings say, or for auto what is installed, torch first. ConfigError: it is not installed here."""
    if settings.backend != "auto":
        if not _is_here(PACKAGES[settings.backend]):
            raise ConfigError(
                f'backend = "{settings.backend}" needs {PACKAGES[settings.backend]}, which is not installed here: '
                f"pip install 'heron-sfl[{settings.backend}]', or take another backend"
            )
        return settings.backend
    for runtime, package in PACKAGES.items():
        if _is_here(package):
            return runtime
    raise ConfigError(
        "neither torch nor onnxruntime is installed here, and one of them runs the model: pip install "
        "'heron-sfl[onnx]' for a client that gets its graphs from the server, or 'heron-sfl[torch]'"
    )


def package_of(settings: ClientSettings) -> str:
    """Of its runtime: torch or onnxruntime. ConfigError: it is not installed here."""
    return PACKAGES[runtime_of(settings)]


def provider_of(settings: ClientSettings) -> str:
    """The execution provider that the settings name, as ONNX Runtime writes it. ConfigError: it has none of that name
    here."""
    import onnxruntime

    here = {name.removesuffix(PROVIDER): name for name in onnxruntime.get_available_providers() if name not in REMOTE}
    for short, name in here.items():
        if settings.execution_provider.lower() == short.lower():
            return str(name)
    raise ConfigError(
        f'execution_provider = "{settings.execution_provider}": onnxruntime {onnxruntime.__version__} has '
        f"{', '.join(short.lower() for short in here)} here; take one of these, or install its build that has the other"
    )


def load(settings: ClientSettings) -> str:
    """Imports the runtime, which takes a while, and says which it is, such as `torch 2.10.0`. ConfigError: it is not
    here, or has no such device or execution provider."""
    runtime = runtime_of(settings)
    if runtime == "torch" and not _by_cpu(settings):
        raise ConfigError(
            f'execution_provider = "{settings.execution_provider}" is for graphs, and torch runs the model here; take '
            'backend = "onnx", or leave it out and name a device'
        )
    if runtime == "onnx" and settings.device not in ("auto", "cpu"):
        raise ConfigError(
            f'device = "{settings.device}": is for torch; take "auto" and an execution_provider, or backend = "torch"'
        )
    import_module(PACKAGES[runtime])
    if runtime == "onnx":
        provider_of(settings)
    return f"{PACKAGES[runtime]} {metadata.version(PACKAGES[runtime])}"


def kind_of(settings: ClientSettings) -> str:
    """As `Software.backend` says it: cpu or cuda by torch, or onnx, with its provider where that is not the cpu."""
    if runtime_of(settings) == "onnx":
        return BY_GRAPHS if _by_cpu(settings) else f"{BY_GRAPHS} {settings.execution_provider.lower()}"
    from heron_client.compute.backends.torch_backend import device_kind

    return device_kind(settings)


def _by_cpu(settings: ClientSettings) -> bool:
    return settings.execution_provider.lower() == "cpu"


def _is_here(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # something in this process says that it is not
        return False
