"""Samples that are used again: what a later server finds of them, and what it does not believe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_server.storage.kept_samples import HEAD, KeptSamples, place_bytes

TENSORS = (TensorSpec("hidden", (2, 3)), TensorSpec("labels", (), "int64"))
FIRST, SECOND = b"1" * 16, b"2" * 16
PLACE = place_bytes(TENSORS)


def kept(folder: Path, budget: int = 1 << 20) -> KeptSamples:
    return KeptSamples(folder / "kept", TENSORS, budget)


def rows(*numbers: int) -> list[Array]:
    """Of each sample: its number in all places."""
    values = np.array(numbers)
    return [np.broadcast_to(values[:, None, None], (len(values), 2, 3)).astype(np.float32), values.astype(np.int64)]


def use(store: KeptSamples, *numbers: int, new: tuple[int, ...] = (), rank: int = 1, numbering: bytes = FIRST) -> None:
    """Sends the `new` ones and checks that all come out."""
    found = [np.empty_like(array) for array in rows(*numbers)]
    store.whole(rank, numbering, 9, np.array(numbers, dtype=np.int32), rows(*new), found)
    assert all(np.array_equal(a, b) for a, b in zip(found, rows(*numbers), strict=True))


def held(store: KeptSamples, rank: int = 1, numbering: bytes = FIRST) -> list[int]:
    return np.flatnonzero(store.held(rank, numbering, 9)).tolist()


def test_samples_are_used_again_also_by_the_server_that_comes_after_a_kill(tmp_path: Path) -> None:
    store = kept(tmp_path)
    assert held(store) == []
    use(store, 4, 7, new=(4, 7))
    use(store, 7, 2, 4, new=(2,))
    again = kept(tmp_path)
    assert held(again) == [2, 4, 7] and held(again, rank=2) == held(again, numbering=SECOND) == []
    use(again, 2, 4, 7)


@pytest.mark.parametrize("cut", [HEAD.size + 7 * PLACE + 5, HEAD.size + 8 * PLACE - 1])
def test_a_place_that_a_power_cut_left_half_written_is_not_there(cut: int, tmp_path: Path) -> None:
    use(kept(tmp_path), 4, 7, new=(4, 7))
    path = tmp_path / "kept" / "1.samples"
    path.write_bytes(path.read_bytes()[:cut])
    assert held(kept(tmp_path)) == [4]
    path.write_bytes(path.read_bytes()[: HEAD.size + 4 * PLACE] + bytes([1]) * 2 * PLACE)
    assert held(kept(tmp_path)) == []
    path.write_bytes(b"something else")
    assert held(kept(tmp_path)) == []


def test_another_numbering_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    store = kept(tmp_path)
    use(store, 4, 7, new=(4, 7))
    use(store, 4, new=(4,), numbering=SECOND)
    assert held(store) == [] and held(store, numbering=SECOND) == [4]
    assert held(kept(tmp_path), numbering=SECOND) == [4]


def test_a_sample_whose_upload_could_not_be_used_costs_those_that_refer_to_it(tmp_path: Path) -> None:
    store = kept(tmp_path)
    use(store, 4, new=(4,))
    with pytest.raises(TensorError, match="2 of its samples are not kept, 0 came; an earlier upload failed"):
        use(store, 4, 5, 6)
    assert held(store) == [4]


def test_no_more_is_promised_than_the_budget_holds_for_all_samples_of_all_clients(tmp_path: Path) -> None:
    store = kept(tmp_path, budget=2 * (HEAD.size + 9 * PLACE))
    held(store, rank=1)
    held(store, rank=2)
    held(store, rank=1, numbering=SECOND)
    with pytest.raises(TensorError, match=r"client rank 0: its 9 samples need .*server.reuse_budget = .* raise it"):
        held(store, rank=0)
