"""The seam between the phases of a round and what owns the back: commands, with names, ranks, numbers and arrays.

One worker thread sends them, one after the other. Nobody above looks behind them, so that what answers may be one
module on this machine's device or several processes that each hold a part of the back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.measures import Metric
from heron_server.metrics.counts import Counts
from heron_server.storage.kept_samples import KeptSamples
from heron_server.uploads.assembly import Upload
from heron_server.uploads.cut_gradients import CutGradients


@dataclass(frozen=True)
class ClientTensors:
    """A client's tensors as built, without moments, in the client's order."""

    tensors: dict[str, Array]
    buffers: frozenset[str]
    """Names of those that are buffers."""


@dataclass(frozen=True)
class RoundEnd:
    """What the server's part of a round came to."""

    mean_loss: float | None
    """Mean server loss of the round's uploads; None where there were none."""
    client_state: dict[str, Array]
    """A client's tensors as the server has them now: the aggregated ones, and those that only the server moves."""
    heads_due: tuple[int, ...]
    """Ranks whose heads are to be aligned now."""
    quarantined: Mapping[str, int]
    """By client, uploads that nothing was trained on: their loss was an outlier."""


@dataclass(frozen=True)
class Pooled:
    """One client's upload in a pool."""

    client: str
    rank: int
    upload: Upload

    @property
    def whose(self) -> str:
        """For messages."""
        return f"client {self.client!r}, upload {self.upload.number}"


@dataclass(frozen=True)
class TrainedModel:
    """The parts of a model after training, in evaluation mode."""

    front: nn.Module
    back: nn.Module
    """The averaged one, where there is one."""
    head: nn.Module | None
    """The auxiliary head, where there is one for all."""
    trained_back: nn.Module | None = None
    """Where `back` is an average, the one that was trained."""


class Commands(Protocol):
    """What a run asks of its trainer. A TensorError means that one client's upload cannot be used, and that nothing
    has changed; any other error ends the run."""

    @property
    def uploaded(self) -> tuple[TensorSpec, ...]:
        """The tensors of an upload before they are encoded: the activations, then the labels."""
        ...

    @property
    def classes(self) -> int:
        """How many classes, where a sample's label is one class; else 0."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What its counts are of."""
        ...

    @property
    def has_test_set(self) -> bool:
        """Can it evaluate by itself?"""
        ...

    def client_tensors(self) -> ClientTensors:
        """A client's tensors at the start of a run."""
        ...

    def keep_samples(self, kept: KeptSamples) -> None:
        """Where samples are that uploads use again. Called once, before any upload."""
        ...

    def train(self, client: str, rank: int, round_number: int, upload: Upload) -> CutGradients | None:
        """One first-order step on the back, and what the method returns for the upload.  Eq. 7."""
        ...

    def train_mixed(
        self, round_number: int, pool: Sequence[Pooled]
    ) -> Sequence[CutGradients | TensorError | None]:
        """As many steps on the back as there are uploads, on batches drawn from all their rows.

        `pool`: the uploads of one number, in rank order. For each, what `train` would return, or why it cannot be used.
        """
        ...

    def evaluate_upload(self, client: str, upload: Upload) -> Counts:
        """One batch of a client's held-out samples; the back is untouched."""
        ...

    def evaluate(self) -> Counts:
        """The server's own test set; the back is untouched."""
        ...

    def end_round(self, round_number: int, state: Mapping[str, Array], weights: Mapping[int, float]) -> RoundEnd:
        """Takes the aggregated client state; where each client has a back, the common one becomes their average.

        `weights`: by rank, of those whose updates were selected.
        """
        ...

    def align(self, round_number: int, heads: Mapping[int, Mapping[str, Array]]) -> dict[int, dict[str, Array]]:
        """By rank, the heads aligned to the back on their client's newest uploads."""
        ...

    def save(self) -> dict[str, Array]:
        """What a checkpoint holds beside the client states: the back, optimisers, buffered uploads."""
        ...

    def mismatches(self, tensors: Mapping[str, Array]) -> list[str]:
        """Names among what `save` gave, perhaps for another model, that do not fit this one or are missing."""
        ...

    def load(self, client_state: Mapping[str, Array], tensors: Mapping[str, Array]) -> None:
        """Back to a checkpoint: what is one for all of its client states, and what `save` gave."""
        ...

    def back_tensors(self) -> dict[str, Array]:
        """`back.<name>`: parameters and buffers of the back; `averaged.*` of its average, where there is one."""
        ...

    def trained(self) -> TrainedModel:
        """The parts as they are now, not copied; after the last command."""
        ...
