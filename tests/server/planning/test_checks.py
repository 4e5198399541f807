"""What is refused before a run, by `validate` and by a server's start alike."""

from __future__ import annotations

from typing import Any

import pytest
from plans import digits

from heron_core.errors import ConfigError, DataError, ModelError
from heron_server.config import ServerSettings
from heron_server.planning.validate import describe
from heron_server.run.prepare import prepare


@pytest.mark.parametrize(
    ("tables", "settings", "error", "words"),
    [
        ({"method": {"batch_size": 480}}, {}, ConfigError, "batch_size = 480 samples, got 479 for rank 0"),
        ({}, {"byte_budget": 1000}, ConfigError, "byte_budget must hold two whole uploads"),
        ({"method": {"mixing": True}}, {"byte_budget": 40_000}, ConfigError, "must hold 4 whole uploads"),
        ({"method": {"mixing": True}}, {"order": "arrival"}, ConfigError, "takes them as they come; remove one"),
        ({"method": {"mixing": True, "name": "sflv1"}}, {}, ConfigError, "sflv1 keeps one back for each"),
        ({"method": {"mixing": True, "name": "fedavg"}}, {}, ConfigError, "fedavg has no uploads"),
        ({"method": {"local_steps": 4, "upload_period": 5}}, {}, ConfigError, "the server would never train"),
        ({"model": {"name": "nonsense"}}, {}, ModelError, "nonsense"),
        ({"model": {"cut": "nowhere"}}, {}, ModelError, "nowhere"),
        ({"model": {"name": "resnet18"}}, {}, DataError, "3, 32, 32"),
    ],
)
def test_validate_refuses_what_prepare_refuses_with_the_same_words(
    tables: dict[str, Any], settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    spec, server = digits(**tables), ServerSettings(device="cpu", **settings)
    with pytest.raises(error, match=words) as refused:
        describe(spec, server)
    with pytest.raises(error) as also:
        prepare(spec, server)
    assert str(also.value) == str(refused.value)
