"""The client state as this client has it, and what it makes of everybody's slopes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heron_client.compute.backend import Backend
from heron_core.arrays import Array
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.replay.bundle import BASE, COUNTS, RANKS, Seeds, expected, read
from heron_core.replay.seeds import Replay
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.codec import Expected, check_finite, check_manifest, expected_bytes

STATE = "the server's client state"
ADVICE = "look at the server's log: its model has diverged or was damaged"


def replay_of(spec: RunSpec, backend: Backend) -> Replay | None:
    """The run's; None where the client state travels as weights."""
    if spec.codec.client_state == "weights":
        return None
    return Replay(spec, [(t.name, t.shape) for t in backend.state_tensors if not t.is_buffer])


class Replica:
    """One more copy of the tensors that are replayed: the round that is computed on moves the backend's own."""

    def __init__(self, whole: Expected, replay: Replay | None) -> None:
        """`whole`: (name, dtype, shape) of the client state."""
        self._whole, self._replay = whole, replay
        self._held: dict[str, Array] = {}
        self.digest = b""
        """Of what is held; empty where nothing is, or where nothing is replayed."""

    def forget(self) -> None:
        """What is held is no state that the server knows."""
        self._held, self.digest = {}, b""

    def check(self, manifest: tensors.Manifest) -> None:
        """Raises TensorError for a bundle that is neither a whole client state nor slopes in the place of one."""
        check_manifest(manifest, self._expected(manifest), STATE)

    def _expected(self, manifest: tensors.Manifest) -> Expected:
        found = {meta.name: list(meta.shape) for meta in manifest.tensors[:4]}
        if self._replay is None or BASE not in found or any(len(found.get(n, [])) != 1 for n in (COUNTS, RANKS)):
            return self._whole
        if found[RANKS][0] > self._replay.most_clients:
            return self._whole
        rest = [each for each in self._whole if each[0] not in self._replay.names]
        slopes = [*expected(self._replay, *found[COUNTS], *found[RANKS]), *rest]
        return slopes if expected_bytes(slopes) < expected_bytes(self._whole) else self._whole

    def take(
        self, arrays: Mapping[str, Array], version: int, after_each: Callable[[], None] = lambda: None
    ) -> dict[str, Array] | None:
        """The whole client state of this version, from either kind of bundle; None where its slopes begin or end
        elsewhere than here. Raises TensorError for numbers that cannot be. `after_each` is called after each client's
        round that is replayed; where it raises, what is held stays."""
        check_finite(arrays, STATE, ADVICE)
        if self._replay is None:
            return dict(arrays)
        if BASE in arrays:
            seeds = read(arrays, self._replay, version)
            if not self._takes(seeds, version, after_each):
                return None
            arrays = {**arrays, **self._held}
        else:
            self._hold(self._replay, arrays)
        return {name: arrays[name] for name, _, _ in self._whole}

    def _takes(self, seeds: Seeds, version: int, after_each: Callable[[], None]) -> bool:
        assert self._replay is not None, "there are slopes"
        if seeds.base != self.digest:
            return False
        self._hold(self._replay, seeds.replayed(self._replay, self._held, version, after_each))
        return seeds.result == self.digest

    def _hold(self, replay: Replay, state: Mapping[str, Array]) -> None:
        self._held = {name: state[name] for name in replay.names}
        self.digest = replay.digest(self._held)
