"""What a client holds, as a whole process: first order and heron, in torch and in ONNX Runtime, and what of it is work.

Each figure is of a fresh process that has imported all that `heron-client` imports, builds the client's parts of
ResNet-18 (small stem, GroupNorm, pooled head, Adam) and runs whole local steps on noise: batch, passes, optimiser,
codec, uploader, serialised frames. Only the socket is missing. One thread; the cells take turns, and a round of them is
all cells once. One front is of another kind: six blocks of a transformer (transformer_front.py), on the same images.

first order          cse_fsl's step with the whole batch in one graph
.. accumulated       the same in micro-batches of 8, their gradients added up
.. checkpointed      that with only the inputs of the blocks kept, and each block computed again for its gradient; as
                     torch.utils.checkpoint does, whose first use imports 81 MiB of modules; this one imports 40
heron, torch         micro-batches of 8; one direction, the head by losses alone
heron, ONNX          the same over the server's graphs: no torch in the process

peak     VmHWM: the most that was resident at once, since the process began. It counts pages of libraries in full, so
         other processes do not disturb it
at work  the most PSS that was seen while it worked: what it shares with other processes is counted in parts
above    the peak less what was resident before the first step
a step   CPU seconds of a local step, on one thread: neighbours on the same cores disturb them less than a clock's.
         A step of two samples comes before
joules   of the whole machine, a step, by the counters in /sys (RAPL, hwmon's energy or, by INA sensors, its power)

    python benchmarks/client_memory.py [--fronts one,...,transformer] [--batches 256,8] [--rounds 3] [--json FILE]
    python benchmarks/client_memory.py --imports       what a client without torch imports, MiB
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, median_low
from typing import Any

import numpy as np
from common import MIB, median_ratio, table, verdict
from local_rounds import LocalRounds, run_spec

from heron_client.compute.meter import peak_bytes, proportional_bytes, resident_bytes
from heron_core.process.heap import give_memory_back
from heron_core.spec.run_spec import ModelSpec

FRONTS = {"one": "layer1.0", "four": "layer2.1", "eight": "layer4.1", "transformer": ""}
"""Residual blocks in the front, and where that cuts; or the six blocks of transformer_front.py."""
MICRO_BATCH, STEPS = 8, 2
WHOLE, ACCUMULATED, CHECKPOINTED = "first order", ".. accumulated", ".. checkpointed"
TORCH, ONNX = "heron, torch", "heron, ONNX"
CELLS = (WHOLE, ACCUMULATED, CHECKPOINTED, TORCH, ONNX)
SAMPLED_EVERY_S = 0.05


@dataclass(frozen=True)
class Found:
    """Of one process. Bytes, seconds; joules are none where the machine does not tell."""

    peak: int
    at_work: int
    above: int
    step_s: float
    joules: float | None


def spec_of(cell: str, front: str, batch: int) -> Any:
    """The run in which this client takes part."""
    method = {"name": "heron" if cell in (TORCH, ONNX) else "cse_fsl", "batch_size": batch}
    pieces = {} if cell == WHOLE else {"micro_batch": MICRO_BATCH}
    spec = run_spec({**method, **pieces}, "group", "gap_linear", STEPS, FRONTS[front] or FRONTS["one"])
    if not FRONTS[front]:
        spec = spec.model_copy(update={"model": ModelSpec(name=f"{front}_front:model")})
    return spec


# -- the parent --------------------------------------------------------------------------------------------------------


def measure(cell: str, front: str, batch: int, graphs: Path) -> Found:
    """In a fresh process."""
    command = [sys.executable, __file__, "--cell", cell, front, str(batch), str(graphs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()  # all is loaded
        before, sizes, watts = energy_joules(), [0], list[float]()
        while child.poll() is None:
            sizes.append(proportional_bytes(child.pid))
            watts += power_watts()
            time.sleep(SAMPLED_EVERY_S)
        spent = energy_joules()
        answer = child.stdout.read()
    if child.returncode:
        raise RuntimeError(f"{cell}, {front}, {batch}: exit status {child.returncode}")
    given = json.loads(answer)
    by_counter = (spent - before) / STEPS if spent is not None and before is not None else None
    by_power = sum(watts) / len(sizes) * given["step_s"] if watts else None
    return Found(**given, at_work=max(sizes), joules=by_counter if by_counter is not None else by_power)


def energy_joules() -> float | None:
    """Spent since some beginning, by all counters of packages and of sensors. None: there is none that we may read."""
    found = [*_numbers("class/powercap", "*:[0-9]/energy_uj"), *_numbers("class/hwmon", "*/energy*_input")]
    return sum(found) / 1e6 if found else None


def power_watts() -> list[float]:
    """The sum of what sensors of power (INA2xx and its like) say now; empty where there are none."""
    found = list(_numbers("class/hwmon", "*/power*_input"))
    return [sum(found) / 1e6] if found else []


def _numbers(folder: str, pattern: str) -> Iterator[int]:
    for path in sorted(Path("/sys", folder).glob(pattern)):
        with suppress(OSError, ValueError):
            yield int(path.read_text())


def begun(graphs: Path) -> Path:
    """The file of the parameters to begin with: of zeros, activations would be too small for the processor's speed."""
    return graphs.with_suffix(".npz")


