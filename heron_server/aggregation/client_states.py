"""Client states as the Fed-Server holds them: what is one for all, what is each client's, and what is averaged.

`place_of` in heron_core says where a tensor belongs. A version is a snapshot: committed rounds so far, and the one that
is being evaluated. A client that has given nothing yet stands at the start: heads as built, moments zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.replay.bundle import Averaged, Seeds
from heron_core.replay.seeds import SLOPES, Replay
from heron_core.spec.methods import Place, goes_up, moment_tensors, place_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.spec.server_average import ServerAverageSpec
from heron_core.wire.codec import Expected, check_finite, expected_of, mismatches
from heron_server.aggregation.moments import reach_of
from heron_server.aggregation.server_average import Arrays, ServerAverage

PLAIN = ServerAverageSpec()
NO_WEIGHTS: Mapping[int, float] = {}


@dataclass(frozen=True)
class Snapshot:
    """One version."""

    common: Arrays
    """Averaged and shared tensors, moments too, in the client's order."""
    by_rank: dict[int, Arrays] = field(default_factory=dict)
    """Kept and own tensors of each rank that is no longer at the start."""
    average: Arrays = field(default_factory=dict)
    """The moments of the Fed-Server's optimiser, where it has any."""
    digest: bytes = b""
    """Of the tensors that slopes lead to; empty where none do."""


class PastSlopes:
    """The slopes of the last rounds, for clients that sat some out. By the version that a round led to; none is on the
    disk."""

    def __init__(self, most_clients: int) -> None:
        """`most_clients`: of so many are slopes kept, all rounds together."""
        self._most_clients = most_clients
        self._rounds: dict[int, tuple[bytes, Averaged]] = {}
        """With the digest of the version before."""

    def add(self, version: int, base: bytes, averaged: Averaged) -> None:
        """The round that led to this version; what an abandoned one left of it, or of later ones, goes."""
        self.go_back(version - 1)
        self._rounds[version] = (base, averaged)
        clients = sum(len(past.weights) for _, past in self._rounds.values())
        while clients > self._most_clients:
            _, oldest = self._rounds.pop(min(self._rounds))
            clients -= len(oldest.weights)

    def between(self, holds: bytes, version: int) -> tuple[Averaged, ...] | None:
        """The rounds from the state of this digest to this version; None where they are not here."""
        found: list[Averaged] = []
        while version in self._rounds:
            base, averaged = self._rounds[version]
            found.append(averaged)
            if base == holds:
                return tuple(reversed(found))
            version -= 1
        return None

    def go_back(self, version: int) -> None:
        """This one is the last."""
        self._rounds = {number: past for number, past in self._rounds.items() if number <= version}


def zero_moments(method: MethodSpec, tensors: Mapping[str, Array], buffers: frozenset[str]) -> Arrays:
    """The client optimiser's state at the start, where it travels."""
    weights = [(name, tensor.size) for name, tensor in tensors.items() if name not in buffers]
    return {name: np.zeros(shape, dtype) for name, dtype, shape in moment_tensors(method, weights)}


