"""The contract of `heron_client.compute.backend.Backend`, as a plain function.

Shape suffixes: B samples, D parameters that the client's optimiser moves.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping

import numpy as np

from heron_client.compute.backend import Backend, Forward, MicroBatch
from heron_core.arrays import Array
from heron_core.errors import ModelError
from heron_core.models.lint.batches import example_inputs, example_labels
from heron_core.testing.report import Checks, Report, difference

ROWS = 4


def check_backend(backend: Backend) -> Report:
    """Runs forward passes over made-up samples, and ends with the parameters and buffers that it began with.

    Raises ModelError, one line, for the first claim that does not hold.
    """
    under = _UnderCheck(backend)
    checks = Checks(type(backend).__name__, ModelError)
    checks.run("a client state comes back as it was loaded", under.check_state)
    checks.run("theta comes back as it was set, whole or a block of it", under.check_theta)
    checks.run("buffers come back as they were saved", under.check_buffers)
    checks.run("losses are one finite float32 a sample", under.check_losses)
    checks.run("activations are the cut's tensors, row-major, and the caller's own", under.check_activations)
    checks.run("the same pass gives the same bits", under.check_repeats)
    checks.run("a probe at the base point gives the base point's losses", under.check_probe_at_base)
    checks.run("an evaluation changes nothing", under.check_evaluation)
    checks.run("no autograd graph is kept", under.check_no_graph)
    checks.run("the front alone does what a forward pass does to activations and buffers", under.check_front_alone)
    return checks.report()


class _UnderCheck:
    """The backend, some samples, and the state to which every check brings it back."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._state, self._buffers = backend, backend.state(), backend.buffers()
        labels = example_labels(backend.labels, ROWS)
        self._batch = MicroBatch(example_inputs(backend.inputs, ROWS), labels, ("check", "masks"))

    def check_state(self) -> None:
        promised = [(name, dtype, shape) for name, dtype, shape, _ in self._backend.state_tensors]
        given = [(name, array.dtype.name, array.shape) for name, array in self._state.items()]
        if given != promised:
            raise ModelError(f"state() must give {promised}, as state_tensors says, it gives {given}; make them agree")
        other = {name: _other(array) for name, array in self._state.items()}
        self._backend.load_state(other)
        _same(self._backend.state(), other, "the state that was loaded")
        self._backend.load_state(self._state)
        _same(self._backend.state(), self._state, "the state that was loaded again")

    def check_theta(self) -> None:
        theta_D, start = self._backend.theta(), 0
        size = sum(count for _, count in self._backend.moved)
        if (theta_D.dtype.name, theta_D.shape) != ("float32", (size,)):
            raise ModelError(f"theta() must be float32 [{size}], got {theta_D.dtype} {list(theta_D.shape)}; see moved")
        moved_D = theta_D + np.float32(1)
        self._backend.set_theta(moved_D)
        _same({"theta": self._backend.theta()}, {"theta": moved_D}, "the vector that was set")
        for name, count in self._backend.moved:
            block = slice(start, start + count)
            self._backend.set_theta(theta_D[block], start)
            moved_D[block], start = theta_D[block], start + count
            _same({"theta": self._backend.theta()}, {"theta": moved_D}, f"the vector with {name} set alone")

    def check_buffers(self) -> None:
        self._forward()
        _same(self._backend.buffers(), self._buffers, "the buffers that were put back")
        _same(self._backend.state(), self._state, "the state after a forward pass and its buffers put back")

    def check_losses(self) -> None:
        losses_B = self._forward().losses_B
        if (losses_B.dtype.name, losses_B.shape) != ("float32", (ROWS,)):
            raise ModelError(f"losses must be float32 [{ROWS}], got {losses_B.dtype} {list(losses_B.shape)}; cast them")
        if not np.isfinite(losses_B).all():
            raise ModelError(f"losses must be finite, got {losses_B.tolist()}; look for what the samples overflow")

    def check_activations(self) -> None:
        given, specs = self._forward().activations, self._backend.activations
        found = [f"{array.dtype} {list(array.shape)}" for array in given]
        if len(given) != len(specs) or not all(s.fits(a) and len(a) == ROWS for s, a in zip(specs, given, strict=True)):
            wanted = ", ".join(f"{spec} for each of {ROWS} samples" for spec in specs)
            raise ModelError(f"activations must be {wanted}, got {', '.join(found)}; see Backend.activations")
        if not all(array.flags.c_contiguous for array in given):
            raise ModelError("activations must be row-major, as they are sent; copy them into that order")
        kept = [array.copy() for array in given]
        moved_D = self._backend.theta() + np.float32(1)
        self._backend.set_theta(moved_D)
        self._forward()
        self._backend.load_state(self._state)
        for spec, array, was in zip(specs, given, kept, strict=True):
            _same({spec.name: array}, {spec.name: was}, "the activations after a later pass")
        if self._forward(keep=False).activations:
            raise ModelError("activations that nobody asked for must not be kept; give an empty list")

    def check_repeats(self) -> None:
        first, second = self._forward(), self._forward()
        _same(_named(second), _named(first), "the same pass again")

    def check_probe_at_base(self) -> None:
        base = self._forward()
        theta_D = self._backend.theta()
        self._backend.set_theta(theta_D + np.float32(1))
        self._forward(keep=False)
        self._backend.set_theta(theta_D)
        _same({"losses": self._forward(keep=False).losses_B}, {"losses": base.losses_B}, "a probe at the base point")

    def check_evaluation(self) -> None:
        base = self._forward()
        first, second = (self._backend.evaluation_activations(self._batch.inputs) for _ in range(2))
        for spec, array, again in zip(self._backend.activations, first, second, strict=True):
            _same({spec.name: again}, {spec.name: array}, "the same evaluation again")
        _same(self._backend.state(), self._state, "the state after an evaluation")
        _same(_named(self._forward()), _named(base), "a forward pass after an evaluation")

    def check_front_alone(self) -> None:
        alone, moved = self._backend.cut_activations(self._batch), self._backend.buffers()
        self._backend.restore_buffers(self._buffers)
        whole = self._backend.forward(self._batch, keep_activations=True).activations
        wanted = self._backend.buffers()
        self._backend.restore_buffers(self._buffers)
        for spec, array, other in zip(self._backend.activations, alone, whole, strict=True):
            _same({spec.name: array}, {spec.name: other}, "what cut_activations gives")
        _same(moved, wanted, "the buffers after cut_activations")

    def check_no_graph(self) -> None:
        before = _tensors_with_a_graph()
        self._forward()
        kept = len(_tensors_with_a_graph() - before)
        if kept:
            raise ModelError(f"a forward pass must keep no autograd graph, {kept} tensors have one; run it without")

    def _forward(self, *, keep: bool = True) -> Forward:
        """A training forward; the buffers are put back."""
        found = self._backend.forward(self._batch, keep_activations=keep)
        self._backend.restore_buffers(self._buffers)
        return found


def _other(array: Array) -> Array:
    """Another array of its kind."""
    changed: Array = array + np.ones((), dtype=array.dtype)
    return changed


def _named(found: Forward) -> dict[str, Array]:
    return {"losses": found.losses_B, **{f"activations {i}": array for i, array in enumerate(found.activations)}}


def _same(found: Mapping[str, Array], wanted: Mapping[str, Array], what: str) -> None:
    for name, array in wanted.items():
        place = difference(array, found[name])
        if place:
            raise ModelError(f"{what} must have the same bits, {name} differs {place}; copy it, and draw nothing anew")


def _tensors_with_a_graph() -> set[int]:
    """Of torch's tensors that are alive, those that a graph made; none where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return set()
    gc.collect()
    tensors = (each for each in gc.get_objects() if issubclass(type(each), torch.Tensor))
    return {id(tensor) for tensor in tensors if tensor.grad_fn is not None}
