"""Whatever a user's code raises is one line that names the place in it, with the exit code of data and models."""

from __future__ import annotations

import pytest

from heron_core.errors import DataError, HeronError, ModelError, meaning_of
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate


def ran(model: str = "", data: str = "fine", method: str = "heron") -> HeronError:
    """The error that ended the run."""
    name = f"integration.faulty_code:{model}" if model else "mlp"
    spec = RunSpec.model_validate(
        {
            "rounds": 1, "model": {"name": name} if model else {"name": name, "input_shape": [5], "classes": 3},
            "data": {"source": "client"}, "method": {"name": method, "local_steps": 2, "batch_size": 4},
            "federation": {"clients": 1},
        }
    )  # fmt: skip
    client = {"allow_model_code": [name], "data": {"source": f"integration.faulty_code:{data}"}}
    with pytest.raises(HeronError) as caught:
        simulate(spec, settings=ServerSettings(device="cpu"), client_settings=client)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("model", "method", "says"),
    [
        ("front", "heron", r"client-0: the model failed in its own code: KeyError: .*two lines.* in forward\); mend"),
        ("front", "sflv2", r"client-0: the model failed in its own code: KeyError: .* in forward\); mend"),
        ("head", "cse_fsl", r"client-0: the model failed in its own code: KeyError: .* in forward\); mend"),
        ("back", "heron", r"^the model failed in its own code: KeyError: .* in forward\); mend"),
        ("loss", "heron", r"the model failed in its own code: ZeroDivisionError \(faulty_code\.py:\d+ in losses\)"),
        ("leaves", "heron", r"failed with model\.options = \{\}: SystemExit: 1 \(faulty_code\.py:\d+ in leaves\)"),
        ("part", "heron", r"the factory of back failed in its own code: KeyError: 'width' \(faulty_code\.py:\d+ in "),
    ],
)
def test_a_model(model: str, method: str, says: str) -> None:
    error = ran(model, method=method)
    assert isinstance(error, ModelError) and meaning_of(error).exit_code == 4
    with pytest.raises(ModelError, match=says):
        raise error


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("unreadable", r"client-0: Samples\[7\] failed: OSError: the disk is gone \(faulty_code\.py:\d+ in read\)"),
        ("source", r"client-0: Source: batch failed: KeyError: .* \(faulty_code\.py:\d+ in batch\); mend it there"),
    ],
)
def test_data(data: str, says: str) -> None:
    error = ran(data=data)
    assert isinstance(error, DataError) and meaning_of(error).exit_code == 4
    with pytest.raises(DataError, match=says):
        raise error
