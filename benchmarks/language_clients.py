"""What a client of a language model needs: its blocks by closed form for any shape, and one real process beside it.

Closed form: a client without a head holds the embedding (all of it is counted, though only the rows of tokens that it
meets are read) and the model's first n blocks in float32, a step of one text, and the process itself. Shapes: the
folder's own, and those of Llama 3.2 1B and Llama 2 7B, counted on torch's meta device; no weights are needed.

Measured: real clients over gRPC, one thread each, rounds of two local steps of 4 texts of up to 256 tokens,
micro-batches of one, on the cut gradient; VmHWM and the largest PSS and anonymous memory seen, of the largest process
from its start to its end, and the CPU seconds of a local step after the first round. Clients by graphs find the
model's tokeniser and no weights, and have loaded torch at no time; their run's digest is compared with the simulator's.

    python benchmarks/language_clients.py [--base smollm2] [--cuts 6,24] [--backends torch,onnx] [--clients 1]
        [--weights float32]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from common import MIB, table
from round_overhead import free_port, heron

GIB, PATIENCE_S, TOKENS, ROUNDS, STEPS = 1 << 30, 900, 256, 2, 2
PROCESS = 460 * MIB
"""What a client holds beside weights and its step, rounded up from what is measured here: mostly libraries."""
STEP_TENSORS = 16
"""Of [tokens, intermediate size] in float32 in a step of one text: as much as language_memory.py and table3.py show."""
SHAPES: dict[str, dict[str, Any]] = {
    "Llama 3.2 1B": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    },
    "Llama 2 7B": {
        "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32_000, "tie_word_embeddings": False,
    },
}  # fmt: skip


def shapes(base: Path) -> dict[str, Any]:
    """Name -> transformers' configuration."""
    from transformers import LlamaConfig

    from heron_core.models.language.loading import configuration

    return {base.name: configuration(base), **{name: LlamaConfig(**shape) for name, shape in SHAPES.items()}}


def closed(config: Any) -> tuple[int, int, int, int]:
    """Blocks, and bytes in float32 of one block, of the embedding, and of a step of one text."""
    import torch
    from transformers import AutoModelForCausalLM

    from heron_core.models.language.blocks import blocks_of

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    _, blocks = blocks_of(model)
    block = sum(parameter.numel() for parameter in blocks[0].parameters())
    step = STEP_TENSORS * TOKENS * 4 * config.intermediate_size
    return len(blocks), 4 * block, 4 * model.get_input_embeddings().weight.numel(), step


