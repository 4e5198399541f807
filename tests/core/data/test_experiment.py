"""What the run spec loads, how it is limited and divided, and what importing the package costs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heron_core.data import BatchOrder, Source, client_share, load_experiment, share_sizes
from heron_core.errors import DataError
from heron_core.spec.data import DataSpec

needs_digits = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")


def content(source: Source) -> set[bytes]:
    (x,), labels = source.batch(np.arange(len(source)))
    return {sample.tobytes() + bytes([label]) for sample, label in zip(x, labels, strict=True)}


@needs_digits
@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards"])
def test_the_clients_shares_are_the_training_half(partition: str) -> None:
    spec = DataSpec.model_validate({"partition": partition})
    experiment = load_experiment(spec, 0, None)
    shares = [client_share(experiment, spec, 0, rank, 3) for rank in range(3)]
    assert sum(len(share) for share in shares) == len(experiment.train) == 1437
    assert set().union(*map(content, shares)) == content(experiment.train)


@needs_digits
def test_a_share_comes_again_and_differs_from_the_others() -> None:
    spec = DataSpec()
    shares = [client_share(load_experiment(spec, 4, None), spec, 4, rank, 5) for rank in (2, 2, 3)]
    assert content(shares[0]) == content(shares[1]) != content(shares[2])


@needs_digits
def test_limits_take_the_first_of_a_seeded_permutation() -> None:
    small, large = (load_experiment(DataSpec(train_limit=n, test_limit=n), 1, None) for n in (50, 90))
    for half in ("train", "test"):
        few, many = getattr(small, half), getattr(large, half)
        assert (len(few), len(many)) == (50, 90) and content(few) < content(many)
    other = load_experiment(DataSpec(train_limit=50), 2, None)
    assert content(other.train) != content(small.train) and len(other.test) == 360
    assert len(np.unique(small.train.labels)) == 10


@needs_digits
def test_a_limit_above_the_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.test_limit = 361, but there are 360 samples"):
        load_experiment(DataSpec(test_limit=361), 0, None)


@needs_digits
def test_a_rank_beyond_the_clients_is_refused() -> None:
    experiment = load_experiment(DataSpec(), 0, None)
    with pytest.raises(DataError, match="rank must be 0 to 2, got 3"):
        client_share(experiment, DataSpec(), 0, 3, 3)


@needs_digits
def test_a_share_can_be_walked_in_batches() -> None:
    spec = DataSpec()
    share = client_share(load_experiment(spec, 0, None), spec, 0, 1, 3)
    (x,), labels = share.batch(BatchOrder(0, 1, len(share), 32).at(100))
    assert (x.shape, labels.shape) == ((32, 1, 8, 8), (32,))


def test_data_of_the_clients_own_is_no_experiment_data() -> None:
    with pytest.raises(DataError, match="each client's own file names its data"):
        load_experiment(DataSpec(source="client"), 0, None)


def test_cifar10_from_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data folder at .*absent; set data\.folder"):
        load_experiment(DataSpec(source="cifar10"), 0, tmp_path / "absent")


HEAVY = "{'torch', 'sklearn', 'scipy', 'PIL', 'pydantic', 'lzma'}"


def loaded_after(code: str) -> str:
    script = f"{code}\nimport sys; print(sorted({HEAVY} & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_after("import heron_core.data") == "[]"


@needs_digits
def test_loading_the_digits_imports_neither_torch_nor_scikit_learn() -> None:
    code = (
        "from heron_core.data import *; from heron_core.spec.run_spec import DataSpec\n"
        "e = load_experiment(DataSpec(), 0, None); client_share(e, DataSpec(), 0, 0, 3)"
    )
    assert loaded_after(code) in ("['pydantic']", "['lzma', 'pydantic']")


@needs_digits
def test_share_sizes_are_the_lengths_of_the_clients_shares() -> None:
    spec = DataSpec(source="digits", partition="dirichlet")
    experiment = load_experiment(spec, 3)
    sizes = share_sizes(experiment, spec, 3, 4)
    assert sizes == [len(client_share(experiment, spec, 3, rank, 4)) for rank in range(4)]


@needs_digits
def test_validation_sets_training_samples_apart_and_leaves_the_test_half_out_of_sight() -> None:
    spec = DataSpec(train_limit=400, validation=0.25)
    experiment, whole = load_experiment(spec, 3), load_experiment(DataSpec(train_limit=400), 3)
    assert (len(experiment.train), len(experiment.test)) == (300, 100)
    assert content(experiment.train) | content(experiment.test) == content(whole.train)
    assert not content(experiment.test) & content(whole.test)
    assert sum(share_sizes(experiment, spec, 3, 4)) == 300, "clients are dealt the rest"
    assert content(load_experiment(spec, 3).test) == content(experiment.test)
    assert content(load_experiment(spec, 4).test) != content(experiment.test)


@needs_digits
def test_a_validation_share_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.validation = 0\.9 of 3 training samples leaves none"):
        load_experiment(DataSpec(train_limit=3, validation=0.9), 0)


def test_two_ranges_of_the_training_samples_share_none_and_are_all() -> None:
    whole = load_experiment(DataSpec(), 0).train
    parts = [load_experiment(DataSpec(train_range=r), seed).train for r, seed in (((0, 500), 1), ((500, 1437), 2))]
    assert [len(part) for part in parts] == [500, 937]
    both = np.concatenate([part.batch(np.arange(len(part)))[0][0] for part in parts])
    assert np.array_equal(both, whole.batch(np.arange(len(whole)))[0][0])


@pytest.mark.parametrize("wrong", [(500, 500), (0, 1438), (5,)])
def test_a_range_outside_of_the_data_is_refused_with_its_size(wrong: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"must lie in 0 to 1437 and hold a sample"):
        load_experiment(DataSpec(train_range=wrong), 0)