def export(front: str, graphs: Path) -> None:
    """Writes the front's graphs and the parameters to begin with, in a process that has torch."""
    subprocess.run([sys.executable, __file__, "--export", front, str(graphs)], check=True)


def show(front: str, batch: int, rounds: int, graphs: Path) -> list[dict[str, Any]]:
    """One table; gives its lines."""
    cells = [cell for cell in CELLS if batch > MICRO_BATCH or cell != ACCUMULATED]  # the whole batch is one micro-batch
    found: dict[str, list[Found]] = {cell: [] for cell in cells}
    for number in range(rounds):
        for cell in reversed(cells) if number % 2 else cells:
            found[cell].append(measure(cell, front, batch, graphs))
    lines = {cell: _medians(each) for cell, each in found.items()}
    rivals = [cell for cell in cells if cell not in (TORCH, ONNX)]
    leanest = min(rivals, key=lambda cell: lines[cell].peak)
    print(f"\nA front of {front}, batch {batch}, micro-batches of {MICRO_BATCH}; medians of {rounds} processes, MiB")
    table(
        ["", "peak", "at work", "above", "/ leanest", "a step, CPU s", "joules"],
        [[cell, *(v / MIB for v in (f.peak, f.at_work, f.above)), f.peak / lines[leanest].peak, f.step_s,
          f.joules if f.joules is not None else "not told here"] for cell, f in lines.items()],
    )  # fmt: skip
    over = [a.peak / b.peak for a, b in zip(found[ONNX], found[leanest], strict=True)]
    verdict(f"peak, heron in ONNX / the leanest first order ({leanest.strip('. ')})", median(over), 0.46)
    seconds = [[each.step_s for each in found[cell]] for cell in (ONNX, TORCH)]
    verdict("CPU seconds of a step, heron in ONNX / heron in torch, median of pairs", median_ratio(*seconds), 1.1)
    return [{"front": front, "batch": batch, "cell": cell, **asdict(f)} for cell, f in lines.items()]


def _medians(each: list[Found]) -> Found:
    peak, at_work, above = (median_low(getattr(f, name) for f in each) for name in ("peak", "at_work", "above"))
    joules = [f.joules for f in each if f.joules is not None]
    return Found(peak, at_work, above, median(f.step_s for f in each), median(joules) if joules else None)


# -- in the fresh process ----------------------------------------------------------------------------------------------


def cell_main(cell: str, front: str, batch: int, graphs: Path) -> None:
    """Prints a line when all is loaded, and one with its figures."""
    import heron_client.cli
    import heron_client.daemon  # noqa: F401 (with the transport, the session and the uploads)

    if cell == ONNX:
        give_memory_back()  # as the daemon does
    spec = spec_of(cell, front, batch)
    client = LocalRounds(spec, _onnx(spec, graphs) if cell == ONNX else _torch(spec, cell == CHECKPOINTED))
    loaded = resident_bytes()
    print("loaded", flush=True)
    client.warm_up()
    started = time.process_time()
    client.round()
    seconds = (time.process_time() - started) / STEPS
    assert ("torch" in sys.modules) == (cell != ONNX)
    peak = peak_bytes()
    print(json.dumps({"peak": peak, "above": peak - loaded, "step_s": seconds}))


