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


def load(settings: ClientSettings) -> str:
    """Imports the runtime, which takes a while, and says which it is, such as `torch 2.10.0`. ConfigError: it is not
    here, or has no such device."""
    runtime = runtime_of(settings)
    if runtime == "onnx" and settings.device not in ("auto", "cpu"):
        raise ConfigError(
            f'device = "{settings.device}": graphs run on the cpu here; take "auto", or backend = "torch"'
        )
    import_module(PACKAGES[runtime])
    return f"{PACKAGES[runtime]} {metadata.version(PACKAGES[runtime])}"


def kind_of(settings: ClientSettings) -> str:
    """As `Software.backend` says it: cpu or cuda by torch, or onnx."""
    if runtime_of(settings) == "onnx":
        return BY_GRAPHS
    from heron_client.compute.backends.torch_backend import device_kind

    return device_kind(settings)


def _is_here(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # something in this process says that it is not
        return False
