"""What slopes say of the client state in one run: which tensors, how many slopes a round, and the replay itself.

Shape suffixes: P perturbed parameters, h local steps, s slopes of one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import prod

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.replay.estimate import Vector, add_multiple, add_pull, divide_by_spread, gradient_scale
from heron_core.replay.update_rules import make_update_rule
from heron_core.spec.methods import method_of, moment_tensors, moves
from heron_core.spec.optimizer import learning_rate
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part, direction, generator
from heron_core.wire.codec import as_bytes

SLOPES = "seeds.slopes"
"""Name of a client's slopes in its update, float64 [h, s]."""
DIGEST_BYTES = 16
MOST_NUMBERS = 1 << 31
"""Of directions that are drawn again at once where a client sat out rounds: some 20 s of one core."""
Tensors = Sequence[tuple[str, tuple[int, ...]]]


class Replay:
    """The replay of one run's local rounds: a pure function of a state, a round, a rank and slopes."""

    def __init__(self, spec: RunSpec, parameters: Tensors) -> None:
        """`parameters`: (name, shape) of a client's trainable ones, in the client's order."""
        self._spec, self._method = spec, spec.method
        joint = method_of(spec.method).head == "joint"
        moved = [(n, shape) for n, shape in parameters if moves(spec.method, n)]
        self._perturbed = [(n, shape) for n, shape in moved if joint or n.startswith("front.")]
        self._moments = [n for n, _, _ in moment_tensors(spec.method, [(n, prod(shape)) for n, shape in moved])]
        self.names = (*(n for n, _ in self._perturbed), *self._moments)
        """Tensors of the client state that are replayed, in its order; the others travel as they are."""
        zo, pieces = spec.method.zo, spec.method.batch_size // spec.method.micro_batch_rows
        self._pieces: list[tuple[Part, ...]] = (
            [()] if zo.scope == "batch" else [("piece", number) for number in range(pieces)]
        )
        self.slopes_shape = (spec.method.local_steps, zo.num_directions * len(self._pieces))
        """[h, s] of one client's round; a step's slopes as its probes found them."""
        numbers = prod(self.slopes_shape) * sum(prod(shape) for _, shape in self._perturbed)
        self.most_clients = max(spec.federation.participants, MOST_NUMBERS // max(1, numbers))
        """The most clients' rounds that are replayed at once: all of one round, and of earlier ones what is quick."""
        self.most_slope = _most_slope(spec)
        """The largest that a slope may be: none of this size makes a replayed number overflow."""

    def check_slopes(self, slopes: Array, origin: str) -> None:
        """Raises TensorError for one that is too large, or is no number."""
        worst = float(np.abs(slopes).max(initial=0.0))
        if not worst <= self.most_slope:
            raise TensorError(
                f"{origin}: tensor {SLOPES} must hold slopes of at most {self.most_slope:.3g}, got {worst:.3g}; "
                "lower method.optimizer.lr, or look for NaN in this client's data"
            )

    def digest(self, state: Mapping[str, Array]) -> bytes:
        """Of the replayed tensors: equal where they are, bit for bit."""
        found = blake2b(digest_size=DIGEST_BYTES, person=b"heron-replay")
        for name in self.names:
            found.update(as_bytes(state[name]))
        return found.digest()

    def local_round(self, state: Mapping[str, Array], round_number: int, rank: int, slopes: Array) -> dict[str, Array]:
        """The replayed tensors at the end of that client's round, from those at its start; `slopes` float64 [h, s]."""
        method, steps = self._method, self._spec.rounds * self._method.local_steps
        theta_P: Vector = np.concatenate([state[n].reshape(-1) for n, _ in self._perturbed])
        start_P = theta_P.copy() if method.proximal else None
        rule = make_update_rule(method.optimizer)
        if self._moments:
            rule.load(state)
        for step, found in enumerate(slopes.tolist()):
            gradient_P = self._gradient(theta_P.size, ("round", round_number, "client", rank, "step", step), found)
            if start_P is not None:
                add_pull(gradient_P, theta_P, start_P, method.proximal)
            rule.lr = learning_rate(method.optimizer, (round_number - 1) * method.local_steps + step, steps)
            rule.step(theta_P, gradient_P)
        moments = rule.state()
        return {**self._parts(theta_P), **{name: moments[name] for name in self._moments}}

    def _gradient(self, size: int, path: tuple[Part, ...], slopes: Sequence[float]) -> Vector:
        """The step's, added up as its estimator does: pieces of the batch in order, each one's directions in order."""
        zo, seed = self._method.zo, self._spec.seed
        gradient_P, scratch_P = np.zeros(size, np.float32), np.empty(size, np.float32)
        scale, left = gradient_scale(zo.distribution, size), iter(slopes)
        for piece in self._pieces:
            for j in range(zo.num_directions):
                u_P = direction(zo.distribution, size, generator(seed, *path, "direction", j, *piece))
                add_multiple(gradient_P, u_P, scale * next(left) / len(slopes), scratch_P)
        if zo.normalise:
            divide_by_spread(gradient_P, slopes)
        return gradient_P

    def _parts(self, theta_P: Vector) -> dict[str, Array]:
        """Each parameter in memory of its own."""
        parts, at = {}, 0
        for name, shape in self._perturbed:
            parts[name] = theta_P[at : at + prod(shape)].reshape(shape).copy()
            at += prod(shape)
        return parts


def _most_slope(spec: RunSpec) -> float:
    """A gradient is at most so large, a velocity n times that, theta n * lr times that after n steps; Adam squares the
    gradient. Divided by their spread, which is 1e-12 or more, slopes become larger."""
    steps = spec.rounds * spec.method.local_steps
    return (1e6 if spec.method.zo.normalise else 1e18) / max(1.0, spec.method.optimizer.lr * steps**2)
