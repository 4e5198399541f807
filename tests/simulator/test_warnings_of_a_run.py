"""What a run warns of while it goes on is said once, as early as it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from server.heard import Heard

from heron_simulator.simulator import simulate

MLP = {"name": "mlp", "input_shape": [1, 8, 8], "classes": 3, "widths": [8, 6]}


def told(local_steps: int = 11, classes: tuple[int, int] = (0, 1), **tables: Any) -> list[str]:
    """Names of what was heard of rounds and warnings; own clients have one class each."""
    heard, rng = Heard(), np.random.default_rng(0)
    x = rng.normal(size=(20, 1, 8, 8)).astype(np.float32)
    data = {} if "data" in tables else {"data": [(x, np.full(20, label)) for label in classes]}
    model = {} if "data" in tables else {"model": MLP}
    simulate(
        {"rounds": 3, "federation": {"clients": 2}, **model, **tables,
         "method": {"name": "cse_fsl", "local_steps": local_steps, "batch_size": 4}},
        settings={"test_data": "none"}, observers=[heard], **data,
    )  # fmt: skip
    return [event[0] for event in heard.of("warning", "round_done")]


def test_own_clients_of_other_classes_are_warned_of_once_their_updates_say_so() -> None:
    assert told() == ["round_done", "warning", "round_done", "round_done"]


@pytest.mark.parametrize("short_or_alike", [{"local_steps": 10}, {"classes": (1, 1)}])
def test_short_rounds_or_clients_that_are_alike_are_not(short_or_alike: dict[str, Any]) -> None:
    assert told(**short_or_alike) == ["round_done"] * 3


def test_experiment_data_is_warned_of_before_anybody_joins() -> None:
    data = {"partition": "shards", "train_limit": 100, "test_limit": 10}
    assert told(data=data) == ["warning", "round_done", "round_done", "round_done"]
