"""A command of Heron's in a process that finds neither torch, nor what a server needs, nor the example's model code.

Arguments: the package, then the command's own, as after `python -m`.
"""

from __future__ import annotations

import sys
from importlib import import_module

MISSING = ("torch", "onnx", "onnxscript", "safetensors", "transformers", "peft", "heron_server", "own_model")


class Refuse:
    """Finds none of what is missing."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse())  # type: ignore[arg-type]
package = sys.argv.pop(1)
import_module(f"{package}.__main__").main()
