"""Which version of a sample a round brings, and what it hides."""

from __future__ import annotations

import numpy as np

from heron_core.wire.versions import Versions


def put(versions: Versions, number: int, upload: int, before: int) -> None:
    versions.brought[versions.room(np.array([number]), before), number] = upload


def test_what_a_round_brings_hides_what_the_round_brought_and_nothing_of_before() -> None:
    versions = Versions(3)
    put(versions, 1, 2, before=0)
    put(versions, 1, 4, before=3)
    put(versions, 1, 5, before=3)
    assert versions.newest.tolist() == [0, 5, 0]
    versions.brought[versions.brought > 3] = 0
    assert versions.newest.tolist() == [0, 2, 0] and versions.brought[versions.where(np.array([1])), 1] == [2]


def test_of_one_version_the_newest_stays() -> None:
    versions = Versions(2, count=1)
    put(versions, 0, 1, before=0)
    put(versions, 0, 7, before=6)
    assert versions.newest.tolist() == [7, 0]
