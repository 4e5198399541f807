from heron_core.pb.v1 import federation_pb2 as _federation_pb2
from heron_core.pb.v1 import tensors_pb2 as _tensors_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_TRAIN: _ClassVar[Purpose]
    PURPOSE_EVALUATE: _ClassVar[Purpose]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_TRAIN: Purpose
PURPOSE_EVALUATE: Purpose

class FrameHeader(_message.Message):
    __slots__ = ("run_id", "session_id", "term", "round", "purpose", "step", "sequence", "row_start", "batch_rows", "manifest", "offset", "steps", "length", "numbering", "samples", "kept")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ROW_START_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    NUMBERING_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    session_id: str
    term: int
    round: int
    purpose: Purpose
    step: int
    sequence: int
    row_start: int
    batch_rows: int
    manifest: _tensors_pb2.Manifest
    offset: int
    steps: int
    length: int
    numbering: bytes
    samples: int
    kept: bytes
    def __init__(self, run_id: _Optional[str] = ..., session_id: _Optional[str] = ..., term: _Optional[int] = ..., round: _Optional[int] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., step: _Optional[int] = ..., sequence: _Optional[int] = ..., row_start: _Optional[int] = ..., batch_rows: _Optional[int] = ..., manifest: _Optional[_Union[_tensors_pb2.Manifest, _Mapping]] = ..., offset: _Optional[int] = ..., steps: _Optional[int] = ..., length: _Optional[int] = ..., numbering: _Optional[bytes] = ..., samples: _Optional[int] = ..., kept: _Optional[bytes] = ...) -> None: ...

class ActivationFrame(_message.Message):
    __slots__ = ("header", "update", "manifest", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: FrameHeader
    update: _federation_pb2.UpdateHeader
    manifest: _tensors_pb2.Manifest
    payload: bytes
    def __init__(self, header: _Optional[_Union[FrameHeader, _Mapping]] = ..., update: _Optional[_Union[_federation_pb2.UpdateHeader, _Mapping]] = ..., manifest: _Optional[_Union[_tensors_pb2.Manifest, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class PushEvent(_message.Message):
    __slots__ = ("position", "acknowledged", "credit", "cut_gradients", "update_taken", "payload")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    CUT_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TAKEN_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    position: Position
    acknowledged: Acknowledged
    credit: Credit
    cut_gradients: CutGradients
    update_taken: UpdateTaken
    payload: bytes
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ..., acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., cut_gradients: _Optional[_Union[CutGradients, _Mapping]] = ..., update_taken: _Optional[_Union[UpdateTaken, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("sequence", "credit_steps", "held")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_STEPS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    credit_steps: int
    held: bytes
    def __init__(self, sequence: _Optional[int] = ..., credit_steps: _Optional[int] = ..., held: _Optional[bytes] = ...) -> None: ...

class Acknowledged(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class CutGradients(_message.Message):
    __slots__ = ("step", "manifest", "offset", "loss")
    STEP_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    step: int
    manifest: _tensors_pb2.Manifest
    offset: int
    loss: float
    def __init__(self, step: _Optional[int] = ..., manifest: _Optional[_Union[_tensors_pb2.Manifest, _Mapping]] = ..., offset: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    def __init__(self, steps: _Optional[int] = ...) -> None: ...

class UpdateTaken(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
