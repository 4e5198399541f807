"""The page that describes a run's graphs: what goes in, what comes out, and which tensors the client holds.

Shape letters: B samples of a micro-batch.
"""

from __future__ import annotations

import hashlib
from math import prod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from heron_core.arrays import TensorSpec
from heron_core.errors import BadReply
from heron_core.labels import LabelSpec
from heron_core.spec.kinds import Count, Flag, Fraction, Positive, Settings
from heron_core.spec.methods import method_of
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import RunSpec

FORMAT: Literal[1] = 1
MOST_TENSORS = 1 << 16
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=512)]
Dtype = Literal["float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool"]
Kind = Literal["parameter", "frozen", "buffer", "local_buffer"]


class HeldTensor(Settings):
    """A parameter or a buffer. The client holds it, and every graph that names it takes it as an input."""

    name: Name
    """As in the client state: `front.conv1.weight`."""
    dtype: Dtype
    shape: tuple[Count, ...]
    kind: Kind
    """parameter and buffer travel in the client state, in this order. frozen and local_buffer do not: they begin as
    they were built, and their values are the constants."""
    changes: Flag = False
    """Does the training graph give it anew, as `buffers.NAME`?"""

    @property
    def travels(self) -> bool:
        """Is it in the client state?"""
        return self.kind in ("parameter", "buffer")


class Mask(Settings):
    """One place of the model that drops out: a bool input `masks.N` of the training graph, true where a value stays."""

    times: Positive = 1
    """Its first dimension is times * B."""
    shape: tuple[Count, ...]
    """Its other dimensions. 0: as long as the batch's sequences, T."""
    drops: Fraction
    """The probability that a value is dropped. The graph itself divides what stays by 1 - drops."""

    def sized(self, rows: int, length: int) -> tuple[int, ...]:
        """Its shape for B = `rows` and T = `length`."""
        return (self.times * rows, *(size or length for size in self.shape))


class StoredFile(Settings):
    """One file of the set."""

    sha256: Sha256
    bytes: Count


class Manifest(Settings):
    """All that a client knows of the model."""

    format: Literal[1] = FORMAT
    made_for: Sha256
    """See `made_for`: a client takes part with graphs of its run's own settings alone."""
    opset: Positive
    """ONNX operator set of the graphs; a runtime must be new enough for it."""
    inputs: tuple[TensorSpec, ...]
    """Graph inputs `inputs.NAME`, [B, ...]."""
    labels: LabelSpec
    """Graph input `labels`, [B, ...]."""
    activations: tuple[TensorSpec, ...]
    """Graph outputs `activations.NAME`, [B, ...]."""
    tensors: Annotated[tuple[HeldTensor, ...], Field(max_length=MOST_TENSORS)]
    masks: tuple[Mask, ...] = ()
    prior: Count = 0
    """Classes K of the input `log_prior` [K], which is added to the logits. 0: the graph has no such input."""
    gradients: tuple[Name, ...] = ()
    """Parameters whose exact gradient of the losses' sum the training graph gives, as `gradients.NAME`."""
    files: dict[Literal["training.onnx", "evaluation.onnx", "constants.bin"], StoredFile]

    def text(self) -> bytes:
        """As it is stored and sent; its SHA-256 names the whole set."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @property
    def held_bytes(self) -> int:
        """Of all tensors that the client holds."""
        return sum(prod(tensor.shape) * np.dtype(tensor.dtype).itemsize for tensor in self.tensors)

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text()).hexdigest()


def read_manifest(text: bytes) -> Manifest:
    """Raises BadReply where this is no manifest, or one of another format."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its JSON"
        raise BadReply(f"the manifest of the run's graphs cannot be used: {place}: {first['msg']}") from None


def made_for(spec: RunSpec) -> str:
    """SHA-256 of what decides a client's graphs: the model, the seed that its frozen parts were drawn with, and the
    client's part in the method."""
    role, method = role_of(spec), method_of(spec.method)
    decides = (
        spec.model.model_dump_json(), spec.seed, role.parts, method.front, method.head, role.keeps_statistics,
        spec.method.logit_adjustment > 0,
    )  # fmt: skip
    return hashlib.sha256(repr(decides).encode()).hexdigest()
