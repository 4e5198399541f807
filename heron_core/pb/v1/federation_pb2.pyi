from heron_core.pb.v1 import tensors_pb2 as _tensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("protocol_version", "client_name", "instance_key", "dry_run", "software", "data")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_KEY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    client_name: str
    instance_key: bytes
    dry_run: bool
    software: Software
    data: DataFacts
    def __init__(self, protocol_version: _Optional[int] = ..., client_name: _Optional[str] = ..., instance_key: _Optional[bytes] = ..., dry_run: bool = ..., software: _Optional[_Union[Software, _Mapping]] = ..., data: _Optional[_Union[DataFacts, _Mapping]] = ...) -> None: ...

class Software(_message.Message):
    __slots__ = ("heron", "python", "torch", "numpy", "backend", "machine")
    HERON_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    TORCH_FIELD_NUMBER: _ClassVar[int]
    NUMPY_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    heron: str
    python: str
    torch: str
    numpy: str
    backend: str
    machine: str
    def __init__(self, heron: _Optional[str] = ..., python: _Optional[str] = ..., torch: _Optional[str] = ..., numpy: _Optional[str] = ..., backend: _Optional[str] = ..., machine: _Optional[str] = ...) -> None: ...

class DataFacts(_message.Message):
    __slots__ = ("run_id", "class_names", "samples", "inputs", "input_contract")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    class_names: _containers.RepeatedScalarFieldContainer[str]
    samples: int
    inputs: _containers.RepeatedCompositeFieldContainer[InputFacts]
    input_contract: str
    def __init__(self, run_id: _Optional[str] = ..., class_names: _Optional[_Iterable[str]] = ..., samples: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[InputFacts, _Mapping]]] = ..., input_contract: _Optional[str] = ...) -> None: ...

class InputFacts(_message.Message):
    __slots__ = ("name", "stored_dtype", "shape", "looked_at", "least", "most", "mean", "std")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STORED_DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LOOKED_AT_FIELD_NUMBER: _ClassVar[int]
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    name: str
    stored_dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    looked_at: int
    least: _containers.RepeatedScalarFieldContainer[float]
    most: _containers.RepeatedScalarFieldContainer[float]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., stored_dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., looked_at: _Optional[int] = ..., least: _Optional[_Iterable[float]] = ..., most: _Optional[_Iterable[float]] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("run_id", "run_spec_json", "session_id", "heartbeat_s", "silence_s", "class_names", "warnings", "software", "graphs")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    SILENCE_S_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    run_spec_json: str
    session_id: str
    heartbeat_s: float
    silence_s: float
    class_names: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    software: Software
    graphs: str
    def __init__(self, run_id: _Optional[str] = ..., run_spec_json: _Optional[str] = ..., session_id: _Optional[str] = ..., heartbeat_s: _Optional[float] = ..., silence_s: _Optional[float] = ..., class_names: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ..., software: _Optional[_Union[Software, _Mapping]] = ..., graphs: _Optional[str] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("session_id", "round", "step", "term", "replayed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    round: int
    step: int
    term: int
    replayed: int
    def __init__(self, session_id: _Optional[str] = ..., round: _Optional[int] = ..., step: _Optional[int] = ..., term: _Optional[int] = ..., replayed: _Optional[int] = ...) -> None: ...

class RoundEvent(_message.Message):
    __slots__ = ("round_begins", "round_ends", "evaluation_begins", "finished", "draining", "waiting", "dropped")
    ROUND_BEGINS_FIELD_NUMBER: _ClassVar[int]
    ROUND_ENDS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_BEGINS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    round_begins: RoundBegins
    round_ends: RoundEnds
    evaluation_begins: EvaluationBegins
    finished: Finished
    draining: Draining
    waiting: Waiting
    dropped: Dropped
    def __init__(self, round_begins: _Optional[_Union[RoundBegins, _Mapping]] = ..., round_ends: _Optional[_Union[RoundEnds, _Mapping]] = ..., evaluation_begins: _Optional[_Union[EvaluationBegins, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., waiting: _Optional[_Union[Waiting, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ...) -> None: ...

class RoundBegins(_message.Message):
    __slots__ = ("term", "round", "rank", "clients", "version", "state")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    rank: int
    clients: int
    version: int
    state: StateChunk
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., rank: _Optional[int] = ..., clients: _Optional[int] = ..., version: _Optional[int] = ..., state: _Optional[_Union[StateChunk, _Mapping]] = ...) -> None: ...

class RoundEnds(_message.Message):
    __slots__ = ("term", "round")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class EvaluationBegins(_message.Message):
    __slots__ = ("term", "round", "version", "rank", "clients")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    version: int
    rank: int
    clients: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., version: _Optional[int] = ..., rank: _Optional[int] = ..., clients: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("summary",)
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    summary: str
    def __init__(self, summary: _Optional[str] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("term", "round", "reason")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    reason: str
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class FetchModelRequest(_message.Message):
    __slots__ = ("session_id", "version", "holds")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    version: int
    holds: bytes
    def __init__(self, session_id: _Optional[str] = ..., version: _Optional[int] = ..., holds: _Optional[bytes] = ...) -> None: ...

class FetchGraphsRequest(_message.Message):
    __slots__ = ("client_name", "graphs")
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    client_name: str
    graphs: str
    def __init__(self, client_name: _Optional[str] = ..., graphs: _Optional[str] = ...) -> None: ...

class StateChunk(_message.Message):
    __slots__ = ("manifest", "offset", "payload")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    manifest: _tensors_pb2.Manifest
    offset: int
    payload: bytes
    def __init__(self, manifest: _Optional[_Union[_tensors_pb2.Manifest, _Mapping]] = ..., offset: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ClientFigures(_message.Message):
    __slots__ = ("first_loss", "last_loss", "mean_loss", "forward_passes", "step_seconds_median", "peak_bytes", "loaded_bytes", "pss_bytes", "class_histogram")
    FIRST_LOSS_FIELD_NUMBER: _ClassVar[int]
    LAST_LOSS_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOSS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_PASSES_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_MEDIAN_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOADED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLASS_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    first_loss: float
    last_loss: float
    mean_loss: float
    forward_passes: float
    step_seconds_median: float
    peak_bytes: int
    loaded_bytes: int
    pss_bytes: int
    class_histogram: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, first_loss: _Optional[float] = ..., last_loss: _Optional[float] = ..., mean_loss: _Optional[float] = ..., forward_passes: _Optional[float] = ..., step_seconds_median: _Optional[float] = ..., peak_bytes: _Optional[int] = ..., loaded_bytes: _Optional[int] = ..., pss_bytes: _Optional[int] = ..., class_histogram: _Optional[_Iterable[int]] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("run_id", "term", "round", "session_id", "num_samples", "figures", "held_out_samples")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    term: int
    round: int
    session_id: str
    num_samples: int
    figures: ClientFigures
    held_out_samples: int
    def __init__(self, run_id: _Optional[str] = ..., term: _Optional[int] = ..., round: _Optional[int] = ..., session_id: _Optional[str] = ..., num_samples: _Optional[int] = ..., figures: _Optional[_Union[ClientFigures, _Mapping]] = ..., held_out_samples: _Optional[int] = ...) -> None: ...

class UpdateChunk(_message.Message):
    __slots__ = ("header", "manifest", "offset", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    manifest: _tensors_pb2.Manifest
    offset: int
    payload: bytes
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ..., manifest: _Optional[_Union[_tensors_pb2.Manifest, _Mapping]] = ..., offset: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class SubmitUpdateReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("session_id", "reason")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    reason: str
    def __init__(self, session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
