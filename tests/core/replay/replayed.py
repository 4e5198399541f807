"""A small replay, made of what a bare interpreter loads fast: tests run it in this process and in others."""

from __future__ import annotations

from typing import Any

import numpy as np

from heron_core.replay.seeds import Replay
from heron_core.spec.run_spec import RunSpec

PARAMETERS = [
    ("front.weight", (301, 11)), ("front.bias", (301,)), ("auxiliary.weight", (3, 301)), ("auxiliary.bias", ()),
]  # fmt: skip


def replay_of(zo: dict[str, Any] | None = None, **method: Any) -> Replay:
    tables = {"local_steps": 5, "auxiliary_update": "zo", "zo": {"distribution": "rademacher", **(zo or {})}, **method}
    return Replay(RunSpec.model_validate({"rounds": 4, "method": tables}), PARAMETERS)


def start_of(replay: Replay) -> dict[str, Any]:
    rng, size = np.random.Generator(np.random.Philox(0)), sum(int(np.prod(shape)) for _, shape in PARAMETERS)
    moments = {"moments.first": np.zeros(size, np.float32), "moments.second": np.zeros(size, np.float32),
               "moments.steps": np.array(0)}  # fmt: skip
    return {**{n: np.asarray(rng.standard_normal(shape), np.float32) for n, shape in PARAMETERS}, **moments}


def two_rounds() -> tuple[int, str]:
    """How many instruction sets NumPy uses here, and the digest of what two rounds lead to."""
    replay = replay_of(moments="averaged", zo={"num_directions": 9, "normalise": True}, proximal=0.1)
    state, rng = start_of(replay), np.random.Generator(np.random.Philox(1))
    for number in (1, 2):
        state = replay.local_round(state, number, 1, rng.standard_normal(replay.slopes_shape))
    found: Any = np.show_config(mode="dicts")
    return len(found["SIMD Extensions"].get("found", [])), replay.digest(state).hex()
