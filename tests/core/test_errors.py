"""One error tree, one table from class to reason to status and exit code."""

from __future__ import annotations

import re
from collections import Counter

import grpc
import pytest

from heron_core import errors
from heron_core.errors import (
    BY_REASON,
    MEANINGS,
    HeronError,
    InputError,
    Internal,
    PeerError,
    TensorError,
    from_reason,
    meaning_of,
)

BASES = {HeronError, PeerError, InputError}
"""Never raised themselves."""


def tree(kind: type[HeronError]) -> set[type[HeronError]]:
    here = {kind} if kind.__module__ == errors.__name__ else set()
    return here.union(*(tree(child) for child in kind.__subclasses__()))


LEAVES = sorted(tree(HeronError) - BASES, key=lambda kind: kind.__name__)


def test_every_error_that_can_be_raised_has_its_row() -> None:
    assert set(MEANINGS) == set(LEAVES)


def test_reasons_are_unique_lower_case_words() -> None:
    assert [r for r, n in Counter(m.reason for m in MEANINGS.values()).items() if n > 1] == []
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", meaning.reason) for meaning in MEANINGS.values())
    assert re.fullmatch(r"[a-z0-9_.-]+", errors.REASON_KEY), "a metadata key of gRPC"


@pytest.mark.parametrize("kind", LEAVES)
def test_class_and_text_survive_the_way_over_the_reason(kind: type[HeronError]) -> None:
    back = from_reason(meaning_of(kind("expected 3, got 4")).reason, "expected 3, got 4")
    assert (type(back), str(back)) == (kind, "expected 3, got 4")


def test_an_unknown_reason_becomes_internal() -> None:
    assert type(from_reason("of_a_later_version", "x")) is Internal
    assert set(BY_REASON) == {meaning.reason for meaning in MEANINGS.values()}


def test_a_subclass_means_what_its_nearest_listed_class_means() -> None:
    class Special(TensorError): ...

    assert meaning_of(Special("x")) == MEANINGS[TensorError]


@pytest.mark.parametrize("kind", sorted(BASES, key=lambda kind: kind.__name__))
def test_a_bare_base_class_tells_a_peer_no_more_than_internal(kind: type[HeronError]) -> None:
    assert meaning_of(kind("x")) == MEANINGS[Internal]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_status_is_grpc_s(kind: type[HeronError]) -> None:
    assert MEANINGS[kind].status in grpc.StatusCode.__members__
    assert MEANINGS[kind].status != "OK"


EXIT_CODES = {
    "ConfigError": 2, "RunDirectoryBusy": 2,
    "Unreachable": 3, "VersionMismatch": 3, "NameTaken": 3, "JoinRefused": 3, "NotAdmitted": 3, "StaleTerm": 3,
    "UnknownSession": 3, "BadReply": 3, "Internal": 3, "Busy": 3,
    "TensorError": 4, "ServerTensorError": 4, "DataError": 4, "ModelError": 4, "CheckpointError": 4,
    "Interrupted": 5, "RunFailed": 6,
}  # fmt: skip


def test_exit_codes_are_the_documented_ones() -> None:
    assert {kind.__name__: meaning.exit_code for kind, meaning in MEANINGS.items()} == EXIT_CODES


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"((?:[│ ]   )*)(?:[├└]── )?([A-Z][A-Za-z]+)(?:  +\S|$)", line)
        if match is None or (match[0] == line and match[2] != "HeronError"):
            continue
        depth = len(match[1]) // 4 + ("── " in line)
        del parents[depth:]
        if parents:
            drawn[match[2]] = parents[-1]
        parents.append(match[2])
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in tree(HeronError) - {HeronError} if kind.__base__}
