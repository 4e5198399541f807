"""A network as a list of named stages, and the cut between two of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.heads.auxiliary import auxiliary_factory
from heron_core.models.lean import in_pieces, rows_per_piece
from heron_core.models.names import nearest
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.task import Task

Shape = tuple[int, ...]
FLOAT_BYTES = 4
FEWEST_ROWS = 16
"""Per piece of a whole trunk: fewer samples would read deep layers' weights from memory too often."""


@dataclass(frozen=True)
class Stage:
    """One step of a network: `name` may be dotted (layer1.0); `shape` is one sample's output."""

    name: str
    build: Callable[[], nn.Module]
    shape: Shape
    widest: int = 0
    """Elements per sample of its largest map. 0: those of its output."""

    @property
    def bytes_per_sample(self) -> int:
        """Of its largest map."""
        return (self.widest or prod(self.shape)) * FLOAT_BYTES


@dataclass(frozen=True)
class Network:
    """Stages in order; the last one is the classifier and always stays with the back."""

    stages: Sequence[Stage]
    input_shape: Shape
    task: Task
    per_sample: bool = True
    """No stage mixes the samples of a batch in train mode (none is BatchNorm)."""
    cuts: tuple[str, ...] = field(init=False)
    """Every name to cut after: the stages', and their parents' (layer1 is its last block)."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages[:-1]]
        parents = {name.rpartition(".")[0] for name in names} - {""}
        object.__setattr__(self, "cuts", tuple(names) + tuple(sorted(parents)))

    def split(self, cut: str, auxiliary: str, family: str) -> SplitModel:
        """Cut after `cut`. ModelError: no such place, or a head that does not suit the activations."""
        if cut not in self.cuts:
            raise ModelError(
                f"model.cut: {family} has no {cut!r}{nearest(cut, self.cuts)}; it has {', '.join(self.cuts)}"
            )
        last = max(i for i, s in enumerate(self.stages) if s.name == cut or s.name.startswith(f"{cut}."))
        front, back = self.stages[: last + 1], self.stages[last + 1 :]
        shape = front[-1].shape
        return SplitModel(
            front=lambda: Trunk(front, self.per_sample),
            auxiliary=auxiliary_factory(auxiliary, shape, self.task.output_shape),
            back=lambda: Trunk(back, self.per_sample),
            inputs=(TensorSpec("input", self.input_shape),),
            activations=(TensorSpec("activations", shape),),
            task=self.task,
            channels_last=not self.per_sample,
        )


def stage_of(name: str, stages: Sequence[str]) -> int:
    """The number of the front's stage that `front.<stage>` or what is inside it belongs to, by names of the client
    state; the number of stages for every other name: the head is the stage after the last."""
    found = (i for i, stage in enumerate(stages) if f"{name}.".startswith(f"front.{stage}."))
    return next(found, len(stages))


class Level(nn.Module):
    """The stages under one parent name; the trunk runs them itself, so no frame here holds a spent map."""


class Trunk(nn.Module):
    """Consecutive stages, parameters named as in the uncut network: [B, *input] to [B, *last shape]."""

    def __init__(self, stages: Sequence[Stage], per_sample: bool) -> None:
        super().__init__()
        self._per_sample = per_sample
        self._rows: OrderedDict[str, int] = OrderedDict()
        for stage in stages:
            parent, _, child = stage.name.rpartition(".")
            if parent and parent not in self._modules:
                self.add_module(parent, Level())
            (self.get_submodule(parent) if parent else self).add_module(child, stage.build())
            self._rows[stage.name] = rows_per_piece(stage.bytes_per_sample)

    @property
    def stages(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self._rows)

    def forward(self, x: Tensor) -> Tensor:
        """[B, *input] to [B, *last stage's shape]."""
        return self.run_from(0, x)

    def run_from(self, first: int, x: Tensor, stop: int | None = None) -> Tensor:
        """The output from the input of stage number `first`; that of none, with as many as there are stages.

        `stop`: what the stage of this number is given, instead of the output.
        """
        if not self._per_sample and self.training:
            return self._run(x, first, stop, whole=True)
        return in_pieces(lambda piece: self._run(piece, first, stop), x, max(FEWEST_ROWS, min(self._rows.values())))

    def _run(self, x: Tensor, first: int, stop: int | None, whole: bool = False) -> Tensor:
        for name, rows in list(self._rows.items())[first:stop]:
            stage = self.get_submodule(name)
            x = stage(x) if whole else in_pieces(stage, x, rows)
        return x
