"""What a client did is what its slopes say; and what it makes of everybody's, or does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
from client.compute.made import backend_of, same
from hypothesis import given, settings
from hypothesis import strategies as st

from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.local_round import LocalRound
from heron_client.compute.replica import Replica, replay_of
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.errors import TensorError
from heron_core.replay.bundle import Averaged, Seeds
from heron_core.replay.seeds import SLOPES
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.codec import manifest_of


def spec_of(**method: Any) -> RunSpec:
    zo = {"mu": 1e-2, "distribution": "rademacher", **method.pop("zo", {})}
    joint = {"auxiliary_update": "zo", "moments": "averaged"}
    return tiny.spec(method={**joint, **method, "zo": zo}, codec={"client_state": "seeds"})


class Client:
    """One client's state, its local rounds, and its replica."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec, self.backend = spec, backend_of(spec, tiny.mlp())
        self.replay = replay_of(spec, self.backend)
        assert self.replay is not None
        self.state = ClientState(self.backend, spec.method, self.replay)
        self.replica = Replica(self.state.expected, self.replay)
        moments = {n: np.zeros(shape, dtype) for n, dtype, shape in self.state.expected if n.startswith("moments.")}
        self.first: dict[str, Array] = {**self.backend.state(), **moments}

    def round(self, start: dict[str, Array], number: int, rank: int) -> tuple[Array, dict[str, Array]]:
        """Its slopes, and what it has at the end."""
        self.state.load(start)
        source = tiny.source(self.backend.modules.model)
        order = BatchOrder(self.spec.seed, rank, len(source), self.spec.method.batch_size)
        batches = Batches(source, order, self.spec.method, number, rank, self.spec.rounds)
        local = LocalRound(self.spec.method, self.spec.seed, self.state, batches)
        for _ in local.uploads():
            pass
        moments = local._stepper.moments() if self.spec.method.moments == "averaged" else {}
        return local.update()[SLOPES], {**self.backend.state(), **moments}


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["adam", "sgd"]), st.integers(1, 3), st.sampled_from(["forward", "central"]), st.integers(0, 5),
    st.integers(1, 2), st.sampled_from(["constant", "linear", "cosine"]), st.sampled_from([0.0, 0.3]),
    st.sampled_from([("batch", 0), ("batch", 2), ("micro_batch", 2)]), st.booleans(),
)  # fmt: skip
def test_the_replay_of_its_slopes_is_what_a_client_has_bit_for_bit(
    rule: str, q: int, difference: str, rank: int, number: int, schedule: str, proximal: float, scope: Any,
    divided: bool,
) -> None:  # fmt: skip
    optimizer = {"name": rule, "lr": 0.03, "schedule": schedule, **({"momentum": 0.9} if rule == "sgd" else {})}
    zo = {"num_directions": q, "difference": difference, "scope": scope[0], "normalise": divided}
    client = Client(spec_of(optimizer=optimizer, proximal=proximal, micro_batch=scope[1], zo=zo))
    slopes, has = client.round(client.first, number, rank)
    assert client.replay is not None
    assert same(client.replay.local_round(client.first, number, rank, slopes), has)


@pytest.fixture
def client() -> Client:
    made = Client(spec_of())
    assert made.replica.take(made.first, 0) is not None
    return made


def everybody(client: Client) -> tuple[dict[str, Array], dict[str, Array]]:
    """Slopes of two clients as they come down, and the version that they lead to."""
    slopes = {rank: client.round(client.first, 1, rank)[0] for rank in (0, 1)}
    assert client.replay is not None
    rounds = (Averaged({0: 0.25, 1: 0.75}, slopes),)
    next_state = Seeds(b"", b"", rounds).replayed(client.replay, client.first, 1)
    base, result = (client.replay.digest(state) for state in (client.first, next_state))
    return Seeds(base, result, rounds).tensors(client.replay), next_state


class Enough(Exception):
    """Of a replay."""


def test_a_client_that_sat_out_a_round_replays_both_and_says_how_far_it_is(client: Client) -> None:
    first, middle = everybody(client)
    assert client.replay is not None
    slopes = {2: client.round(middle, 2, 2)[0]}
    wanted = Seeds(b"", b"", (Averaged({2: 1.0}, slopes),)).replayed(client.replay, middle, 2)
    one = {rank: first["seeds.slopes"][rank] for rank in (0, 1)}
    rounds = (Averaged({0: 0.25, 1: 0.75}, one), Averaged({2: 1.0}, slopes))
    bundle = Seeds(client.replica.digest, client.replay.digest(wanted), rounds).tensors(client.replay)
    client.replica.check(manifest_of(bundle))
    begun, done = client.replica.digest, list[str]()

    def enough() -> None:
        raise Enough

    with pytest.raises(Enough):
        client.replica.take(bundle, 2, enough)
    assert client.replica.digest == begun, "what it has stays"
    found = client.replica.take(bundle, 2, lambda: done.append("one"))
    assert found is not None and same(found, wanted) and len(done) == 3


def test_a_client_that_has_the_state_before_replays_everybody(client: Client) -> None:
    bundle, wanted = everybody(client)
    client.replica.check(manifest_of(bundle))
    found = client.replica.take(bundle, 1)
    assert found is not None and same(found, wanted) and client.replica.digest == bundle["seeds.result"].tobytes()


def test_a_client_that_has_this_very_version_replays_nobody(client: Client) -> None:
    assert client.replay is not None
    bundle = Seeds(client.replica.digest, client.replica.digest).tensors(client.replay)
    client.replica.check(manifest_of(bundle))
    found = client.replica.take(bundle, 7)
    assert found is not None and same(found, client.first)


@pytest.mark.parametrize("odd", ["seeds.base", "seeds.result"])
def test_slopes_that_begin_or_end_elsewhere_are_of_no_use(client: Client, odd: str) -> None:
    bundle, _ = everybody(client)
    assert client.replica.take({**bundle, odd: np.zeros(16, np.uint8)}, 1) is None


def test_nothing_is_allocated_for_more_slopes_than_weights_would_take(client: Client) -> None:
    bundle, _ = everybody(client)
    manifest = manifest_of(bundle)
    for meta in manifest.tensors[3:]:
        meta.shape[0] = 10**9
    with pytest.raises(TensorError, match="both sides must build the same model"):
        client.replica.check(manifest)