def print_closed(base: Path, budgets: list[int]) -> None:
    rows = []
    for name, config in shapes(base).items():
        count, block, embedding, step = closed(config)
        fitting = [(budget * GIB - PROCESS - embedding - step) // block for budget in budgets]
        most = [f"{min(count - 1, n)} of {count}" if n > 0 else "none" for n in fitting]
        rows.append([name, block / MIB, embedding / MIB, step / MIB, *most])
    table(["", "a block, MiB", "embedding, MiB", "a step, MiB", *(f"blocks in {b} GiB" for b in budgets)], rows)


def measured(base: Path, cut: int, folder: Path, backend: str, clients: int, weights: str) -> list[float]:
    """MiB: VmHWM, largest PSS, largest anonymous memory, of the largest client; CPU seconds of a local step."""
    address, tokeniser = f"127.0.0.1:{free_port()}", folder / "data" / base.name
    (folder / "run.toml").write_text("")
    tokeniser.mkdir(parents=True)
    for path in base.glob("tokenizer*"):
        shutil.copy(path, tokeniser)
    run = {
        "server.data_folder": base.parent, "rounds": ROUNDS, "threads.client": 1, "federation.clients": clients,
        "federation.min_clients": clients, "data.source": "restaurants", "data.test_limit": 2,
        "model.name": "causal_lm", "model.base": base.name, "model.cut": f'"{cut}"', "model.trainable": "lora",
        "model.lora_rank": 8, "model.language.length": TOKENS, "model.language.front_weights": weights,
        "method.batch_size": 4, "method.micro_batch": 1, "method.local_steps": STEPS,
        "method.objective": "cut_gradient",
    }  # fmt: skip
    by_graphs = backend == "onnx"
    server = heron("heron_server", "run", str(folder / "run.toml"), **{
        "server.address": address, "server.run_dir": folder / "run", "server.graphs": str(by_graphs).lower(), **run,
    })  # fmt: skip
    notes = [folder / f"{number}.json" for number in range(clients)]
    started = [
        heron("heron_client", "run", "--once", "--log-level", "error", timed=note, **{
            "name": f"client-{number}", "server": address, "backend": backend, "device": "cpu",
            "state_dir": folder / f"state-{number}", "data.folder": folder / "data" if by_graphs else base.parent,
        })
        for number, note in enumerate(notes)
    ]  # fmt: skip
    most, until = [0.0, 0.0, 0.0], time.monotonic() + PATIENCE_S
    try:
        while any(c.poll() is None for c in started) and server.poll() is None and time.monotonic() < until:
            for client in started:
                most = [max(pair) for pair in zip(most, _now(client.pid), strict=True)]
                if by_graphs and _has_torch(client.pid):
                    sys.exit("a client by graphs has loaded torch")
            time.sleep(0.1)
        ended = [process.wait(PATIENCE_S) for process in (server, *started)]
        if any(ended):
            sys.exit(f"the run failed: its server ended with {ended[0]}, its clients with {ended[1:]}")
    finally:
        for process in (server, *started):
            process.kill()
    if by_graphs:
        _compare_with_simulator(folder, run)
    return [*most, max(map(_step_s, notes))]


def _compare_with_simulator(folder: Path, run: dict[str, Any]) -> None:
    simulated = heron("heron_simulator", str(folder / "run.toml"), **{
        "server.run_dir": folder / "simulated", "simulate.backend": "onnx", **run,
    })  # fmt: skip
    if simulated.wait(PATIENCE_S):
        sys.exit(f"the simulator ended with {simulated.returncode}")
    over_grpc, alone = (
        json.loads((folder / name / "summary.json").read_text())["model_sha256"] for name in ("run", "simulated")
    )
    same = "ok" if over_grpc == alone else "MISSED"
    print(f"digest over gRPC {over_grpc[:12]}, in the simulator {alone[:12]}: {same}", flush=True)


def _step_s(note: Path) -> float:
    """CPU seconds of the computing thread for a local step, without the first round, in which all begins."""
    rounds = [json.loads(line)["steps"] for line in note.read_text().splitlines()]
    return float(rounds[-1] - rounds[0]) / (STEPS * (ROUNDS - 1))


def _has_torch(pid: int) -> bool:
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def _now(pid: int) -> list[float]:
    """MiB, as above; zeros where the process has just ended."""
    try:
        lines = [Path(f"/proc/{pid}/{file}").read_text().splitlines() for file in ("status", "smaps_rollup")]
    except OSError:
        return [0.0, 0.0, 0.0]
    fields = {line.split(":")[0]: line.split()[1] for each in lines for line in each if line.endswith(" kB")}
    return [int(fields.get(name, 0)) / 1024 for name in ("VmHWM", "Pss", "RssAnon")]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2", help="a folder in $HERON_DATA")
    parser.add_argument("--cuts", default="6,24", help="of the measured client; empty: closed form alone")
    parser.add_argument("--backends", default="torch,onnx", help="of the measured clients")
    parser.add_argument("--weights", default="float32", help="model.language.front_weights of the measured runs")
    parser.add_argument("--clients", type=int, default=1, help="of a measured run")
    parser.add_argument("--budgets", default="1,4,16", help="GiB of a client's memory")
    args = parser.parse_args()
    base = Path(os.environ["HERON_DATA"]) / args.base
    print_closed(base, [int(budget) for budget in args.budgets.split(",")])
    rows = []
    for cut, backend in product(filter(None, args.cuts.split(",")), args.backends.split(",")):
        with tempfile.TemporaryDirectory(prefix="heron-") as folder:
            figures = measured(base, int(cut), Path(folder), backend, args.clients, args.weights)
        rows.append([f"{base.name}, cut {cut}, {backend}, {args.weights}", *figures])
    if rows:
        table(["a client process, MiB", "VmHWM", "largest PSS", "anonymous", "a step, CPU s"], rows)


if __name__ == "__main__":
    main()
