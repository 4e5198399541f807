"""What one local step of a client with a pretrained decoder takes above the loaded process, and its rivals' step.

Each row is of a fresh process that builds the client's parts as heron-client does, with the same malloc thresholds,
touches every weight, takes one whole step, and is measured over the next: 8 sequences of 64 tokens, cut 6, one copied
block and the rank-32 map in the head, LoRA of rank 8, Adam, one thread.

zeroth order         one direction for each micro-batch of one sequence; for the batch of 8; or, by a batched adapter,
                     for each of 8 sequences at once
first order          cse_fsl's step. full logits: of the whole batch at once, as a trainer without slices has them;
                     sliced: as Heron computes them; checkpointed: each block computed again for its gradient

above    VmHWM less what was resident before the step, MiB
a step   CPU seconds

    python benchmarks/language_memory.py [--base smollm2]        $HERON_DATA/smollm2: heron-server fetch-model smollm2
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from common import MIB, table, verdict

from heron_client.compute.meter import peak_bytes, reset_peak, resident_bytes

ROWS, LENGTH = 8, 64
FIRST_ORDER = {"name": "cse_fsl"}
CELLS: dict[str, dict[str, Any]] = {
    "zeroth order, micro-batch 1": {"micro_batch": 1, "zo": {"scope": "micro_batch"}},
    "zeroth order, batch 8": {},
    "zeroth order, batch 8, one direction a sequence": {"zo": {"scope": "sample"}},
    "first order, full logits, batch 8": FIRST_ORDER,
    "first order, sliced, batch 8": FIRST_ORDER,
    "first order, sliced, micro-batch 1": {**FIRST_ORDER, "micro_batch": 1},
    "first order, sliced, checkpointed, micro-batch 1": {**FIRST_ORDER, "micro_batch": 1},
}
LEANEST = "first order, sliced, checkpointed, micro-batch 1"
ZEROTH = {"name": "heron", "auxiliary_update": "server"}


def measured(name: str, base: str) -> dict[str, float]:
    """In this process: bytes above the loaded one, bytes resident before, CPU seconds."""
    from heron_client.compute.backends.torch_backend import build_torch_backend
    from heron_client.compute.client_state import ClientState
    from heron_client.compute.steps import make_stepper
    from heron_client.config import ClientSettings
    from heron_core.spec.run_spec import RunSpec

    language = {"length": LENGTH, "auxiliary_blocks": 1, "auxiliary_rank": 32}
    model = {"name": "causal_lm", "base": base, "cut": "6", "trainable": "lora", "lora_rank": 8, "language": language}
    method = {**ZEROTH, **CELLS[name], "batch_size": ROWS}
    spec = RunSpec.model_validate({"model": model, "method": method, "data": {"source": "client"}})
    backend = build_torch_backend(ClientSettings(name="measured"), spec)
    rival(name, backend.modules)
    state = ClientState(backend, spec.method)
    state.load(backend.state())
    stepper = make_stepper(spec.method, 0, state)
    assert all(float(p.detach().sum()) < 1e12 for p in backend.modules.net.parameters()), "every page is there now"
    step(stepper, spec.method, 0)
    gc.collect()
    loaded, began = resident_bytes(), time.process_time()
    assert reset_peak(), "the kernel does not let the peak be reset"
    step(stepper, spec.method, 1)
    return {"above": peak_bytes() - loaded, "loaded": loaded, "seconds": time.process_time() - began}


def rival(name: str, modules: Any) -> None:
    """What Heron's own step does not do."""
    from heron_core.models.tasks import token_logits

    if "full logits" in name:
        token_logits.SLICE_BYTES = 1 << 60
        token_logits.checkpoint = lambda compute, hidden, use_reentrant: compute(hidden)
    if "checkpointed" in name:
        for part in (modules.front, modules.head):
            part.lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        modules.train()


def step(stepper: Any, method: Any, number: int) -> None:
    """One local step on random tokens; its activations go nowhere."""
    from heron_client.compute.backend import MicroBatch
    from heron_client.compute.batch import Batch

    tokens = np.random.default_rng(number).integers(0, 49_000, (ROWS, LENGTH))
    labels, path, rows = np.roll(tokens, -1, axis=1), ("round", 1, "client", 0, "step", number), method.micro_batch_rows
    pieces = [MicroBatch((tokens[a : a + rows],), labels[a : a + rows], (*path, a)) for a in range(0, ROWS, rows)]
    for _ in stepper.step(Batch(path, pieces, ROWS, True, 1e-3)):
        pass


def main() -> None:
    """Each row in a process of its own, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--row")
    chosen = parser.parse_args()
    if chosen.row:
        print(json.dumps(measured(chosen.row, chosen.base)))
        return
    found = {}
    for name in CELLS:
        command = [sys.executable, __file__, "--base", chosen.base, "--row", name]
        found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    least = found["zeroth order, micro-batch 1"]["above"]
    rows = [
        [name, f"{each['above'] / MIB:.1f}", f"{least / each['above']:.3f}", f"{each['seconds']:.1f}"]
        for name, each in found.items()
    ]
    table(["", "above, MiB", "zeroth order over it", "a step, CPU s"], rows)
    verdict("zeroth order, micro-batch 1: MiB above the loaded process", least / MIB, 17)
    verdict(".. over first order with full logits", least / found["first order, full logits, batch 8"]["above"], 0.06)
    verdict(".. over the leanest first order", least / found[LEANEST]["above"], 0.65)


if __name__ == "__main__":
    main()