class ClientStates:
    """All versions that can be fetched."""

    def __init__(
        self, method: MethodSpec, most_steps: int, tensors: Mapping[str, Array], buffers: frozenset[str],
        server_average: ServerAverageSpec = PLAIN, replay: Replay | None = None,
    ) -> None:  # fmt: skip
        """`tensors`: the initial client state without moments, in the client's order. `most_steps`: a client's local
        steps in the whole run. `server_average`: what follows the aggregation rule. `replay`: where slopes travel."""
        self.replay = replay
        self._most_steps, self.buffers, self.reach = most_steps, buffers, reach_of(method.optimizer)
        start = {**tensors, **zero_moments(method, tensors, buffers)}
        most_batches = most_steps * (method.batch_size // method.micro_batch_rows)
        self._counters = {
            n: (int(t), int(t) + most_batches) for n, t in tensors.items() if n.endswith(".num_batches_tracked")
        }
        """The least and the most that a normalisation of the client can have counted."""
        self._places: dict[str, Place] = {n: place_of(method, n, buffer=n in buffers) for n in start}
        self._start = {n: t for n, t in start.items() if self._places[n] in ("kept", "own")}
        self.server_average = ServerAverage(server_average, buffers)
        average = self.server_average.start(self.averaged_part(start))
        common = {n: t for n, t in start.items() if n not in self._start}
        self.versions = {0: Snapshot(common, average=average, digest=self._digest(common))}
        self.expected_update: Expected = [e for e in expected_of(start) if goes_up(self._places[e[0]])]
        """(name, dtype, shape) of what a client sends up."""
        if replay is not None:
            rest = [e for e in self.expected_update if e[0] not in replay.names]
            self.expected_update = [(SLOPES, "float64", replay.slopes_shape), *rest]
        self.most_replayed = 0 if replay is None else replay.most_clients
        """Clients' rounds that a client replays at once."""
        self._past = PastSlopes(self.most_replayed)

    def common(self, version: int) -> Arrays:
        """What is one for all: it makes up the model's fingerprint, without the moments."""
        return self.versions[version].common

    def of(self, version: int, rank: int | None) -> Arrays:
        """What the client of this rank fetches; None: one that has no rank yet."""
        snapshot = self.versions[version]
        given = {} if rank is None else snapshot.by_rank.get(rank, {})
        held = {**self._start, **given, **snapshot.common}
        return {name: held[name] for name in self._places}

    def check_values(self, update: Mapping[str, Array], origin: str) -> None:
        """Raises TensorError for NaN, Inf, and slopes, moments and counters that no client reaches."""
        check_finite(update, origin)
        if self.replay is not None:
            self.replay.check_slopes(update[SLOPES], origin)
        for name in ("moments.second", "moments.steps"):
            if name in update and update[name].size and update[name].min() < 0:
                raise TensorError(f"{origin}: tensor {name} must not be negative, got {update[name].min()}")
        if "moments.steps" in update and update["moments.steps"] > self._most_steps:
            raise TensorError(
                f"{origin}: tensor moments.steps must be at most {self._most_steps}, the run's local steps, got "
                f"{update['moments.steps']}"
            )
        for name, (least, most) in self._counters.items():
            if name in update and not least <= update[name] <= most:
                raise TensorError(
                    f"{origin}: tensor {name} must lie in {least}..{most}, the run's batches, got {update[name]}"
                )

    def whole_update(self, round_number: int, rank: int, update: Mapping[str, Array]) -> Mapping[str, Array]:
        """An update with what its slopes say: replayed from the version that the round began with."""
        if self.replay is None:
            return update
        replayed = self.replay.local_round(self.common(round_number - 1), round_number, rank, update[SLOPES])
        return {**replayed, **update}

    def averaged_part(self, update: Mapping[str, Array]) -> Arrays:
        """Those of an update's tensors that aggregation makes one of."""
        return {name: update[name] for name, place in self._places.items() if place == "averaged"}

    def stepped(self, version: int, averaged: Mapping[str, Array]) -> tuple[Arrays, Arrays]:
        """The averaged parts after the server's optimiser, and its moments then; `averaged`: as the rule gave them."""
        snapshot = self.versions[version]
        return self.server_average.step(snapshot.common, averaged, snapshot.average)

    def advance(
        self, version: int, averaged: Mapping[str, Array], shared: Mapping[str, Array],
        updates: Mapping[int, Mapping[str, Array]], average: Arrays, weights: Mapping[int, float] = NO_WEIGHTS,
    ) -> None:  # fmt: skip
        """The version after `version`.

        `averaged`, `average`: as `stepped` gave them. `shared`: at least the shared tensors as they are now. `updates`:
        by rank, of all whose kept tensors are to be taken. `weights`: by rank, of those in the average.
        """
        before = self.versions[version]
        common = {n: averaged[n] if place == "averaged" else shared[n]
                  for n, place in self._places.items() if place in ("averaged", "shared")}  # fmt: skip
        kept = [n for n, place in self._places.items() if place == "kept"]
        by_rank = dict(before.by_rank)
        for rank, update in updates.items() if kept else ():
            by_rank[rank] = {**by_rank.get(rank, {}), **{name: update[name] for name in kept}}
        if self.replay is not None:
            slopes = {rank: updates[rank][SLOPES] for rank in weights}
            self._past.add(version + 1, before.digest, Averaged(weights, slopes))
        self.versions[version + 1] = Snapshot(common, by_rank, average, self._digest(common))

    def _digest(self, common: Mapping[str, Array]) -> bytes:
        return b"" if self.replay is None else self.replay.digest(common)

    def as_slopes(self, version: int, rank: int | None, holds: bytes) -> Arrays | None:
        """`of` for a client that has the state of this digest: slopes in the place of what they lead to.

        None where it has another, or one of too long ago, or where slopes would be more bytes.
        """
        digest, replay, whole = self.versions[version].digest, self.replay, self.of(version, rank)
        rounds = () if holds == digest else self._past.between(holds, version)
        if replay is None or rounds is None:
            return None
        seeds = Seeds(holds, digest, rounds).tensors(replay)
        found = {**seeds, **{n: t for n, t in whole.items() if n not in replay.names}}
        return found if _bytes(found) < _bytes(whole) else None

    def own(self, version: int, rank: int) -> Arrays:
        """The tensors that the server makes for this rank alone."""
        return {n: t for n, t in self.of(version, rank).items() if self._places[n] == "own"}

    def set_own(self, version: int, rank: int, tensors: Mapping[str, Array]) -> None:
        """Replaces some of what `own` gives."""
        by_rank = self.versions[version].by_rank
        by_rank[rank] = {**by_rank.get(rank, {}), **tensors}

    def forget(self, version: int) -> None:
        """A later one is done."""
        del self.versions[version]

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def tensors(self, version: int) -> Arrays:
        """`client.<name>`, `clients.<rank>.<name>` of ranks past the start, `server_average.<moment>.<name>`."""
        snapshot = self.versions[version]
        each = {f"clients.{r}.{n}": t for r, held in sorted(snapshot.by_rank.items()) for n, t in held.items()}
        average = {f"server_average.{n}": t for n, t in snapshot.average.items()}
        return {**{f"client.{n}": t for n, t in snapshot.common.items()}, **each, **average}

    def mismatches(self, tensors: Mapping[str, Array]) -> list[str]:
        """Names of a checkpoint's tensors that do not fit the model, or are missing."""
        common, by_rank = _divided(tensors)
        odd = [f"client.{n}" for n in mismatches(expected_of(common), expected_of(self._now.common))]
        for rank, held in sorted(by_rank.items()):
            places = {self._places.get(name) for name in held}
            wanted = {n: t for n, t in self._start.items() if self._places[n] in places}
            odd += [f"clients.{rank}.{n}" for n in mismatches(expected_of(held), expected_of(wanted))]
        average = mismatches(expected_of(_average(tensors)), expected_of(self._now.average))
        return odd + [f"server_average.{n}" for n in average]

    def load(self, version: int, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`, as the only version."""
        common, by_rank = _divided(tensors)
        # In the model's order of names, which clients insist on; the file has its own.
        common = {name: common[name] for name in self._now.common}
        now = Snapshot(common, by_rank, _average(tensors), self._digest(common))
        self.versions = {version: now}
        self._past.go_back(version)

    @property
    def _now(self) -> Snapshot:
        return next(iter(self.versions.values()))


def states_of(spec: RunSpec, tensors: Mapping[str, Array], buffers: frozenset[str]) -> ClientStates:
    """Those of a run at its start; `tensors`: the initial client state without moments, in the client's order."""
    seeds = spec.codec.client_state == "seeds"
    replay = Replay(spec, [(n, t.shape) for n, t in tensors.items() if n not in buffers]) if seeds else None
    most_steps, average = spec.rounds * spec.method.local_steps, spec.federation.server_average
    return ClientStates(spec.method, most_steps, tensors, buffers, average, replay)


def _bytes(tensors: Mapping[str, Array]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _average(tensors: Mapping[str, Array]) -> Arrays:
    """The moments of the server's optimiser, of a checkpoint."""
    return {n.removeprefix("server_average."): t for n, t in tensors.items() if n.startswith("server_average.")}


def _divided(tensors: Mapping[str, Array]) -> tuple[Arrays, dict[int, Arrays]]:
    """What is one for all, and each rank's, of a checkpoint."""
    common = {n.removeprefix("client."): t for n, t in tensors.items() if n.startswith("client.")}
    by_rank: dict[int, Arrays] = {}
    for name, tensor in tensors.items():
        if name.startswith("clients."):
            _, rank, rest = name.split(".", 2)
            by_rank.setdefault(int(rank), {})[rest] = tensor
    return common, by_rank
