"""The learning rate of each step of a run."""

from __future__ import annotations

from typing import Any

import pytest

from heron_core.spec.optimizer import OptimizerSpec, learning_rate, schedule_text


def rates(steps: int, **settings: Any) -> list[float]:
    spec = OptimizerSpec(lr=0.5, **settings)
    return [learning_rate(spec, step, steps) for step in range(steps)]


def test_a_constant_rate_is_the_setting_itself_to_the_last_bit() -> None:
    assert rates(5) == [0.5] * 5


def test_a_linear_one_loses_nine_tenths_over_the_whole_run() -> None:
    assert rates(10, schedule="linear") == pytest.approx([0.5 * (1 - 0.9 * t / 10) for t in range(10)], rel=1e-15)


def test_a_cosine_is_at_the_middle_between_both_ends_half_way() -> None:
    found = rates(8, schedule="cosine", final=0.2)
    assert found[0] == 0.5 and found[4] == pytest.approx(0.5 * 0.6)
    assert found == sorted(found, reverse=True)
    assert found[0] - found[1] < found[3] - found[4], "it comes down slowly at first"


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_warm_up_rises_to_the_rate_and_the_schedule_is_over_the_steps_that_are_left(schedule: str) -> None:
    found = rates(7, schedule=schedule, warm_up=3)
    assert found[:3] == pytest.approx([0.125, 0.25, 0.375])
    assert found[3:] == rates(4, schedule=schedule)


def test_a_schedule_down_to_nothing_never_gets_there() -> None:
    assert all(rate > 0 for rate in rates(6, schedule="linear", final=0.0))


def test_it_is_said_in_words() -> None:
    assert schedule_text(OptimizerSpec(), "local steps") == "0.001"
    spec = OptimizerSpec(lr=0.01, schedule="cosine", warm_up=20)
    assert schedule_text(spec, "uploads") == "cosine from 0.01 to 0.001, after a warm-up of 20 uploads"
