"""The libraries that Heron needs: what is installed here, and what an import that fails says to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from types import FrameType

PACKAGE = "heron-sfl"
AT_LEAST = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)")
LIBRARIES = {
    "torch": "torch", "numpy": "numpy", "grpc": "grpcio", "grpc_health": "grpcio-health-checking",
    "google.protobuf": "protobuf", "pydantic": "pydantic", "safetensors": "safetensors", "typer": "typer",
    "rich": "rich", "cryptography": "cryptography", "onnxruntime": "onnxruntime", "onnx": "onnx",
    "onnxscript": "onnxscript", "transformers": "transformers", "peft": "peft", "gguf": "gguf",
}  # fmt: skip
"""Import name -> name to install."""
PARTS = ("torch", "onnx", "server", "export", "lm")
"""Extras that a client or a server is installed with."""
OF_A_SERVER = ("torch", "safetensors", "rich", "typer", "cryptography", "grpcio-health-checking")
"""What a client may well be without."""
CPU_BUILD = "--index-url https://download.pytorch.org/whl/cpu"
STUBS = "heron_core.pb."
"""They refuse at import an older library than the one they were made for."""


def installed(name: str) -> str | None:
    """The version; None: it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def least_versions() -> dict[str, str]:
    """The oldest version of each library that Heron takes; none where Heron is not installed but lies on the path."""
    try:
        wanted = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return {}
    ours = [line for line in wanted if "extra ==" not in line or line.partition("extra ==")[2].strip(" '\"") in PARTS]
    return {match[1]: match[2] for line in ours if (match := AT_LEAST.match(line))}


def how_to_install(name: str, anew: bool = False) -> str:
    """The command. `anew`: over what is there and does not work."""
    least = least_versions()
    wanted = f"{name}>={least[name]}" if name in least else name
    where = f" {CPU_BUILD}, or without that for GPUs" if name == "torch" else ""
    return f"{sys.executable} -m pip install {'--force-reinstall ' if anew else ''}'{wanted}'{where}"


def fault_of(error: BaseException) -> str:
    """What to do, where this error says that a library of Heron's is missing or broken; empty for every other."""
    if isinstance(error, ModuleNotFoundError) and (name := _library(error.name or "")) and installed(name) is None:
        whole = f"; all that a server needs: '{PACKAGE}[server]'" if name in OF_A_SERVER else ""
        return f"{name} is not installed for this Python: {how_to_install(name)}{whole}"
    for module in _being_imported(error):
        name = _library(module)
        if module.startswith(STUBS):
            name = "grpcio" if module.endswith("_grpc") else "protobuf"
        if name:
            root = error.__cause__ or error
            return broken(name, f"{type(root).__name__}: {root}")
    return ""


def broken(name: str, said: str) -> str:
    """What to do about a library that is there and cannot be imported; `said` is why."""
    first = next((line.strip() for line in said.splitlines() if line.strip(" :")), "no reason given")
    return f"{name} {installed(name) or ''} is here and cannot be imported ({first}); {how_to_install(name, anew=True)}"


def _library(module: str) -> str:
    """Its name to install, of a module that is one's top."""
    return next((name for top, name in LIBRARIES.items() if module == top or (top + ".").startswith(module + ".")), "")


def _being_imported(error: BaseException) -> Iterator[str]:
    """Modules whose own lines were running when it was raised, from the outermost inwards."""
    trace = error.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        if frame.f_code.co_name == "<module>":
            yield str(frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
