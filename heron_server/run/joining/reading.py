"""What a peer says of its data, read and bounded before any of it is used or shown."""

from __future__ import annotations

import numpy as np
from pydantic import ValidationError

from heron_core.class_names import normal, problem_of
from heron_core.data.contract import InputContract
from heron_core.data.facts import MOST_CHANNELS, DataFacts, InputFacts
from heron_core.errors import DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.admission import MAX_SAMPLES

MOST_CONTRACT_BYTES = 16 << 10
LARGEST = float(np.finfo(np.float32).max)
MOST_INPUTS, MOST_SIZES, MOST_LETTERS = 16, 8, 64


def read_facts(message: pb.DataFacts, classes: int) -> DataFacts:
    """`classes`: of the run's task, 0 where a label is no class. Raises DataError for what cannot be."""
    names, inputs = message.class_names, message.inputs
    if len(names) > classes:
        raise DataError(f"the run tells {classes} classes apart, the client's data has {len(names)} class names")
    if problem := problem_of(names):
        raise DataError(f"{problem}; mend the class names of the client's data")
    _must(0 < message.samples <= MAX_SAMPLES, f"samples must be 1 to {MAX_SAMPLES}, got {message.samples}")
    _must(len(inputs) <= MOST_INPUTS, f"at most {MOST_INPUTS} inputs are compared, got {len(inputs)}")
    contract = _contract(message.input_contract)
    return DataFacts(tuple(map(normal, names)), message.samples, tuple(map(_input, inputs)), contract=contract)


def _contract(text: str) -> InputContract | None:
    if not text:
        return None
    size = len(text.encode())
    _must(size <= MOST_CONTRACT_BYTES, f"its input contract is at most {MOST_CONTRACT_BYTES} bytes, got {size}")
    try:
        return InputContract.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        _must(False, f"its input contract is not valid: {'.'.join(map(str, first['loc']))}: {first['msg']}"[:300])
        return None


def _input(message: pb.InputFacts) -> InputFacts:
    for what, text in {"name": message.name, "dtype": message.stored_dtype}.items():
        _must(text.isprintable() and len(text) <= MOST_LETTERS, f"an input's {what} is at most {MOST_LETTERS} letters")
    _must(len(message.shape) <= MOST_SIZES, f"an input has at most {MOST_SIZES} sizes, got {len(message.shape)}")
    columns = (message.least, message.most, message.mean, message.std)
    count = len(message.least)
    _must(1 <= count <= MOST_CHANNELS, f"an input has figures of 1 to {MOST_CHANNELS} channels, got {count}")
    _must(all(len(column) == count for column in columns), "an input's figures must be of the same channels")
    fit = all(abs(value) <= LARGEST for column in columns for value in column)
    _must(fit, "an input's figures must be finite in float32")
    ordered = all(low <= high for low, high in zip(message.least, message.most, strict=True))
    _must(ordered and min(message.std) >= 0, "an input's least value is at most its greatest, and std is 0 or more")
    return InputFacts(
        message.name, message.stored_dtype, tuple(message.shape), message.looked_at, *(tuple(c) for c in columns)
    )


def _must(holds: bool, said: str) -> None:
    if not holds:
        raise DataError(f"what the client says of its data cannot be: {said}; run the same Heron on both sides")
