"""Records tests/golden/<version>/: a small run's checkpoint, and what one more round makes of it.

    python tests/golden/make.py

A checkpoint is kept as text (base64 in JSON), because no weights are tracked as such; these are a few KB, and are
written back to a file where they are read. The bits are those of one kind of machine, which is recorded beside them.
"""

from __future__ import annotations

import base64
import json
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from heron_core.config import load_toml, validate
from heron_core.models.digest import state_sha256
from heron_core.spec.run_spec import RunSpec
from heron_core.version import __version__
from heron_server.config import ServerSettings
from heron_server.storage.checkpoint import Checkpoint, load_checkpoint
from heron_server.storage.shelf import path_of
from heron_simulator import simulate

FOLDER = Path(__file__).parent
DONE = 2
"""Rounds of the checkpoint; one more round is the run's last."""
RUN = {
    "name": "golden",
    "rounds": DONE + 1,
    "model": {"name": "mlp", "widths": [8, 6]},
    "method": {"local_steps": 3, "batch_size": 16, "moments": "averaged", "zo": {"num_directions": 2, "mu": 0.01}},
    "data": {"source": "digits", "train_limit": 200, "test_limit": 50},
    "federation": {"clients": 2},
}


@dataclass(frozen=True)
class Machine:
    """What decides the last bits of the same arithmetic."""

    torch: str
    numpy: str
    processor: str

    @classmethod
    def this(cls) -> Machine:
        """The one that this runs on."""
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_processor()}"
        return cls(torch.__version__, np.__version__, kind)


def _processor() -> str:
    """Also its model's number and cache: virtual machines call very different processors by one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return ", ".join(facts.get(key, "?") for key in ("model name", "model", "cache size"))


def one_more_round(golden: Path, run_dir: Path) -> Checkpoint:
    """Goes on from the folder's checkpoint in `run_dir`. CheckpointError: this Heron does not read its version."""
    path = path_of(run_dir / "checkpoints", DONE)
    path.parent.mkdir(parents=True)
    path.write_bytes(_bytes_of(golden / "before.json"))
    found = load_checkpoint(path)  # of another version, it is refused before its run file is looked at
    (run_dir / "run_id").write_text(found.facts["run_id"])
    shutil.copy(golden / "run.toml", run_dir)
    spec = validate(RunSpec, load_toml(run_dir / "run.toml"), "the golden run")
    simulate(spec, run_dir=run_dir, resume=True)
    return load_checkpoint(path_of(run_dir / "checkpoints", DONE + 1))


def recorded(golden: Path, scratch: Path) -> tuple[Checkpoint, Machine]:
    """What one more round came to where the folder was recorded."""
    path = scratch / "after.safetensors"
    path.write_bytes(_bytes_of(golden / "after.json"))
    return load_checkpoint(path), Machine(**json.loads((golden / "after.json").read_text())["machine"])


def record(golden: Path) -> None:
    """Writes the folder anew."""
    spec = validate(RunSpec, RUN, "the golden run")
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch)
        simulate(spec, run_dir=run_dir, settings=ServerSettings(keep_checkpoints=DONE + 2))
        shutil.rmtree(golden, ignore_errors=True)
        golden.mkdir(parents=True)
        shutil.copy(run_dir / "run.toml", golden)
        for name, rounds in {"before": DONE, "after": DONE + 1}.items():
            path = path_of(run_dir / "checkpoints", rounds)
            _write(golden / f"{name}.json", path.read_bytes(), load_checkpoint(path))


def _write(path: Path, content: bytes, checkpoint: Checkpoint) -> None:
    text = base64.encodebytes(content).decode().split()
    facts = {"rounds_done": checkpoint.facts["rounds_done"], "digest": state_sha256(checkpoint.tensors)}
    described = {"heron": __version__, **facts, "machine": asdict(Machine.this()), "checkpoint": text}
    path.write_text(json.dumps(described, indent=1) + "\n")


def _bytes_of(path: Path) -> bytes:
    return base64.b64decode("".join(json.loads(path.read_text())["checkpoint"]))


def main() -> None:
    """Records the current version, and sees that it is reproduced."""
    golden = FOLDER / __version__
    record(golden)
    with tempfile.TemporaryDirectory() as scratch:
        digest = state_sha256(one_more_round(golden, Path(scratch)).tensors)
    wanted = json.loads((golden / "after.json").read_text())["digest"]
    if digest != wanted:
        sys.exit(f"a resumed run must come to {wanted}, it came to {digest}; nothing golden can be recorded")
    print(f"{golden}: {digest}")


if __name__ == "__main__":
    main()
