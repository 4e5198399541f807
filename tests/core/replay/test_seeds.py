"""The replay by itself: its arithmetic on other machines, its average, and what it refuses to replay."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from core.replay.replayed import replay_of, start_of, two_rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from heron_core.errors import TensorError
from heron_core.replay.averaging import running_average
from heron_core.replay.bundle import COUNTS, RANKS, WEIGHTS, Averaged, Seeds, read
from heron_core.replay.seeds import SLOPES
from heron_server.aggregation.mean import average

SAY_TWO_ROUNDS = "from core.replay.replayed import two_rounds; print(*two_rounds())"


def test_vector_widths_and_thread_counts_change_no_bit() -> None:
    here, digest = two_rounds()
    wide = [name for name in np.show_config(mode="dicts")["SIMD Extensions"]["found"] if name]
    found = {here: digest}
    for features, threads in ((" ".join(wide), "1"), (" ".join(wide[1:]), "4")):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": features, "OMP_NUM_THREADS": threads,
                       "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
        done = subprocess.run([sys.executable, "-c", SAY_TWO_ROUNDS], env=environment, capture_output=True, text=True,
                              check=True)  # fmt: skip
        width, digest = done.stdout.split()
        found[int(width)] = digest
    assert len(found) == len({"", " ".join(wide), " ".join(wide[1:])}), "each with other instructions"
    assert len(set(found.values())) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_running_average_is_the_fed_servers_bit_for_bit(clients: int, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    shares = rng.random(clients)
    weights = (shares / shares.sum()).tolist()
    states = [{"a": rng.standard_normal((3, 2), np.float32) * 10.0 ** rng.integers(-9, 9), "b": np.float32([-0.0]),
               "steps": np.asarray(rng.integers(9))} for _ in range(clients)]  # fmt: skip
    for state in states:
        state["a"] = state["a"].astype(np.float32)
    found, wanted = running_average(zip(states, weights, strict=True)), average(states, weights)
    assert found.keys() == wanted.keys()
    assert all(found[n].tobytes() == wanted[n].tobytes() and found[n].dtype == wanted[n].dtype for n in wanted)


def test_no_slopes_that_are_let_through_make_a_number_overflow() -> None:
    for method in ({"moments": "averaged"}, {"optimizer": {"name": "sgd", "lr": 10.0, "momentum": 0.99}},
                   {"proximal": 0.5, "optimizer": {"name": "sgd", "lr": 1.0}}):  # fmt: skip
        replay = replay_of(**method)
        state = start_of(replay)
        for number in range(1, 5):
            slopes = np.full(replay.slopes_shape, replay.most_slope)
            replay.check_slopes(slopes, "here")
            state = {**state, **replay.local_round(state, number, 0, slopes)}
        assert all(np.isfinite(state[name]).all() for name in replay.names)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300])
def test_slopes_of_a_hostile_client_are_refused(value: float) -> None:
    replay = replay_of()
    slopes = np.zeros(replay.slopes_shape)
    slopes[3, 0] = value
    with pytest.raises(TensorError, match=r"client 'x': tensor seeds\.slopes must hold slopes of at most"):
        replay.check_slopes(slopes, "client 'x'")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (RANKS, np.array([1, 1, 0], np.int32), "must rise from 0"),
        (RANKS, np.array([-1, 1, 0], np.int32), "must rise from 0"),
        (COUNTS, np.array([1, 1], np.int32), "must divide 3 clients' slopes into at most 2 rounds"),
        (COUNTS, np.array([3, 0], np.int32), "must divide"), (COUNTS, np.array([1, 1, 1], np.int32), "must divide"),
        (WEIGHTS, np.array([0.5, 0.6, 1.0]), "must be 0 or more and add up to 1"),
        (WEIGHTS, np.array([-1.0, 2.0, 1.0]), "must be 0 or more"), (SLOPES, np.full((3, 5, 1), 1e300), "at most"),
    ],
)  # fmt: skip
def test_what_a_server_says_of_everybody_is_checked(name: str, values: Any, words: str) -> None:
    replay = replay_of()
    two = Averaged({0: 0.5, 3: 0.5}, dict.fromkeys((0, 3), np.ones(replay.slopes_shape)))
    one = Averaged({0: 1.0}, {0: np.zeros(replay.slopes_shape)})
    sound = Seeds(b"a" * 16, b"b" * 16, (two, one)).tensors(replay)
    assert [each.weights for each in read(sound, replay, 2).rounds] == [{0: 0.5, 3: 0.5}, {0: 1.0}]
    with pytest.raises(TensorError, match=words):
        read({**sound, name: values}, replay, 2)
