"""When a run is behind its control, by the rule that is stated."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import pytest
from server.made_records import judged, round_record

from heron_server.metrics.behind import behind
from heron_server.metrics.figures import RoundRecord


def history(values: Iterable[float | None], samples: int = 1000) -> list[RoundRecord]:
    return [round_record(number, value, samples=samples) for number, value in enumerate(values, 1)]


def test_the_first_quarter_of_the_rounds_says_nothing_and_then_five_do() -> None:
    own, control = history([0.6] * 20), history([0.8] * 20)
    first = next(n for n in range(1, 21) if behind(own[:n], control, 20))
    assert first == 20 // 4 + 5
    found = behind(own[:first], control, 20)
    assert found is not None and (found.round, found.name, found.is_share) == (10, "accuracy", True)
    assert (found.own, found.control) == (pytest.approx(0.6), pytest.approx(0.8))
    assert found.noise == pytest.approx(2 * sqrt((0.6 * 0.4 + 0.8 * 0.2) / 1000))


@pytest.mark.parametrize(("samples", "is_behind"), [(100, False), (10_000, True)])
def test_what_few_samples_or_unsteady_rounds_make_is_noise(samples: int, is_behind: bool) -> None:
    own, control = history([0.70] * 12, samples), history([0.74] * 12, samples)
    assert (behind(own, control, 12) is not None) == is_behind
    unsteady = history([0.60, 0.80] * 6, samples)
    assert behind(unsteady, control, 12) is None


def test_only_rounds_that_both_have_done_and_measured_are_compared() -> None:
    own, control = history([0.6] * 12), history([0.8] * 12)
    assert behind(own, control[:7], 12) is None, "four rounds after the first three"
    found = behind(own, control[:8], 12)
    assert found is not None and found.round == 8
    assert behind(own[6:], control[:8], 12) is None, "a resumed run has not heard of its earlier rounds"
    assert behind(history([None] * 12), control, 12) is None
    assert behind(history([float("nan")] * 12), control, 12) is None
    assert behind(control, own, 12) is None


def test_where_not_each_round_is_evaluated_those_that_are_get_compared() -> None:
    def every_third(value: float) -> list[RoundRecord]:
        return history(None if number % 3 else value for number in range(1, 31))

    own, control = every_third(0.6), every_third(0.8)
    first = next(n for n in range(1, 31) if behind(own[:n], control, 30))
    assert first == 21, "the fifth evaluation after the first quarter of 30 rounds"
    found = behind(own[:22], control, 30)
    assert found is not None and (found.round, found.control) == (21, pytest.approx(0.8))


def test_a_figure_that_is_lower_where_it_is_better_has_the_noise_of_its_rounds() -> None:
    def losses(values: Iterable[float]) -> list[RoundRecord]:
        each = enumerate(values, 1)
        return [round_record(n, None, metric=judged("mse", v, higher=False, share=False)) for n, v in each]

    own, better = losses([3.0, 3.1] * 6), losses([2.0] * 12)
    assert behind(own, better, 12) is not None
    assert behind(better, own, 12) is None
    assert behind(losses([1.0, 3.2] * 6), better, 12) is None
