"""A language model's front with frozen weights in float32, 8 and 4 bits: what clients by graphs hold and compute.

A folder's pretrained decoder (default smollm2), cut after 6 blocks, adapters of rank 8, on the cut gradient, 8 texts of
64 tokens, one at a time, one thread. For each model.language.front_weights:

files      bytes of constants.bin and of the graph
function   the loss of a token on E2E's test texts (e2e/test.txt in $HERON_DATA), adapters at their beginning; and the
           relative error of slopes, (a(theta + mu u) - a(theta)) . g / mu over 8 directions u with g the loss's
           gradient at the cut, against the exact slope by backpropagation through the same front in torch
memory     one fresh process each, which has a client's libraries loaded (gRPC, tokenizers) and the graphs mapped from
           disk: resident at most (VmHWM), its share where pages are shared (PSS), and what is in no file (anonymous),
           after two local rounds of two steps: everything of a real client but the socket
first order  the same for the leanest first order of the same float32 front in torch: backpropagation from the cut
           gradient, one text after the other, blocks computed again for their gradient (torch.utils.checkpoint)

    python benchmarks/rounded_fronts.py [--base smollm2] [--cut 6] [--weights float32,int8,int4] [--texts 60]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import table
from language_memory import MALLOC, RANK, STEPS, checkpointed
from local_rounds import LocalRounds

LENGTH, BATCH, DIRECTIONS, MU = 64, 8, 8, 1e-3
WHOLE_TEXT = 128
FIRST = "first order"
LIBRARIES = ("heron_client.session.runner", "heron_client.transport.grpc_transport", "tokenizers")


def run_spec(base: str, cut: str, weights: str, texts: int = 0, length: int = LENGTH) -> Any:
    from heron_core.spec.run_spec import RunSpec

    data = {"source": "e2e", "test_limit": texts} if texts else {"source": "client"}
    language = {"length": length, "front_weights": weights}
    model = {"name": "causal_lm", "base": base, "cut": cut, "trainable": "lora", "lora_rank": RANK}
    method = {"objective": "cut_gradient", "batch_size": BATCH, "micro_batch": 1, "local_steps": STEPS}
    return RunSpec.model_validate({"model": {**model, "language": language}, "method": method, "data": data})


def tokens(count: int, vocabulary: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, (count, LENGTH))


# -- the function ------------------------------------------------------------------------------------------------------


def losses(base: str, cut: str, weights: str, texts: int) -> float:
    """Of a token, over E2E's first test texts, none of which is shortened."""
    import torch

    from heron_core.data.experiment import load_experiment
    from heron_core.data.sources.text import asked_of
    from heron_core.models import build_split_model

    spec = run_spec(base, cut, weights, texts, WHOLE_TEXT)
    model = build_split_model(spec.model, fetches=True)
    test = load_experiment(spec.data, spec.seed, text=asked_of(spec, model.inputs, None)).test
    front, back = model.build("front", 0).eval(), model.build("back", 0).eval()
    total = count = 0.0
    with torch.inference_mode():
        for i in range(len(test)):
            (given,), labels = test.batch(np.array([i]))
            found = model.task.measure(back(front(torch.from_numpy(given))), torch.from_numpy(labels))["token_loss"]
            total, count = total + found[0], count + found[1]
    return total / count


def slope_errors(model: Any, spec: Any, graphs: Any) -> list[float]:
    """Relative, by graphs and by torch: the root of the squared differences' share of the exact slopes' squares."""
    import torch

    from heron_client.compute.backend import MicroBatch
    from heron_client.compute.backends.onnx_backend import OnnxBackend
    from heron_client.compute.backends.torch_backend import TorchBackend
    from heron_core.spec.role import role_of

    torch_backend = TorchBackend(model, role_of(spec), torch.device("cpu"))
    backends = [OnnxBackend(graphs, spec), torch_backend]
    given = tokens(1, model.task.labels.count)
    batch = MicroBatch((given,), given, ("masks", 0))
    rng = np.random.default_rng(1)
    state = {n: 0.02 * rng.standard_normal(a.shape).astype(np.float32) for n, a in torch_backend.state().items()}
    for backend in backends:
        backend.load_state(state)
    modules = torch_backend.modules
    cut_BTH = torch.from_numpy(torch_backend.cut_activations(batch)[0]).requires_grad_()
    (g_BTH,) = torch.autograd.grad(model.task.losses(model.build("back", 0)(cut_BTH), torch.from_numpy(given)), cut_BTH)
    for parameter in modules.moved.values():
        parameter.requires_grad_()
    with torch.enable_grad():
        at_cut = (modules.front(torch.from_numpy(given)) * g_BTH).sum()
    gradient_D = torch.cat([g.reshape(-1) for g in torch.autograd.grad(at_cut, list(modules.moved.values()))]).numpy()
    found: list[list[float]] = []
    for _ in range(DIRECTIONS):
        u_D = rng.choice([-1.0, 1.0], gradient_D.size).astype(np.float32)
        exact = float(gradient_D.astype(np.float64) @ u_D)
        found.append([exact, *(_slope(backend, batch, u_D, g_BTH.numpy()) for backend in backends)])
    exact_q, *others = np.array(found).T
    return [float(np.linalg.norm(each - exact_q) / np.linalg.norm(exact_q)) for each in others]


