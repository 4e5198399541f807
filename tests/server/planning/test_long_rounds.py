"""Long rounds where the clients' classes differ are a warning, whose advice can be followed."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import pytest
from plans import digits, facts_of

from heron_core.data import load_experiment
from heron_core.data.experiment import share_counts
from heron_core.spec.run_spec import DataSpec
from heron_server.config import ServerSettings
from heron_server.planning.checks import check_run
from heron_server.planning.traffic import transfer_of
from heron_server.planning.validate import describe
from heron_server.planning.warnings.long_rounds import FAR, LongRounds, changed_by, class_distance, long_rounds

SKEWED = {"partition": "dirichlet", "alpha": 0.3}
UPLOAD = transfer_of(digits(), facts_of(digits())).upload
SAID = "the clients' classes differ"


def checked(settings: dict[str, Any] | None = None, **method: Any) -> LongRounds:
    spec = digits(data=SKEWED, method={"local_steps": 30, **method})
    found = check_run(spec, ServerSettings(device="cpu", **(settings or {}))).long_rounds
    assert found is not None and found.warning(found.counts).startswith(SAID)
    return found


def test_the_distance_is_the_mean_total_variation_and_what_of_it_is_chance() -> None:
    far, chance = class_distance([[10, 0], [0, 30], [0, 0]])
    assert far == pytest.approx((0.75 + 0.25) / 2)
    each = [sqrt(2 * 0.25 * 0.75 / (pi * n)) for n in (10, 30)]
    assert chance == pytest.approx(sum(each) / 2)
    assert class_distance([[5, 5], [50, 50]])[0] == 0
    assert class_distance([[5, 5]]) == class_distance([]) == class_distance([[], []]) == (0, 0)


@pytest.mark.parametrize(("clients", "partition", "alpha", "differ"), [
    (5, "iid", 1.0, False), (100, "iid", 1.0, False), (10, "dirichlet", 10.0, False),
    (4, "dirichlet", 0.4, True), (10, "dirichlet", 0.3, True), (5, "shards", 1.0, True),
])  # fmt: skip
def test_dealing_at_random_is_no_difference_and_dirichlet_is(
    clients: int, partition: str, alpha: float, differ: bool
) -> None:
    data = DataSpec.model_validate({"partition": partition, "alpha": alpha})
    far, chance = class_distance(share_counts(load_experiment(data, 0), data, 0, clients, 10))
    assert (far - chance > FAR) == differ


def test_both_together_are_said_with_both_figures() -> None:
    text, found = describe(digits(data=SKEWED, method={"local_steps": 30}), ServerSettings(device="cpu")), checked()
    far, chance = class_distance(found.counts)
    assert f"{SAID}: their class shares are {far:.2f} from those of all together" in text
    assert f"{chance:.2f} if dealt at random" in text
    assert (
        'set method.local_steps = 4, rounds = 75, method.moments = "averaged", method.mixing = true, '
        'averaged_back.decay = 0.99, method.optimizer.schedule = "linear"'
    ) in text


def test_classes_alike_short_rounds_or_clients_that_never_train_are_no_warning() -> None:
    assert SAID not in describe(digits(method={"local_steps": 30}), ServerSettings(device="cpu"))
    for method in ({"local_steps": 10}, {"local_steps": 30, "name": "frozen"}):
        assert long_rounds(digits(data=SKEWED, method=method), lambda _: True) is None


@pytest.mark.parametrize("method", [
    {}, {"name": "cse_fsl", "upload_period": 15}, {"name": "fsl_sage", "upload_period": 3}, {"name": "sflv1"},
    {"name": "sflv2", "moments": "averaged"}, {"name": "fedavg", "optimizer": {"name": "sgd"}},
])  # fmt: skip
def test_the_advice_followed_is_a_run_of_as_many_local_steps_that_is_not_warned_again(method: dict[str, Any]) -> None:
    followed = changed_by(digits(data=SKEWED, method=method), checked(**method).advice)
    assert check_run(followed, ServerSettings(device="cpu")).long_rounds is None
    assert followed.rounds * followed.method.local_steps >= 10 * 30


@pytest.mark.parametrize(("settings", "method"), [
    ({"order": "arrival"}, {}), ({"byte_budget": 3 * UPLOAD}, {}), ({}, {"mixing": True}), ({}, {"name": "sflv1"}),
])  # fmt: skip
def test_what_would_be_refused_or_is_set_is_not_advised(settings: dict[str, Any], method: dict[str, Any]) -> None:
    advice = checked(settings, **method).advice
    assert not any("mixing" in setting for setting in advice)
    assert 'method.optimizer.schedule = "linear"' in advice
