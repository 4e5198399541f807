"""A client's passes as pure functions of named tensors: what is traced, and what the graph is compared with.

Shape suffixes: B samples of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from heron_core.graphs.manifest import HeldTensor, Kind
from heron_core.models.lean import whole_batches
from heron_core.models.split_model import SplitModel, Tensors, movable
from heron_core.spec.role import Role
from heron_server.graphs.rewriting import Draw, Formulas, GivenMasks
from heron_server.graphs.slices import in_slices

Named = Mapping[str, Tensor]
Pass = Callable[[Named], dict[str, Tensor]]


class ClientPasses:
    """A client's parts of a model, built as every client of the run builds them."""

    def __init__(self, model: SplitModel, role: Role, *, adjusts_logits: bool) -> None:
        """`adjusts_logits`: does the loss take the log of the class shares? The task can."""
        self.model, self._role = model, role
        self.has_loss = len(role.parts) > 1
        """Else the client has the front alone."""
        self.prior = model.classes if adjusts_logits else 0
        self.net = nn.ModuleDict({part: model.build(part, role.seed) for part in role.parts})
        trainable = movable(self.net)
        self.net.requires_grad_(False)
        self.moving = [name for name in trainable if role.moves(name)]
        self.gradients = tuple(name for name in self.moving if role.exact(name))
        """Of the head's parameters."""
        every = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        self._held_as = _twins(role.parts[0], {n: p for n, p in self.net.named_parameters() if n not in trainable})
        """Of the head's frozen parameters those that the front has too, such as a tied unembedding."""
        self.held = {name: tensor for name, tensor in every.items() if name not in self._held_as}
        learned = model.learned_buffers(self.net)
        self._kinds: dict[str, Kind] = {
            **{name: "parameter" if name in trainable else "frozen" for name, _ in self.net.named_parameters()},
            **{name: "buffer" if name in learned else "local_buffer" for name, _ in self.net.named_buffers()},
        }

    @property
    def frozen(self) -> set[str]:
        """Parameters of which every client has the values that they were built with."""
        return {name for name, kind in self._kinds.items() if kind == "frozen"}

    def tensors(self, changing: Sequence[str]) -> tuple[HeldTensor, ...]:
        """What a client holds, in the client state's order; `changing`: the buffers that a training pass moves."""
        return tuple(
            HeldTensor(
                name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape),
                kind=self._kinds[name], changes=name in changing,
            )
            for name, tensor in self.held.items()
        )  # fmt: skip

    def training(self, draw: Callable[[Named], Draw], changing: Sequence[str], *, exact_formulas: bool) -> Pass:
        """Losses, activations, the buffers `changing` and the head's gradient of a training pass.

        `draw`: where a pass gets its masks from. `exact_formulas`: written so that it exports; else by torch's kernels.
        """

        def run(named: Named) -> dict[str, Tensor]:
            given = {n: named[n].clone() if self._is_buffer(n) else named[n] for n in self.held}
            given |= {name: given[twin] for name, twin in self._held_as.items()}
            with ExitStack() as stack:
                stack.enter_context(whole_batches())
                stack.enter_context(GivenMasks(draw(named)))
                if exact_formulas:
                    stack.enter_context(Formulas())
                self.net.train()
                if self._role.keeps_statistics:
                    self.net["front"].eval()
                return self._trained(named, given, changing, exact_formulas)

        return run

    def evaluation(self, *, exact_formulas: bool) -> Pass:
        """Activations in evaluation mode."""

        def run(named: Named) -> dict[str, Tensor]:
            self.net.eval()
            with whole_batches(), Formulas() if exact_formulas else nullcontext():
                return self._activations(self._front(named, named))

        return run

    def evaluation_tensors(self) -> list[str]:
        """What an evaluation takes of what is held."""
        return [name for name in self.held if name.startswith("front.")]

    def buffers(self) -> list[str]:
        """All, also those that do not travel."""
        return [name for name in self.held if self._is_buffer(name)]

    def _is_buffer(self, name: str) -> bool:
        return self._kinds[name] in ("buffer", "local_buffer")

    def _trained(
        self, named: Named, given: Named, changing: Sequence[str], exact_formulas: bool
    ) -> dict[str, Tensor]:
        activations = self._front(named, given)
        taught = self._taught(named, given, activations, exact_formulas)
        return {**taught, **self._activations(activations), **{f"buffers.{name}": given[name] for name in changing}}

    def _taught(self, named: Named, given: Named, activations: Tensors, exact_formulas: bool) -> dict[str, Tensor]:
        """What comes after the cut: losses, and the head's gradient of their sum."""
        if not self.has_loss:
            return {}
        with torch.enable_grad():
            exact = [given[name].detach().requires_grad_() for name in self.gradients]
            head = {**given, **dict(zip(self.gradients, exact, strict=True))}
            losses_B = self._head([a.detach() for a in activations], head, named, exact_formulas)
            found = _gradients(losses_B.sum(), exact)
        gradients = {f"gradients.{name}": each for name, each in zip(self.gradients, found, strict=True)}
        return {"losses": losses_B.detach().float(), **gradients}

    def _front(self, named: Named, given: Named) -> Tensors:
        inputs = tuple(named[f"inputs.{spec.name}"] for spec in self.model.inputs)
        outputs = functional_call(self.net["front"], _under(given, "front."), inputs)
        return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)

    def _head(self, activations: Sequence[Tensor], given: Named, named: Named, exact_formulas: bool) -> Tensor:
        """The losses [B] of what the head gives."""
        head = self.net[self._role.parts[1]]

        def losses(outputs: Tensor) -> Tensor:
            return self._losses(in_slices(outputs, head) if exact_formulas else outputs, named)

        own = {f"head.{name}": tensor for name, tensor in _under(given, f"{self._role.parts[1]}.").items()}
        losses_B: Tensor = functional_call(_WithLosses(head, losses), own, tuple(activations))
        return losses_B

    def _losses(self, outputs: Tensor, named: Named) -> Tensor:
        task = self.model.task
        if self.prior:
            return task.losses_with_prior(outputs, named["labels"], named["log_prior"])  # type: ignore[attr-defined,no-any-return]
        return task.losses(outputs, named["labels"])

    def _activations(self, activations: Tensors) -> dict[str, Tensor]:
        return {f"activations.{s.name}": a for s, a in zip(self.model.activations, activations, strict=True)}


def _twins(front: str, frozen: Named) -> dict[str, str]:
    """Of other parts' tensors, the front's tensor with the same values."""
    own = {name: tensor for name, tensor in frozen.items() if name.startswith(f"{front}.")}
    found = {}
    for name, tensor in frozen.items():
        alike = (n for n, t in own.items() if (t.shape, t.dtype) == (tensor.shape, tensor.dtype))
        twin = next((n for n in alike if torch.equal(own[n], tensor)), None)
        if twin is not None and name not in own:
            found[name] = twin
    return found


class _WithLosses(nn.Module):
    """A head and the losses of its outputs, which may use its parameters, too: of token logits they do."""

    def __init__(self, head: nn.Module, losses: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self._losses = head, losses

    def forward(self, *activations: Tensor) -> Tensor:
        """[B, ...] each to [B]."""
        return self._losses(self.head(*activations))


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Zero for parameters that the loss does not depend on."""
    if not parameters:
        return ()
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def _under(named: Named, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
