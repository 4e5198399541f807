"""What a local step needs of a machine-learning runtime, in NumPy terms.

`Backend` is all that zeroth order asks for: forward passes, and the exact gradient of the head alone. A runtime that
can only run inference implements it and nothing else. The interfaces after it are for runtimes that can do more;
what needs one of them refuses a backend without it.

Shape suffixes: B samples of a micro-batch, D parameters that the client's optimiser moves, P those that are perturbed,
H those whose gradient is exact: the head's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from heron_client.config import ClientSettings
from heron_core.arrays import Array, TensorSpec
from heron_core.errors import ConfigError
from heron_core.labels import LabelSpec
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part

Vector = NDArray[np.float32]
"""Parameters, a gradient or a direction, float32 [D]; or one number for each sample [B]."""
Matrix = NDArray[np.float32]
"""A vector for each sample, float32 [B, P]."""


@dataclass(frozen=True)
class MicroBatch:
    """Samples that go forward together."""

    inputs: tuple[Array, ...]
    """The model's inputs [B, ...], in its order."""
    labels: Array
    """[B, ...], as the task's labels are."""
    masks: tuple[Part, ...]
    """Names the random stream of the dropout masks: the same at the base point and at every probe."""

    @property
    def rows(self) -> int:
        """B."""
        return len(self.labels)


class Forward(NamedTuple):
    """What a forward pass gives."""

    losses_B: Vector
    activations: list[Array]
    """The cut's tensors [B, ...] as they are sent, row-major, the caller's own; empty where they were not asked for."""


class StateTensor(NamedTuple):
    """One tensor of the client state that the backend holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_buffer: bool
    """Is it a learned buffer, such as a running mean? Else a trainable parameter."""


class Backend(Protocol):
    """The client's parts of the model, ready to run: the front, and in most methods the auxiliary head.

    It holds one set of parameters and buffers, the present ones. The same calls give the same bits.
    """

    # -- what goes in and out ----------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        ...

    @property
    def labels(self) -> LabelSpec:
        """The task's labels."""
        ...

    @property
    def activations(self) -> tuple[TensorSpec, ...]:
        """The cut's tensors."""
        ...

    # -- parameters and buffers --------------------------------------------------------------------------------------

    @property
    def state_tensors(self) -> Sequence[StateTensor]:
        """Those that the server sends: trainable parameters of all parts in order, then learned buffers."""
        ...

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Copies `state_tensors` by name; other names are not looked at. Their shapes have been checked."""
        ...

    def state(self) -> dict[str, Array]:
        """A copy of `state_tensors` by name, in that order."""
        ...

    @property
    def moved(self) -> Sequence[tuple[str, int]]:
        """(name, elements) of the parameters that the optimiser moves, the front's first: the order of theta."""
        ...

    def theta(self) -> Vector:
        """A copy of the parameters that move, as one vector [D]."""
        ...

    def set_theta(self, theta_D: Vector, start: int = 0) -> None:
        """Copies a vector into the parameters that move, or what of it begins at element `start`; the others stay.

        The part begins and ends with whole parameters. Each parameter gets memory of its own, aligned as the runtime
        aligns it: a kernel may give other bits for a view of `theta_D`.
        """
        ...

    def buffers(self) -> dict[str, Array]:
        """A copy of all buffers by name, also of those that do not travel."""
        ...

    def restore_buffers(self, saved: Mapping[str, Array]) -> None:
        """Puts back what `buffers` gave."""
        ...

    # -- forward passes ----------------------------------------------------------------------------------------------

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        """A training forward at the present parameters: batch statistics and dropout masks. It moves the buffers."""
        ...

    def head_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        """As `forward`, and the head's exact gradient [H] of the losses' sum / `share_of`.

        Where the run trains the head by it (method.auxiliary_update = "first_order"); H as in `moved`. None of the
        front's, unless the run sets method.zo.exact_stages, which asks for a `StagedBackend`: then H begins with the
        parameters of so many of the front's last stages.
        """
        ...

    def cut_activations(self, batch: MicroBatch) -> list[Array]:
        """The activations of `forward`, of the front alone: no head is run and no loss taken. It moves the buffers.

        Where the run has no head on the client (method.objective = "cut_gradient").
        """
        ...

    def evaluation_activations(self, inputs: tuple[Array, ...]) -> list[Array]:
        """The cut's tensors [B, ...] in evaluation mode, which changes nothing."""
        ...


