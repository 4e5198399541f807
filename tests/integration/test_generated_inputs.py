"""Whatever a stranger stores comes out as its clean twin, or is refused by an error that names the culprit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from integration.generated_datasets import dataset_cases
from integration.generated_folders import folder_cases
from integration.generated_inputs import Case, World
from integration.generated_npz import drawn_npz, npz_cases
from integration.generated_pictures import picture_cases
from integration.generated_tables import TABLE_RUN, clean_table, table_cases

CASES = [*npz_cases(), *picture_cases(), *folder_cases(), *dataset_cases()]
TABLES = [*table_cases()]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_made_durable() -> Iterator[None]:
    """Hundreds of runs that nobody resumes: waiting for the disk would be half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def table_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tables"), clean_table, TABLE_RUN)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stranger_s_input_ends_as_its_clean_twin_or_is_refused(world: World, case: Case, tmp_path: Path) -> None:
    problem = world.problem(case, tmp_path)
    assert problem is None, problem


@pytest.mark.parametrize("case", TABLES, ids=str)
def test_a_stranger_s_table_does_too(table_world: World, case: Case, tmp_path: Path) -> None:
    problem = table_world.problem(case, tmp_path)
    assert problem is None, problem


def test_there_are_as_many_cases_as_promised() -> None:
    names = [case.name for case in (*CASES, *TABLES)]
    assert len(names) >= 200 and len(set(names)) == len(names)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=drawn_npz())
def test_arrays_that_are_odd_in_several_ways_are_too(
    world: World, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    problem = world.problem(case, tmp_path_factory.mktemp("drawn"))
    assert problem is None, f"{case}: {problem}"
