"""What planning knows of a model: shapes, sizes and costs as plain numbers. Measured once a run by `measuring`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract
from heron_core.data.facts import DataFacts
from heron_core.labels import LabelSpec
from heron_core.measures import Metric
from heron_core.spec.methods import Part
from heron_core.wire.activation_codec import floating


@dataclass(frozen=True)
class TensorFacts:
    """One parameter or buffer of a part."""

    name: str
    """As in the client state, such as `front.conv1.weight`."""
    size: int
    """Elements."""
    size_bytes: int
    dtype: str
    learned: bool
    """Of a parameter: is it trainable? Of a buffer: is it learned, so that it travels?"""


@dataclass(frozen=True)
class Layer:
    """One layer with weights, in the order of calls; costs are those of one sample."""

    name: str
    """As in the client state, such as `front.stem.conv`."""
    macs: int
    """Of a forward pass."""
    learns: bool
    """Do its own weights need a gradient? Costs as much as its forward pass."""
    passes_on: bool
    """Does a parameter before it need one, so that its input does? Costs as much again."""

    @property
    def backward_macs(self) -> int:
        """Of the gradients that it has to compute."""
        return self.macs * (self.learns + self.passes_on)


@dataclass(frozen=True)
class PartFacts:
    """One part by itself; costs are those of one sample, in evaluation mode."""

    kind: str
    """Name of the module's class."""
    parameters: tuple[TensorFacts, ...]
    buffers: tuple[TensorFacts, ...]
    macs: int
    """Multiply-accumulates of a forward pass."""
    layers: tuple[Layer, ...]
    """Those that multiply; the part's input needs no gradient."""
    map_bytes: int
    """Outputs of all layers together."""
    widest_bytes: int
    """Input and output of one layer together, where that is most."""
    saved_bytes: int
    """Of its state, as a checkpoint and the model at the end hold it: a pretrained backbone is none of it."""
    stages: tuple[str, ...] = ()
    """Names of its stages, in order; none where it is not made of stages."""

    @property
    def parameter_count(self) -> int:
        """Elements of all parameters."""
        return sum(p.size for p in self.parameters)

    @property
    def parameter_bytes(self) -> int:
        """Of all parameters, trainable or not."""
        return sum(p.size_bytes for p in self.parameters)

    @property
    def size_bytes(self) -> int:
        """Of all parameters and buffers."""
        return self.parameter_bytes + sum(b.size_bytes for b in self.buffers)

    @property
    def trainable_bytes(self) -> int:
        """Of the trainable parameters: as much as their gradient, and each of an optimiser's moments."""
        return sum(p.size_bytes for p in self.trainable)

    @property
    def trainable(self) -> tuple[TensorFacts, ...]:
        """The trainable parameters."""
        return tuple(p for p in self.parameters if p.learned)


@dataclass(frozen=True)
class ModelFacts:
    """A split model in numbers."""

    inputs: tuple[TensorSpec, ...]
    activations: tuple[TensorSpec, ...]
    task: str
    """Its name, such as `classification`."""
    labels: LabelSpec
    metric: Metric
    """What a run is judged by."""
    parts: Mapping[Part, PartFacts]
    across_batch: Mapping[Part, str]
    """Of each part that normalises across the batch in training: its first such layer, such as `front.norm`."""
    warnings: tuple[str, ...]
    """What its lint warns of."""
    per_sample_obstacle: str | None
    """The first trainable parameter of the front that cannot differ from sample to sample; None where all can."""
    evaluation_rows: int
    """Samples of a test set at a time."""
    drawing: str = ""
    """The front's first layer that draws random numbers in training, such as `front.dropout`; empty: none."""
    takes_prior: bool = False
    """Can the task's loss adjust logits by class shares?"""
    own_names: bool = False
    """Have front and back the names of one network of the user's?"""
    contract: InputContract | None = None
    """How stored values become the inputs; None where only the clients know."""
    test_data: DataFacts | None = None
    """What clients' own data is compared with; None where they bring none, or there is no test set here."""

    @property
    def varying(self) -> list[str]:
        """Names of what a client sends that differs in length from sample to sample."""
        return [tensor.name for tensor in (*self.activations, self.labels.tensor) if tensor.variable]

    @property
    def input_bytes(self) -> int:
        """Of one sample's inputs."""
        return _bytes(self.inputs)

    @property
    def activation_bytes(self) -> int:
        """Of one sample at the cut, not encoded."""
        return _bytes(self.activations)

    @property
    def gradient_bytes(self) -> int:
        """Of one sample's gradient at the cut, not encoded. 0 where nothing there is floating point."""
        return _bytes(floating(self.activations))

    @property
    def label_bytes(self) -> int:
        """Of one sample's labels."""
        return self.labels.tensor.bytes_per_sample


def _bytes(specs: Iterable[TensorSpec]) -> int:
    return sum(spec.bytes_per_sample for spec in specs)
