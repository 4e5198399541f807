"""A graph whose inputs are made constants: then ONNX Runtime lays out their convolutions for its fastest kernels.

Only names, dtypes and shapes go into the graph; the values are handed to the runtime with it. This edits the file's
protobuf by its field numbers, which ONNX never changes, so that a client needs no onnx library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heron_core.arrays import Array
from heron_core.errors import ModelError, TensorError
from heron_core.wire.frames import read_varint, varint

GRAPH, INPUT, INITIALIZER, NAME = 7, 11, 5, 1
"""Fields of a ModelProto; of its GraphProto, twice; and of a ValueInfoProto."""
DIMS, DATA_TYPE, TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 13, 14
"""Fields of a TensorProto."""
DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
"""As a TensorProto numbers them."""
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""How a field is written."""


def with_constants(graph: bytes, constants: Mapping[str, Array]) -> bytes:
    """`graph` with these inputs as constants whose values come from outside. ModelError: it is no ONNX graph."""
    try:
        whole = memoryview(graph)
        return b"".join(
            _field(GRAPH, _edited(content, constants)) if number == GRAPH else bytes(field)
            for number, field, content in _fields(whole)
        )
    except (TensorError, ValueError) as error:
        raise ModelError(f"the server's graph is no ONNX file: {error}; let the server export anew") from None


def _edited(graph: memoryview, constants: Mapping[str, Array]) -> bytes:
    taken: set[str] = set()
    kept = []
    for number, field, content in _fields(graph):
        name = _name(content) if number == INPUT else ""
        if name in constants:
            taken.add(name)
        else:
            kept.append(bytes(field))
    return b"".join([*kept, *(_field(INITIALIZER, _placeholder(name, constants[name])) for name in sorted(taken))])


def _name(value_info: memoryview) -> str:
    return next((bytes(content).decode() for number, _, content in _fields(value_info) if number == NAME), "")


def _placeholder(name: str, array: Array) -> bytes:
    """A TensorProto that says that its values lie elsewhere."""
    where = {"location": "held", "offset": "0", "length": str(array.nbytes)}
    entries = [_field(1, key.encode()) + _field(2, value.encode()) for key, value in where.items()]
    return b"".join([
        *(_number(DIMS, size) for size in array.shape), _number(DATA_TYPE, DTYPES[str(array.dtype)]),
        _field(TENSOR_NAME, name.encode()), *(_field(EXTERNAL_DATA, entry) for entry in entries),
        _number(DATA_LOCATION, 1),
    ])  # fmt: skip


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, the whole field, its content, empty if it is a number) of each field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = read_varint(message, at)
        inside = at
        if tag & 7 == BYTES:
            size, inside = read_varint(message, at)
            at = inside + size
        elif tag & 7 == VARINT:
            _, at = read_varint(message, at)
            inside = at
        elif tag & 7 in (FIXED_32, FIXED_64):
            at = inside = at + (4 if tag & 7 == FIXED_32 else 8)
        else:
            raise ValueError(f"a field is written in a way {tag & 7} that ONNX does not use")
        if at > len(message):
            raise ValueError("it ends within a field")
        yield tag >> 3, message[start:at], message[inside:at]


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)
