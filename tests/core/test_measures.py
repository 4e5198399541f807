"""Metrics from sums: the same value whatever the batches were."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heron_core.measures import Metric, added, pair

SHARE = Metric("accuracy", higher_is_better=True, is_share=True)


def test_a_ratio_over_batches_is_the_ratio_over_all() -> None:
    total = added(added({}, {"accuracy": pair(3, 4)}), {"accuracy": pair(1, 8)})
    assert SHARE.value(*total["accuracy"]) == 4 / 12


def test_a_mean_over_classes_leaves_out_those_that_never_came() -> None:
    once = (np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 4.0]))
    assert SHARE.value(*added({"x": once}, {"x": once})["x"]) == (2 / 4 + 0 / 8) / 2


def test_what_was_never_counted_has_no_value() -> None:
    assert SHARE.value(*pair(0, 0)) is None
    assert SHARE.value(np.zeros(3), np.zeros(3)) is None


def test_perplexity_is_the_exponential_of_the_ratio_and_may_overflow_to_infinity() -> None:
    perplexity = Metric("perplexity", higher_is_better=False, is_exponential=True)
    assert perplexity.value(*pair(6.0, 3.0)) == pytest.approx(math.exp(2.0))
    assert perplexity.value(*pair(1e6, 1.0)) == math.inf


def test_metrics_of_other_names_are_carried_along() -> None:
    both = added({"a": pair(1, 2)}, {"a": pair(1, 2), "b": pair(3, 4)})
    assert {name: float(n) for name, (n, _) in both.items()} == {"a": 2.0, "b": 3.0}
