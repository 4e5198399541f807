"""What keeps one upload from spoiling what the server trains: each check costs its sender the round, not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import SplitModel, Tensors

LARGE_GRADIENT = 1e4
"""A longer one is tried before it is believed: the step is taken back where it spoils the model."""
MOST_RISE = 1e3
"""How many times larger one upload may make the loss of plain activations."""


@dataclass(frozen=True)
class Trainee:
    """What is trained, and the optimiser that does it."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that the optimiser moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def forget_gradients(self) -> None:
        """As before any backward pass."""
        self.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Batch:
    """One upload, where it is to be computed."""

    activations: Tensors
    labels_B: Tensor
    whose: str
    """For messages: client and upload."""
    weights_B: Tensor | None = None
    """How much of each row's gradient counts, at most 1; None: all of it."""


@contextmanager
def untouched_on_error(*trainees: Trainee) -> Iterator[Callable[[], None]]:
    """A pass that fails leaves neither running statistics nor gradients behind; nor one that is undone by the call."""
    before = [(buffer, buffer.clone()) for trainee in trainees for buffer in trainee.module.buffers()]

    def undo() -> None:
        _put_back(before)
        for trainee in trainees:
            trainee.forget_gradients()

    try:
        yield undo
    except BaseException:
        undo()
        raise


@torch.no_grad()
def _put_back(before: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, value in before:
        tensor.copy_(value)


def finite_loss(model: SplitModel, module: nn.Module, batch: Batch) -> Tensor:
    """Mean of the per-sample losses [], with its graph. Raises as `finite_losses` does."""
    return mean(finite_losses(model, module, batch), batch)


def leaves(cut: Tensors, wanted: bool) -> Tensors:
    """The cut as the start of a graph, its gradients wanted or not."""
    return tuple(t.detach().requires_grad_(wanted and t.is_floating_point()) for t in cut)


def mean(losses_B: Tensor, batch: Batch) -> Tensor:
    """What is descended on []."""
    return losses_B.mean() if batch.weights_B is None else (losses_B * batch.weights_B).mean()


def finite_losses(model: SplitModel, module: nn.Module, batch: Batch) -> Tensor:
    """Per-sample losses [B], with their graph. TensorError where these activations make their mean infinite or NaN.

    ModelError where activations of one do too: then the client is not to blame.
    """
    losses_B = model.task.losses(module(*batch.activations), batch.labels_B)
    got = float(losses_B.detach().mean())
    if isfinite(got):
        return losses_B
    with torch.no_grad():
        _blame_the_model(bool(torch.isfinite(_plain_loss(model, module, batch))), "loss", got)
    raise TensorError(f"{batch.whose}: {_expected('loss', got)} from these activations; {ADVICE}")


def gradient_norm(model: SplitModel, trainee: Trainee, batch: Batch) -> float:
    """Euclidean, over all parameters, in float64. TensorError and ModelError as `finite_loss`, for the gradient."""
    gradients = [p.grad for p in trainee.parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients])
    norm = float(torch.linalg.vector_norm(norms))
    if isfinite(norm):
        return norm
    with torch.enable_grad(), _evaluating(trainee.module):
        loss = _plain_loss(model, trainee.module, batch)
        moved = [p for p in trainee.parameters if p.requires_grad]
        plain = torch.autograd.grad(loss, moved, allow_unused=True) if loss.requires_grad else ()
    _blame_the_model(all(bool(torch.isfinite(g).all()) for g in plain if g is not None), "gradient", norm)
    raise TensorError(f"{batch.whose}: {_expected('gradient', norm)} from these activations; {ADVICE}")


def cut_gradients(batch: Batch) -> list[Tensor]:
    """Of a backward pass, at those of the cut's tensors that want one. TensorError before NaN or Inf goes back."""
    gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in batch.activations if t.requires_grad]
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise TensorError(f"{batch.whose}: the gradient at the cut must be finite, got NaN or Inf; {ADVICE}")
    return gradients


@torch.no_grad()
def clip(trainee: Trainee, norm: float, bound: float) -> float:
    """Scales the gradient of this norm down to the bound, if it is longer; returns its norm now. bound 0: none."""
    if not bound or norm <= bound:
        return norm
    for parameter in trainee.parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(bound / norm)
    return bound


def step(model: SplitModel, trainees: Sequence[Trainee], batch: Batch, norms: Sequence[float]) -> None:
    """One first-order step of each, with gradients of these norms, or of none. TensorError: it would spoil one."""
    if max(norms) <= LARGE_GRADIENT:
        _step(trainees)
        return
    states = [deepcopy(t.optimizer.state_dict()) for t in trainees]
    before = [(p, p.detach().clone()) for t in trainees for p in t.parameters]
    plain = [_evaluated(model, t.module, batch) for t in trainees]
    _step(trainees)
    for trainee, earlier in zip(trainees, plain, strict=True):
        now = _evaluated(model, trainee.module, batch)
        if not now <= MOST_RISE * max(1.0, earlier) or not _remembers_numbers(trainee.optimizer):
            _put_back(before)
            for other, state in zip(trainees, states, strict=True):
                other.optimizer.load_state_dict(state)
            raise TensorError(
                f"{batch.whose}: the gradient of these activations must not spoil the server's model, got norm "
                f"{max(norms):.3g}, after which its loss on plain activations would be {now:.3g} instead of "
                f"{earlier:.3g}, or its optimiser's moments infinite; {ADVICE}"
            )


ADVICE = "lower method.optimizer.lr or check that client's data"


def _step(trainees: Sequence[Trainee]) -> None:
    for trainee in trainees:
        trainee.optimizer.step()
        trainee.forget_gradients()


def _remembers_numbers(optimizer: torch.optim.Optimizer) -> bool:
    """Adam squares: an infinite second moment would stop a parameter for ever."""
    slots = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return all(bool(torch.isfinite(value).all()) for value in slots)


def _plain_loss(model: SplitModel, module: nn.Module, batch: Batch) -> Tensor:
    """Of activations of one."""
    ones = tuple(torch.ones_like(t) if t.is_floating_point() else t for t in batch.activations)
    return model.task.losses(module(*ones), batch.labels_B).mean()


@torch.no_grad()
def _evaluated(model: SplitModel, module: nn.Module, batch: Batch) -> float:
    """The plain loss, where no running statistics move and nothing is drawn."""
    with _evaluating(module):
        return float(_plain_loss(model, module, batch))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _blame_the_model(fine: bool, what: str, got: float) -> None:
    if not fine:
        raise ModelError(f"{_expected(what, got)}; lower server_optimizer.lr and resume")


def _expected(what: str, got: float) -> str:
    return f"the server's {what} must be finite, got {got}"
