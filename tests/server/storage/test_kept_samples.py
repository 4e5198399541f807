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
    sent, brought = np.isin(numbers, new), store.held(rank, numbering, 9)
    brought[list(new)] = 5
    brought[brought == 0] = 4  # by an upload that could not be used
    store.whole(rank, numbering, 9, np.array(numbers, np.int32), sent, brought[list(numbers)], rows(*new), found)
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
    with pytest.raises(TensorError, match="2 of its samples are not kept and did not come; an earlier upload failed"):
        use(store, 4, 5, 6)
    assert held(store) == [4]


def test_no_more_is_promised_than_the_budget_holds_for_all_samples_of_all_clients(tmp_path: Path) -> None:
    store = kept(tmp_path, budget=2 * (HEAD.size + 9 * PLACE))
    held(store, rank=1)
    held(store, rank=2)
    held(store, rank=1, numbering=SECOND)
    with pytest.raises(TensorError, match=r"client rank 0: its 9 samples need .*server.reuse_budget = .* raise it"):
        held(store, rank=0)


def in_round(store: KeptSamples, upload: int, sent: int, number: int = 4) -> float:
    """One sample by an upload, `sent` as its value, or kept where that is 0; what is trained on."""
    found, brought = [np.empty_like(array) for array in rows(number)], store.held(1, FIRST, 9)[[number]]
    new = rows(sent) if sent else [array[:0] for array in rows(0)]
    numbers, which = np.array([number], np.int32), np.array([bool(sent)])
    store.whole(1, FIRST, 9, numbers, which, np.array([upload], np.uint32) if sent else brought, new, found)
    return float(found[0].ravel()[0])


def versions(folder: Path) -> KeptSamples:
    return KeptSamples(folder / "kept", TENSORS, 1 << 20, count=2)


@pytest.mark.parametrize("killed", [False, True])
def test_a_round_that_is_repeated_begins_with_what_was_there_before_it(killed: bool, tmp_path: Path) -> None:
    store = versions(tmp_path)
    store.begin_round(0)
    assert in_round(store, 1, sent=5) == 5
    store.begin_round(2)
    assert in_round(store, 3, sent=0) == 5
    assert [in_round(store, 3, sent=6), in_round(store, 4, sent=7), in_round(store, 4, sent=0)] == [6, 7, 7]
    in_round(store, 4, sent=8, number=2)
    store = versions(tmp_path) if killed else store
    assert store.held(1, FIRST, 9)[[4, 2]].tolist() == [4, 4]
    store.begin_round(2)
    assert store.held(1, FIRST, 9)[[4, 2]].tolist() == [1, 0] and in_round(store, 3, sent=0) == 5
    assert versions(tmp_path).held(1, FIRST, 9)[[4, 2]].tolist() == [1, 0], "nor does a later server find it"
    store.begin_round(4)
    assert in_round(store, 5, sent=9) == 9


def test_what_an_upload_refers_to_must_be_what_the_upload_before_it_brought(tmp_path: Path) -> None:
    store = versions(tmp_path)
    store.begin_round(0)
    in_round(store, 1, sent=5)
    found, none = [np.empty_like(array) for array in rows(4)], [array[:0] for array in rows(0)]
    with pytest.raises(TensorError, match="1 of its samples are not kept and did not come"):  # upload 2 was NaN
        store.whole(1, FIRST, 9, np.array([4]), np.array([False]), np.array([2], np.uint32), none, found)