def _onnx(spec: Any, graphs: Path) -> Any:
    import onnxruntime  # noqa: F401 (as the client does, before it joins)

    from heron_client.compute.backends.onnx_backend import OnnxBackend
    from heron_core.graphs.graph_set import read_graphs

    (home,) = graphs.iterdir()
    backend = OnnxBackend(read_graphs(home), spec)
    with np.load(begun(graphs)) as state:
        backend.load_state(dict(state))
    return backend


def _torch(spec: Any, checkpointed: bool) -> Any:
    import torch

    from heron_client.compute.backends.torch_backend import TorchBackend
    from heron_core.models import build_split_model
    from heron_core.spec.role import role_of

    backend = TorchBackend(build_split_model(spec.model), role_of(spec), torch.device("cpu"))
    if checkpointed:
        for name in backend.modules.trunk.stages:
            _checkpoint(backend.modules.front.get_submodule(name))
    return backend


def _checkpoint(block: Any) -> None:
    """Keeps the block's input alone, and computes the rest again when its gradient is wanted."""
    import torch

    whole, parameters = block.forward, list(block.parameters())

    class Again(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any, *_: Any) -> Any:
            context.save_for_backward(x)
            return whole(x)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            x = context.saved_tensors[0].detach().requires_grad_(context.needs_input_grad[0])
            wanted = [x, *parameters] if x.requires_grad else parameters
            with torch.enable_grad():
                found = torch.autograd.grad(whole(x), wanted, gradient)
            return found if x.requires_grad else (None, *found)

    block.forward = lambda x: Again.apply(x, *parameters)


def export_main(front: str, graphs: Path) -> None:
    """Exports as the server does."""
    from heron_core.models import build_split_model
    from heron_server.graphs.export import export_graphs

    spec = spec_of(ONNX, front, 32)  # B is open
    export_graphs(spec, build_split_model(spec.model)).write(graphs)
    np.savez(begun(graphs), **_torch(spec, checkpointed=False).state())


# -- imports -----------------------------------------------------------------------------------------------------------

IMPORTS = (
    ("Python", ""),
    ("its library", "import asyncio, email.message, inspect, json, logging, ssl, tomllib, typing, zoneinfo"),
    ("numpy", "import numpy, numpy.random"),
    ("protobuf", "import google.protobuf.descriptor_pb2, google.protobuf.message"),
    ("grpcio", "import grpc"),
    ("pydantic", "import pydantic; type('M', (pydantic.BaseModel,), {})"),
    ("heron_core", "import heron_core.spec.run_spec, heron_core.data, heron_core.pb.v1.federation_pb2"),
    ("heron_client", "import heron_client.cli, heron_client.daemon, heron_client.compute.backends.onnx_backend"),
    ("onnxruntime", "import onnxruntime"),
)


def imports(runs: int) -> None:
    """Each line's share: resident memory of a fresh process with it, less that of one with the lines before."""
    print(f"\nWhat a client without torch imports, MiB; median of {runs} processes")
    rows, before = [], [0.0, 0.0]
    for number, (name, _) in enumerate(IMPORTS):
        lines = [line for _, line in IMPORTS[: number + 1]]
        both = [_resident(lines) for _ in range(runs)]
        now = [median(each[i] for each in both) / MIB for i in (0, 1)]
        rows.append([name, now[0] - before[0], now[1] - before[1], now[0]])
        before = now
    table(["", "resident", "of that its own", "resident in all"], rows)


def _resident(lines: list[str]) -> tuple[int, int]:
    """Of a fresh process after these lines: resident bytes, and those that are in no file."""
    show = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('VmRSS', 'RssAnon'))])"
    code = "\n".join([*lines, show])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    resident, own = json.loads(done.stdout.replace("'", '"'))
    return int(resident) * 1024, int(own) * 1024


def tables(args: argparse.Namespace) -> None:
    lines = []
    with tempfile.TemporaryDirectory() as name:
        for front in args.fronts.split(","):
            export(front, Path(name, front))
            for batch in map(int, args.batches.split(",")):
                lines += show(front, batch, args.rounds, Path(name, front))
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fronts", default=",".join(FRONTS))
    parser.add_argument("--batches", default="256,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        cell, front, batch, graphs = args.cell
        cell_main(cell, front, int(batch), Path(graphs))
    elif args.export:
        export_main(args.export[0], Path(args.export[1]))
    elif args.imports:
        imports(args.rounds)
    else:
        tables(args)


if __name__ == "__main__":
    main()
