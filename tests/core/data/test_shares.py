from __future__ import annotations

import numpy as np
import pytest

from heron_core import data
from heron_core.data import experiment
from heron_core.errors import DataError
from heron_core.spec.data import DataSpec

SPEC = DataSpec(partition="dirichlet")


def test_shares_are_what_each_client_would_load_and_deal_by_itself() -> None:
    shares, loaded = data.Shares(), data.load_experiment(SPEC, 3)
    for rank in range(4):
        mine, alone = shares.of(SPEC, 3, None, rank, 4), data.client_share(loaded, SPEC, 3, rank, 4)
        rows = np.arange(len(alone))
        assert len(mine) == len(alone)
        ((a,), y), ((b,), z) = mine.batch(rows), alone.batch(rows)
        assert np.array_equal(a, b) and np.array_equal(y, z)


def test_many_clients_load_their_experiment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = experiment.load_experiment
    monkeypatch.setattr(experiment, "load_experiment", lambda *args, **named: loads.append(1) or load(*args, **named))
    shares = data.Shares()
    for rank in range(8):
        shares.of(SPEC, 0, None, rank, 8)
    assert len(loads) == 1
    shares.of(SPEC, 1, None, 0, 8)
    assert len(loads) == 2, "another seed deals other shares"


def test_a_rank_that_the_data_has_no_part_for_is_refused() -> None:
    with pytest.raises(DataError, match="rank must be 0 to 3, got 4; the data has 4 parts"):
        data.Shares().of(SPEC, 0, None, 4, 4)
