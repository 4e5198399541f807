"""The client's backend over ONNX Runtime and NumPy: forward passes of graphs that the server exported, and no torch.

Shape suffixes: B micro-batch rows, D parameters that the client's optimiser moves, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heron_client.compute.backend import Forward, MicroBatch, StateTensor, Vector
from heron_client.compute.backends.onnx_constants import with_constants
from heron_client.compute.backends.onnx_session import OnnxOptions, OnnxSession
from heron_core.arrays import Array, TensorSpec
from heron_core.errors import BadReply, ModelError
from heron_core.graphs.graph_set import EVALUATION, TRAINING, GraphSet
from heron_core.graphs.manifest import HeldTensor, made_for
from heron_core.labels import LabelSpec
from heron_core.process.memory import need_memory
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import generator

ALIGNED = 64
"""Bytes. A kernel may give other bits for memory that is aligned otherwise."""


FIXED_FROM, FIXED_BYTES = 4, 4 << 20
"""Passes at a point from which on a session for it pays, and the largest parameters that are held twice for it. The run
says so and not the machine, for it decides bits."""


class OnnxBackend:
    """Holds parameters and buffers as NumPy arrays, which every pass gets as inputs: nothing of them is copied. Where
    many passes are at the same point, its parameters are constants of a session of its own instead."""

    def __init__(self, graphs: GraphSet, spec: RunSpec, options: OnnxOptions | None = None) -> None:
        """BadReply: the graphs are another run's, or not what their manifest says. ModelError: the runtime cannot run
        them. ConfigError: there is none. DataError: there is no memory for the tensors."""
        if graphs.manifest.made_for != made_for(spec):
            raise BadReply(
                "the graphs are for another model or method than this run's; the server must export them for this run"
            )
        need_memory(graphs.manifest.held_bytes, "the client's parts of the model", "take a machine with more")
        self._graphs, self._role, self._options = graphs, role_of(spec), options or OnnxOptions()
        self._manifest = graphs.manifest
        self._as_built = graphs.values()
        self._held = {tensor.name: self._begun(tensor) for tensor in self._manifest.tensors}
        self._changing = [tensor.name for tensor in self._manifest.tensors if tensor.changes]
        stay = {name: array for name, array in self._held.items() if name not in self._changing}
        self._constants = stay if _pays(spec, sum(array.nbytes for array in stay.values())) else {}
        self._graph = with_constants(graphs.training, stay) if self._constants else graphs.training
        self._training: OnnxSession | None = self._session(TRAINING, self._graph, self._constants)
        self._evaluation: OnnxSession | None = None
        self._prior_K = np.zeros(self._manifest.prior, np.float32)
        self._moved = {t.name: self._held[t.name] for t in self._manifest.tensors if self._moves(t.name, t.kind)}
        self._at_cut = [f"activations.{spec.name}" for spec in self.activations]

    # -- what goes in and out ----------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self._manifest.inputs

    @property
    def labels(self) -> LabelSpec:
        """The task's labels."""
        return self._manifest.labels

    @property
    def activations(self) -> tuple[TensorSpec, ...]:
        """The cut's tensors."""
        return self._manifest.activations

    # -- parameters and buffers --------------------------------------------------------------------------------------

    @property
    def state_tensors(self) -> list[StateTensor]:
        """Trainable parameters, then learned buffers."""
        return [
            StateTensor(t.name, t.dtype, t.shape, t.kind == "buffer") for t in self._manifest.tensors if t.travels
        ]

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Copies `state_tensors`; buffers that do not travel are as built again."""
        for tensor in self._manifest.tensors:
            if tensor.travels:
                np.copyto(self._held[tensor.name], arrays[tensor.name].reshape(tensor.shape))
            elif tensor.changes:
                np.copyto(self._held[tensor.name], self._as_built[tensor.name])
        self._moved_on()

    def state(self) -> dict[str, Array]:
        """A copy of `state_tensors`."""
        return {tensor.name: self._held[tensor.name].copy() for tensor in self.state_tensors}

    @property
    def moved(self) -> list[tuple[str, int]]:
        """(name, elements) of the parameters that the optimiser moves, in theta's order."""
        return [(name, array.size) for name, array in self._moved.items()]

    def theta(self) -> Vector:
        """A copy of the parameters that move, float32 [D]."""
        flat = [array.reshape(-1) for array in self._moved.values()]
        return np.concatenate(flat).astype(np.float32, copy=False) if flat else np.empty(0, np.float32)

    def set_theta(self, theta_D: Vector, start: int = 0) -> None:
        """Copies a vector, or what of it begins at `start`, into the parameters' own aligned memory."""
        at = -start
        for array in self._moved.values():
            if 0 <= at < theta_D.size:
                np.copyto(array, theta_D[at : at + array.size].reshape(array.shape))
            at += array.size
        self._moved_on()

    def buffers(self) -> dict[str, Array]:
        """A copy of the buffers that a pass moves; the others never change."""
        return {name: self._held[name].copy() for name in self._changing}

    def restore_buffers(self, saved: Mapping[str, Array]) -> None:
        """Puts back what `buffers` gave."""
        for name, array in saved.items():
            np.copyto(self._held[name], array)

    # -- forward passes ----------------------------------------------------------------------------------------------

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        """Losses [B] of a training forward, and its activations [B, ...] if they are kept."""
        losses_B, *rest = self._trained(batch, ["losses", *(self._at_cut if keep_activations else ())])
        return Forward(losses_B, rest)

    def cut_activations(self, batch: MicroBatch) -> list[Array]:
        """The activations [B, ...] of a training forward of the front alone."""
        return self._trained(batch, self._at_cut)

    def head_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        """As `forward`, and the head's exact gradient [H] of the losses' sum / `share_of`."""
        names = [f"gradients.{name}" for name in self._manifest.gradients]
        losses_B, *rest = self._trained(batch, ["losses", *names, *(self._at_cut if keep_activations else ())])
        gradient_H = np.concatenate([each.reshape(-1) for each in rest[: len(names)]])
        gradient_H /= np.float32(share_of)
        return Forward(losses_B, rest[len(names) :]), gradient_H

    def evaluation_activations(self, inputs: tuple[Array, ...]) -> list[Array]:
        """The cut's tensors [B, ...] in evaluation mode."""
        if self._evaluation is None:  # most clients never evaluate
            self._evaluation = self._evaluating()
        found = self._evaluation.run(self._fed(inputs), self._at_cut)
        for name, array in zip(self._at_cut, found, strict=True):
            self._check(name, array, len(inputs[0]))
        return found

    def set_log_prior(self, log_prior_K: Vector) -> None:
        """Every loss from here on is of the logits + `log_prior_K`. ModelError: the graph does not take it."""
        if not self._manifest.prior:
            raise ModelError("the run's graphs take no class shares; set method.logit_adjustment to 0")
        self._prior_K = log_prior_K.astype(np.float32)

    # -- within ------------------------------------------------------------------------------------------------------

    def _trained(self, batch: MicroBatch, wanted: Sequence[str]) -> list[Array]:
        """These outputs of the training graph; the buffers that it moves are kept."""
        given = {**self._fed(batch.inputs), **self._masks(batch), "labels": batch.labels}
        if self._manifest.prior:
            given["log_prior"] = self._prior_K
        names = [*wanted, *(f"buffers.{name}" for name in self._changing)]
        if self._training is None:
            self._training = self._session(TRAINING, self._graph, self._constants)
        found = self._training.run(given, names)
        for name, array in zip(names, found, strict=True):
            self._check(name, array, batch.rows)
        for name, array in zip(self._changing, found[len(wanted) :], strict=True):
            np.copyto(self._held[name], array)
        return found[: len(wanted)]

    def _evaluating(self) -> OnnxSession:
        """The training graph's own session, where that is the graph."""
        if self._training is not None and not self._constants and self._graphs.evaluation == self._graphs.training:
            return self._training
        return self._session(EVALUATION, self._graphs.evaluation)

    def _moved_on(self) -> None:
        """The next pass is at another point."""
        if self._constants:
            self._training = None

    def _check(self, output: str, array: Array, rows: int) -> None:
        """Raises ModelError where the graph gives something else than its manifest says."""
        kind, _, name = output.partition(".")
        if kind == "activations":
            fits = next(spec for spec in self.activations if spec.name == name).fits(array) and len(array) == rows
        elif kind == "losses":
            fits = array.dtype == np.float32 and array.shape == (rows,)
        else:
            fits = (array.dtype, array.shape) == (self._held[name].dtype, self._held[name].shape)
        if not fits:
            raise ModelError(
                f"the server's graph gives {output} as {array.dtype} {list(array.shape)} for {rows} samples, which is "
                "not what its manifest says; let the server export anew"
            )

    def _fed(self, inputs: tuple[Array, ...]) -> dict[str, Array]:
        named = zip((f"inputs.{spec.name}" for spec in self.inputs), inputs, strict=True)
        return {**self._held, **dict(named)}

    def _masks(self, batch: MicroBatch) -> dict[str, Array]:
        """Each from a stream of its own, the same at the base point and at every probe."""
        length = next((a.shape[1] for s, a in zip(self.inputs, batch.inputs, strict=True) if s.variable), 0)
        return {
            f"masks.{i}": self._rng(batch, i).random(mask.sized(batch.rows, length), np.float32) >= mask.drops
            for i, mask in enumerate(self._manifest.masks)
        }

    def _rng(self, batch: MicroBatch, place: int) -> np.random.Generator:
        return generator(self._role.seed, *batch.masks, "place", place)

    def _begun(self, tensor: HeldTensor) -> Array:
        """A tensor's own memory, or where it never changes the constant's, which is mapped."""
        built = self._as_built.get(tensor.name)
        if built is not None and not tensor.changes:
            return built
        own = aligned(tensor.shape, tensor.dtype)
        if built is not None:
            np.copyto(own, built)
        return own

    def _moves(self, name: str, kind: str) -> bool:
        return kind == "parameter" and self._role.moves(name)

    def _session(self, name: str, graph: bytes, constants: Mapping[str, Array] | None = None) -> OnnxSession:
        return OnnxSession(name, graph, self._role.threads, self._options, constants)


def _pays(spec: RunSpec, size: int) -> bool:
    """Are enough micro-batches run at the same parameters of so many bytes, one after another?"""
    method = spec.method
    passes = method.batch_size // method.micro_batch_rows if method.zo.scope == "batch" else 1
    return passes >= FIXED_FROM and size <= FIXED_BYTES


def aligned(shape: Sequence[int], dtype: str) -> Array:
    """Zeros in memory that begins at a multiple of 64 bytes."""
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.zeros(count + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    found: Array = memory[start : start + count].view(dtype).reshape(shape)
    return found
