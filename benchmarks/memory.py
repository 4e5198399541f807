"""A client's peak memory in parts: what torch's allocator and NumPy held, and the process's own VmHWM beside it.

Each figure is of two local steps in a fresh process, so that the second runs beside the optimiser's state and the
first step's upload. Two processes a case: one watches what is allocated (a watcher takes memory itself), one VmHWM
(reset by /proc/self/clear_refs) less VmRSS after one step of two samples. Of torch's memory it is the peak, of NumPy's
the most that was there when parameters were set: at a probe, or after a step.

parameters  of the parts that the client runs, and buffers; there before, so in neither peak
moments     the optimiser's state
vectors     theta, gradient, probe, direction and whatever else is as long as the parameters or one of them
maps        inputs, activations, their gradients, uploads that are not acknowledged
other       the rest that was allocated
outside     VmHWM less what was allocated: oneDNN's scratch memory, frames, malloc's slack; less than nothing where a
            map was given out and not written yet
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from clients import ProductClient, StockClient
from local_rounds import run_spec

from heron_client.compute.meter import PeakMeter
from heron_core.spec.methods import moment_tensors
from heron_core.spec.run_spec import MethodSpec

STEPS = 2
RATIO = "ratios: VmHWM, which has the optimiser's state in it, and parameters, on both sides"
SMALL_BYTES = 1 << 18


@dataclass(frozen=True)
class Case:
    """What to measure."""

    name: str
    norm: str = "batch"
    head: str = "flatten_linear"
    method: tuple[tuple[str, Any], ...] = ()
    """Its method table's items; none: stock torch."""

    def client(self) -> Any:
        if not self.method:
            return StockClient(self.norm, self.head, STEPS)
        return ProductClient(run_spec(dict(self.method), self.norm, self.head, STEPS))


def case(name: str, norm: str = "batch", head: str = "flatten_linear", *, method: str, **settings: Any) -> Case:
    """A case of the product: a method and other keys of its table."""
    return Case(name, norm, head, (("name", method), *settings.items()))


@dataclass(frozen=True)
class Peak:
    """Bytes; see the top of the file."""

    parameters: int
    moments: int
    vectors: int
    maps: int
    other: int
    allocator: int
    process: int = 0

    @property
    def outside(self) -> int:
        return self.process - self.allocator

    @property
    def whole(self) -> int:
        """The process's peak, the optimiser's state in it, and the parameters that were there before."""
        return self.process + self.parameters

    def over(self, rival: Peak) -> float:
        """The ratio of the wholes."""
        return self.whole / rival.whole


def measure(subject: Case, runs: int = 1) -> Peak:
    """In fresh processes; the median of `runs` for VmHWM."""
    traced = json.loads(_child("allocator", subject))
    return Peak(**{**traced, "process": int(median(int(_child("process", subject)) for _ in range(runs)))})


def _child(what: str, subject: Case) -> str:
    command = [sys.executable, str(Path(__file__)), what, json.dumps(asdict(subject))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{subject.name}: {done.stderr}")
    return done.stdout


# -- in the fresh process ----------------------------------------------------------------------------------------


def process_peak(client: Any) -> int:
    client.warm_up()
    gc.collect()
    meter = PeakMeter()
    client.round()
    if not meter.loaded_bytes:
        raise RuntimeError("this kernel does not say, or does not reset, the peak of a process (Linux's VmHWM)")
    return meter.above_loaded()


def allocator_peak(client: Any) -> Peak:
    """Torch's live allocations at their highest sum, and NumPy's, sorted by size into parts."""
    sizes = _sizes(client)
    client.warm_up()
    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]
    profiled = torch.profiler.profile(activities=activities, profile_memory=True)
    with profiled as profile, _numpy_watched(client) as arrays:
        client.round()
    live, highest, at_peak = {}, 0, {}
    total = 0
    for address, count in _allocations(profile):
        if count > 0:
            live[address] = count
            total += count
        elif address in live:  # else it was there before
            total -= live.pop(address)
        if total > highest:
            highest, at_peak = total, dict(live)
    return _sorted([*at_peak.values(), *arrays], sizes)


@contextmanager
def _numpy_watched(client: Any) -> Iterator[list[int]]:
    """Inside, the list holds the sizes of NumPy's arrays as they were when it had most and parameters were set."""
    most: list[int] = []
    if not isinstance(client, ProductClient):
        yield most
        return
    set_theta: Callable[..., None] = client.backend.set_theta

    def watched(*arguments: Any) -> None:
        traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        found = [trace.size for trace in traces.traces]
        if sum(found) > sum(most):
            most[:] = found
        set_theta(*arguments)

    client.backend.set_theta = watched
    tracemalloc.start()
    yield most
    tracemalloc.stop()


def _allocations(profile: Any) -> Iterator[tuple[int, int]]:
    """(address, bytes) in order of time; bytes are negative where memory is given back."""
    kind = torch._C._profiler._EventType.Allocation
    found, waiting = [], list(profile.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == kind:
            found.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    for _, address, count in sorted(found, key=lambda e: e[0]):
        yield address, count


@dataclass(frozen=True)
class _Sizes:
    """Bytes."""

    held: int
    """Parameters and buffers."""
    moments: int
    """Of the vector that the optimiser moves."""
    whole: int
    """That vector."""
    each: frozenset[int]
    """Each parameter in it."""


def _sizes(client: Any) -> _Sizes:
    ours = isinstance(client, ProductClient)
    net = client.backend.modules.net if ours else client._net
    held = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    moved = [p.numel() for p in (client.backend.modules.moved.values() if ours else net.parameters())]
    return _Sizes(held, _moment_bytes(client, sum(moved)), 4 * sum(moved), frozenset(4 * n for n in moved))


def _moment_bytes(client: Any, elements: int) -> int:
    """Of its optimiser for a vector of so many elements; the stock client's is Adam."""
    spec = client.spec.method if isinstance(client, ProductClient) else MethodSpec.model_validate({"name": "cse_fsl"})
    found = moment_tensors(spec.model_copy(update={"moments": "kept"}), [("front", elements)])
    return sum(4 * prod(shape) for _, kind, shape in found if kind == "float32")


def _sorted(live: Any, sizes: _Sizes) -> Peak:
    count = Counter(live)
    vectors = sum(size * n for size, n in count.items() if size == sizes.whole or size in sizes.each)
    rest = [(size, n) for size, n in count.items() if size != sizes.whole and size not in sizes.each]
    vectors -= sizes.moments  # the second step runs beside them, so the peak does
    maps = sum(size * n for size, n in rest if size >= SMALL_BYTES)
    total = sum(size * n for size, n in count.items())
    return Peak(sizes.held, sizes.moments, vectors, maps, total - sizes.moments - vectors - maps, total)


if __name__ == "__main__":
    what, text = sys.argv[1:]
    fields = json.loads(text)
    subject = Case(**{**fields, "method": tuple((k, v) for k, v in fields["method"])})
    print(process_peak(subject.client()) if what == "process" else json.dumps(asdict(allocator_peak(subject.client()))))
