"""Payload of a transfer and of a round, as Heron charges it: counted from shapes and codecs, not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from heron_core.replay.bundle import expected
from heron_core.replay.seeds import Replay
from heron_core.spec.methods import method_of, tolerates, uploads_per_round
from heron_core.spec.run_spec import FederationSpec, RunSpec
from heron_core.wire.activation_codec import CODECS, floating
from heron_core.wire.codec import expected_bytes
from heron_core.wire.labels import NUMBERS, numbers_of, travelling
from heron_core.wire.versions import SKETCH, VERSIONS
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.facts import ModelFacts
from heron_server.storage.kept_samples import HEAD, place_bytes


@dataclass(frozen=True)
class Transfer:
    """Payload bytes of one batch, of the longest sequences."""

    activations: int
    """Of an upload that trains."""
    labels: int
    cut_gradients: int
    """Of an upload, where they are returned."""
    evaluated: int
    """The activations of an upload that is only evaluated."""
    numbers: int = 0
    """Of the samples of an upload, where activations are reused."""

    @property
    def upload(self) -> int:
        """Of a whole upload, to train or to be evaluated, whichever is more."""
        return max(self.activations, self.evaluated) + self.labels + self.numbers


def transfer_of(spec: RunSpec, facts: ModelFacts) -> Transfer:
    """Of `method.batch_size` samples, in the run's micro-batches and codecs."""
    rows, micro_rows, cut = spec.method.batch_size, spec.method.micro_batch_rows, facts.activations
    length = next((tensor.shape[0] for tensor in cut if tensor.variable), 0)
    up, down, evaluation = (CODECS[n] for n in (spec.codec.uploads, spec.codec.cut_gradients, spec.codec.evaluation))
    return Transfer(
        rows // micro_rows * expected_bytes(up.travels(cut, micro_rows, length)),
        rows * travelling(facts.labels.tensor, spec.codec.labels == "packed").bytes_per_sample,
        expected_bytes(down.travels(floating(cut), rows, length)),
        expected_bytes(evaluation.travels(cut, rows, length)),
        _numbers(spec, rows),
    )  # fmt: skip


def _numbers(spec: RunSpec, rows: int) -> int:
    """Of so many reused samples; where those that move are sent again, with a bit for each."""
    return (rows * NUMBERS.bytes_per_sample + (-(-rows // 8) if tolerates(spec) else 0)) if spec.codec.reuse else 0


@dataclass(frozen=True)
class Traffic:
    """Payload bytes of one round with all its participants."""

    activations_up: int
    labels_up: int
    cut_gradients_down: int
    client_state_up: int
    client_state_down: int

    @property
    def total(self) -> int:
        """All payload that crosses the wire."""
        return sum(
            (self.activations_up, self.labels_up, self.cut_gradients_down, self.client_state_up, self.client_state_down)
        )


def round_traffic(spec: RunSpec, facts: ModelFacts) -> Traffic:
    """Of one round in which all participants take every step."""
    method, participants = spec.method, spec.federation.participants
    up, down = state_traffic(spec, facts)
    each = transfer_of(spec, facts)
    uploads = participants * uploads_per_round(method)
    return Traffic(
        activations_up=uploads * (each.activations + each.numbers),
        labels_up=uploads * each.labels,
        cut_gradients_down=uploads * each.cut_gradients if method_of(method).returns_cut_gradients else 0,
        client_state_up=participants * up,
        client_state_down=participants * down,
    )


def state_traffic(spec: RunSpec, facts: ModelFacts) -> tuple[int, int]:
    """Bytes of one client's state up and down in a round; as slopes for a client that has the state before."""
    tensors = client_state(spec.method, facts)
    whole = state_bytes(tensors)
    if spec.codec.client_state == "weights":
        return whole.up, whole.down
    replay = Replay(spec, [(t.name, (t.size,)) for t in tensors if t.content == "weights"])
    rest = state_bytes(t for t in tensors if t.name not in replay.names)
    slopes = prod(replay.slopes_shape) * np.dtype(np.float64).itemsize
    return rest.up + slopes, rest.down + _slopes_down(replay, spec.federation, whole.down - rest.down)


def _slopes_down(replay: Replay, federation: FederationSpec, most: int) -> int:
    """Of a client that has what was current when it took part last: of all who were drawn since, on average; `most`:
    of the weights that go where this is too much."""
    clients, participants = federation.clients, federation.participants
    if clients > replay.most_clients:
        return most
    return min(most, expected_bytes(expected(replay, ceil(clients / participants), clients)))


def reused_traffic(spec: RunSpec, facts: ModelFacts, sizes: Sequence[int]) -> tuple[int, int]:
    """Of a whole run that reuses activations: these with all numbers, and labels, up. `sizes`: samples by rank."""
    each, rows = transfer_of(spec, facts), spec.method.batch_size
    sent = spec.rounds * spec.federation.participants * uploads_per_round(spec.method) * rows
    first, number = min(sum(sizes), sent), numbers_of(max(sizes)).bytes_per_sample
    return first * each.activations // rows + sent * number, first * each.labels // rows


def kept_bytes(spec: RunSpec, facts: ModelFacts, sizes: Sequence[int]) -> int:
    """On the server's disk, where the activations of clients with so many samples are reused."""
    place = place_bytes((*facts.activations, facts.labels.tensor))
    return sum(HEAD.size + (VERSIONS if tolerates(spec) else 1) * size * place for size in sizes)


def sketch_bytes(facts: ModelFacts) -> int:
    """In a client's memory for each of its samples, to tell how far its activations have moved."""
    size = sum(prod(tensor.shape) for tensor in facts.activations)
    return VERSIONS * min(size, SKETCH) * np.dtype(np.float32).itemsize