def _slope(backend: Any, batch: Any, u_D: np.ndarray, g_BTH: np.ndarray) -> float:
    theta_D = backend.theta()
    (base_BTH,) = backend.cut_activations(batch)
    backend.set_theta(theta_D + np.float32(MU) * u_D)
    (moved_BTH,) = backend.cut_activations(batch)
    backend.set_theta(theta_D)
    return float(((moved_BTH.astype(np.float64) - base_BTH) * g_BTH).sum() / MU)


# -- in a fresh process ------------------------------------------------------------------------------------------------


def measure(*cell: str) -> dict[str, float]:
    env = {**os.environ, **MALLOC}
    done = subprocess.run([sys.executable, __file__, "--cell", *cell], stdout=subprocess.PIPE, check=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def cell_main(weights: str, base: str, cut: str, folder: str) -> None:
    """Prints one line with its figures."""
    for library in LIBRARIES:
        __import__(library)
    steps = _first_order(base, cut) if weights == FIRST else _graphs(run_spec(base, cut, weights), Path(folder))
    steps()
    started = time.process_time()
    steps()
    step_s = (time.process_time() - started) / STEPS
    files = [Path(f"/proc/self/{name}").read_text().splitlines() for name in ("status", "smaps_rollup")]
    fields = {line.split(":")[0]: line.split()[1] for lines in files for line in lines if line.endswith(" kB")}
    print(json.dumps({"step_s": step_s, **{n: int(fields[n]) / 1024 for n in ("VmHWM", "Pss", "RssAnon")}}))


def _graphs(spec: Any, home: Path) -> Callable[[], Any]:
    from heron_client.compute.backends.onnx_backend import OnnxBackend
    from heron_core.data.source import ArraySource
    from heron_core.graphs.graph_set import read_graphs

    backend = OnnxBackend(read_graphs(home), spec)
    rng = np.random.default_rng(0)
    backend.load_state(
        {t.name: 0.02 * rng.standard_normal(t.shape).astype(np.float32) for t in backend.state_tensors}
    )
    client = LocalRounds(spec, backend)
    given = tokens(2 * BATCH, backend.inputs[0].count)
    client.source = ArraySource(given, given)
    return client.round


def _first_order(base: str, cut: str) -> Callable[[], Any]:
    import torch

    from heron_core.models import build_split_model

    torch.set_num_threads(1)
    model = build_split_model(run_spec(base, cut, "float32").model, fetches=True)
    front = model.build("front", 0)
    for block in front.blocks:  # type: ignore[operator, union-attr]
        checkpointed(block)
    optimizer = torch.optim.Adam([p for p in front.parameters() if p.requires_grad], lr=1e-4)
    given = torch.from_numpy(tokens(STEPS * BATCH, model.task.labels.count))

    def step(first: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        for i in range(first, first + BATCH):
            at_cut = front(given[i : i + 1])
            at_cut.backward(torch.full_like(at_cut, 1e-6))  # what comes back from the server
        optimizer.step()

    return lambda: [step(number * BATCH) for number in range(STEPS)]


# -- the tables --------------------------------------------------------------------------------------------------------


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2", help="a folder in $HERON_DATA")
    parser.add_argument("--cut", default="6")
    parser.add_argument("--weights", default="float32,int8,int4")
    parser.add_argument("--texts", type=int, default=60, help="0: no losses")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        cell_main(*args.cell)
        return
    import torch

    torch.set_num_threads(1)
    first = measure(FIRST, args.base, args.cut, "")
    rows = [[f"{FIRST}, torch", first["step_s"], first["VmHWM"], first["Pss"], first["RssAnon"], 1.0, 1.0]]
    functions = []
    for weights in args.weights.split(","):
        with tempfile.TemporaryDirectory(prefix="heron-") as folder:
            functions.append([weights, *_one(args.base, args.cut, weights, args.texts, Path(folder))])
            (home,) = Path(folder).iterdir()
            found = measure(weights, args.base, args.cut, str(home))
        shares = [found[name] / first[name] for name in ("VmHWM", "Pss")]
        rows.append([f"graphs, {weights}", found["step_s"], found["VmHWM"], found["Pss"], found["RssAnon"], *shares])
        print(functions[-1], rows[-1], flush=True)
    print(f"{args.base}, cut {args.cut}, {BATCH} x {LENGTH} tokens")
    table(["", "constants, MB", "graph, MB", "loss of a token", "slopes, by graphs", "by torch"], functions)
    table(["a client process, MiB", "a step, CPU s", "VmHWM", "PSS", "anonymous", "VmHWM /", "PSS /"], rows)


def _one(base: str, cut: str, weights: str, texts: int, folder: Path) -> list[float]:
    """Exports the set into `folder`; its sizes, and figures of the function."""
    from heron_core.models import build_split_model
    from heron_server.graphs.export import export_graphs

    spec = run_spec(base, cut, weights)
    model = build_split_model(spec.model, fetches=True)
    graphs = export_graphs(spec, model)
    graphs.write(folder)
    loss = losses(base, cut, weights, texts) if texts else float("nan")
    return [graphs.constants.nbytes / 1e6, len(graphs.training) / 1e6, loss, *slope_errors(model, spec, graphs)]


if __name__ == "__main__":
    main()