# -- what some backends can do besides ---------------------------------------------------------------------------------


class CutPass(Protocol):
    """A front's training forward that waits for the gradient at the cut."""

    def activations(self) -> list[Array]:
        """What is sent, [B, ...] each, row-major."""
        ...

    def backward(self, gradients: list[Array]) -> Vector:
        """The gradient [D] from that of each floating-point tensor at the cut [B, ...], whose list is emptied. Once."""
        ...


@runtime_checkable
class FirstOrderBackend(Protocol):
    """Backpropagation through the front, for the first-order methods."""

    def loss_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        """As `Backend.forward`, and the gradient [D] of the losses' sum / `share_of`."""
        ...

    def cut_pass(self, batch: MicroBatch) -> CutPass:
        """The front's training forward, its graph kept until the gradient at the cut comes."""
        ...


class StageInputs(Protocol):
    """What some stages were given at the base point, one micro-batch after another."""

    def recording(self) -> AbstractContextManager[None]:
        """Around one base forward: keeps what these stages are given in it, as the next micro-batch's."""
        ...

    def losses(self, stage: int, number: int, batch: MicroBatch) -> Vector:
        """Losses [B] of micro-batch `number` from what `stage` was given, at the present parameters."""
        ...

    def forget(self, stage: int) -> None:
        """Lets go what this stage was given."""
        ...


@runtime_checkable
class StagedBackend(Protocol):
    """Passes that begin inside the front, for method.zo.block_wise and method.zo.exact_stages."""

    def num_stages(self) -> int:
        """Of the front. The head counts as one more, after the last. ModelError: the front is not made of stages."""
        ...

    def stage_of(self, name: str) -> int:
        """Which stage the parameter `name`, such as `front.conv1.weight` or `auxiliary.weight`, belongs to, from 0."""
        ...

    def stage_inputs(self, stages: Collection[int]) -> StageInputs:
        """An empty store for what these stages are given."""
        ...


@runtime_checkable
class LayeredBackend(Protocol):
    """Can show what the front's layers give, to name the one that codec.reuse cannot bear."""

    def layer_outputs(self, batch: MicroBatch) -> dict[str, Array]:
        """By name such as `front.norm`, in the order of their calls, the first output [B, ...] of each layer in a
        training forward."""
        ...


@runtime_checkable
class PerSampleBackend(Protocol):
    """Forward passes in which each sample has its own parameters, for method.zo.scope = "sample"."""

    def per_sample_losses(self) -> Callable[[MicroBatch, Matrix], Vector]:
        """Losses [B] at each sample's own values [B, P] of the front's perturbed parameters; the present ones stay.

        ModelError: one of them cannot differ from sample to sample.
        """
        ...


@runtime_checkable
class ModelBackend(Protocol):
    """Knows the model's code, not only what it computes."""

    @property
    def task_name(self) -> str:
        """Such as classification."""
        ...

    def lint(self) -> tuple[str, ...]:
        """What is probably not meant in the client's parts of a user's own model. ModelError: what cannot be right."""
        ...


@runtime_checkable
class PriorBackend(Protocol):
    """Losses that know the client's class shares, for method.logit_adjustment."""

    def set_log_prior(self, log_prior_K: Vector) -> None:
        """Every loss from here on is of the logits + `log_prior_K`. ModelError: the task has no classes to adjust."""
        ...


def lacks(backend: Backend, what: str, setting: str) -> ConfigError:
    """The error of a setting that this backend cannot run."""
    return ConfigError(f"{setting} needs a client that can {what}, {type(backend).__name__} cannot; set it otherwise")


BuildBackend = Callable[[ClientSettings, RunSpec], Backend]
"""Makes the backend of a run, by what this client's settings say."""
