"""What a peer says of its data is bounded before any of it is looked at."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from heron_core.errors import DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.run.joining.reading import read_facts

GOOD: dict[str, Any] = {"name": "x", "stored_dtype": "uint8", "shape": [3], "looked_at": 1, "least": [-1.0],
                        "most": [1.0], "mean": [0.0], "std": [0.5]}  # fmt: skip


def facts(inputs: list[dict[str, Any]] | None = None, **fields: Any) -> pb.DataFacts:
    made = [pb.InputFacts(**each) for each in ([GOOD] if inputs is None else inputs)]
    return pb.DataFacts(**{"samples": 5, "class_names": ["a", "b"], **fields}, inputs=made)


def test_what_an_honest_client_says_is_read_as_it_is() -> None:
    found = read_facts(facts(class_names=["a\u0308", "b"]), 2)
    assert found.class_names == ("\u00e4", "b") and found.samples == 5
    assert found.inputs[0].mean == (0.0,) and found.inputs[0].stored_dtype == "uint8"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"class_names": ["x"] * 1_000_000}, "the run tells 2 classes apart, .* has 1000000 class names"),
        ({"class_names": ["a" * 257]}, "a class name is 1 to 256 printable characters"),
        ({"class_names": ["a", "a"]}, "'a' is there twice"),
        ({"class_names": ["\x1b[2J"]}, "printable"),
        ({"samples": 0}, "samples must be 1 to"),
        ({"samples": 1 << 50}, "samples must be 1 to"),
        ({"inputs": [GOOD] * 17}, "at most 16 inputs"),
        *(
            ({"inputs": [{**GOOD, **odd}]}, says)
            for odd, says in [
                ({"mean": [nan]}, "must be finite"), ({"most": [inf]}, "must be finite"),
                ({"std": [-1.0]}, "std is 0 or more"),
                ({"least": [2.0]}, "least value is at most its greatest"), ({"mean": []}, "of the same channels"),
                ({"least": [], "most": [], "mean": [], "std": []}, "figures of 1 to 64 channels, got 0"),
                ({"least": [0.0] * 65}, "figures of 1 to 64 channels, got 65"), ({"shape": [1] * 9}, "at most 8 sizes"),
                ({"name": "x" * 65}, "name is at most 64 letters"), ({"stored_dtype": "\n"}, "dtype is at most"),
            ]
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_facts(facts(**changed), 2)


def test_a_task_without_classes_has_no_class_names() -> None:
    with pytest.raises(DataError, match="tells 0 classes apart"):
        read_facts(facts(), 0)
