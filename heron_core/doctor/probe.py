"""Can the libraries be imported, and does torch compute, where it runs the model? In a process of its own: it may be
ended by a signal."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from heron_core.doctor.examination import Finding, ok
from heron_core.errors import ConfigError
from heron_core.process.children import ending
from heron_core.process.libraries import LIBRARIES, broken

PATIENCE_S = 120.0
PROBE = """
import sys
for name in sys.argv[1:]:
    print(name, flush=True)
    __import__(name)
if "torch" in sys.argv:
    print("torch", flush=True)
    import torch
    torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3)).sum()
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum()
"""
PLAIN_CODE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Generic"}
"""What makes the libraries use no instructions but the oldest, where they choose while they run."""


def imports(runtime: str = "torch") -> Iterator[Finding]:
    """Nothing where this process has the `runtime`, torch or onnxruntime, already. Raises ConfigError, with what to
    install."""
    if runtime in sys.modules:
        return
    imported = ("numpy", runtime, "grpc")
    code, library, said = _probed(imported, {})
    if code == -signal.SIGILL:
        raise ConfigError(_another_build(library, imported))
    if code:
        raise ConfigError(broken(LIBRARIES[library], said or ending(code)))
    yield ok(f"{', '.join(imported)} can be imported{', and torch computes' if runtime == 'torch' else ''}")


def _probed(imported: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """How it ended, with which library, and its last line on stderr."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *imported], env={**os.environ, **environment}, capture_output=True, text=True,
            errors="replace", timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, imported[1], str(error)
    names, lines = done.stdout.split(), done.stderr.strip().splitlines()
    return done.returncode, names[-1] if names else imported[0], lines[-1] if lines else ""


def _another_build(library: str, imported: Sequence[str]) -> str:
    said = (
        f"{library} was ended by an illegal instruction (SIGILL): its build uses what this processor "
        f"({platform.machine()}) lacks"
    )
    if not _probed(imported, PLAIN_CODE)[0]:
        wanted = " ".join(f"{name}={value}" for name, value in PLAIN_CODE.items())
        return f"{said}, and does without where it is told to: export {wanted}"
    return (
        f"{said}; take one that is built for every {platform.machine()}: conda-forge's (conda install -c conda-forge "
        "pytorch-cpu), or your distribution's (apt install python3-torch, and python3 -m venv --system-site-packages)"
    )
