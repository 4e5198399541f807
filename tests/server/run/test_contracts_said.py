"""What clients say of their stored values is bounded and checked before any of it is kept."""

from __future__ import annotations

import json

import pytest

from heron_core.arrays import TensorSpec
from heron_core.data.contract import of_pixels
from heron_core.errors import DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.run.joining.reading import read_facts

CONTRACT = of_pixels(TensorSpec("x", (1, 8, 8)), "npz", (0.5,), (0.5,))


def facts(contract: str) -> pb.DataFacts:
    return pb.DataFacts(run_id="run", samples=3, input_contract=contract)


def test_a_contract_is_read_as_it_was_written_and_may_be_absent() -> None:
    assert read_facts(facts(CONTRACT.model_dump_json(exclude_defaults=True)), 10).contract == CONTRACT
    assert read_facts(facts(""), 10).contract is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "input contract is not valid"),
        (json.dumps({"source": "npz", "inputs": []}), "input contract is not valid: inputs"),
        (CONTRACT.model_dump_json().replace("npz", "\\u001b[31m"), "not valid: source: .*control characters"),
        (" " * 20_000, "at most 16384 bytes, got 20000"),
    ],
)
def test_one_that_cannot_be_is_refused(wrong: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_facts(facts(wrong), 10)
