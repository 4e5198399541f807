"""The client's local facts: where the server is, what this box is called, where its data lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from heron_core.config import LocalPath, apply_overrides, load_tables, validate
from heron_core.spec.kinds import Flag, NonNegative, PositiveFloat, Settings
from heron_core.trust.addresses import ServerAddress
from heron_core.trust.names import NAME


class OwnData(Settings):
    source: str = ""
    """image_folder, npz, npy, csv, parquet, hugging_face, text or jsonl (for language models), or your own
    `package.module:factory`. Used where the run spec says data.source = "client"."""
    path: LocalPath | None = None
    """The file, or the folder of images, of x.npy and y.npy, or that dataset.save_to_disk made."""
    folder: LocalPath | None = None
    """Where experiment data (cifar10, arrays, e2e) and tokenisers lie. Empty: $HERON_DATA."""
    on_bad_sample: Literal["refuse", "skip"] = "refuse"
    """What cannot be read, or holds NaN or Inf: refuse it when its turn comes, or skip it, which opens each sample once
    at the start; what is skipped is counted and shown."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for your own factory; for npz, npy and hugging_face what their x and y are called,
    `{ x = "images", y = "labels" }`; for csv its `delimiter` and `decimal`; for image_folder its `classes`."""


class ClientSettings(Settings):
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    """This client's name, unique in the run. The sorted names decide ranks, and with them streams and partition."""
    server: ServerAddress = "127.0.0.1:50051"
    """The server's host:port, unix:PATH or unix-abstract:NAME."""
    certs: LocalPath | None = None
    """Folder with ca.pem, cert.pem and key.pem, from `heron-server certs client` on the server; TLS, which proves the
    name. Empty: ./certs, where that is there and the server is another machine; on loopback plain text."""
    token_file: LocalPath | None = None
    """The token of a server that asks for one (`heron-server certs token`). Empty: `token` in certs without a cert.pem.
    Without certs, TLS believes the authorities that everybody knows."""
    insecure: Flag = False
    """Says --insecure again, which a public address or a name needs: labels and activations travel in plain text."""
    use_proxy: Flag = False
    """Go to the server by the proxy that grpc_proxy, https_proxy or http_proxy names, but for no_proxy."""
    state_dir: LocalPath | None = None
    """Folder that keeps this client's identity over restarts. Empty: a new identity each start."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda or cuda:1. Where torch runs the model; ONNX Runtime takes auto or cpu."""
    backend: Literal["auto", "torch", "onnx"] = "auto"
    """What runs the model. torch: built here, from this machine's own code. onnx: ONNX Runtime, by graphs that the
    server exports (its server.graphs), without torch and without the model's code. auto: torch where it is installed,
    else onnx."""
    execution_provider: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,40}$")] = "cpu"
    """What ONNX Runtime computes with, if this machine's has it: cpu, or such as cuda, openvino, coreml, nnapi, qnn.
    What the provider lacks, the cpu computes. Other providers give other bits."""
    allow_model_code: tuple[str, ...] = ()
    """Names `package.module:factory` that a run spec may make this client import."""
    python_path: tuple[LocalPath, ...] = ()
    """Folders to search for your own code."""
    retry_for_s: NonNegative = 0.0
    """Give up after this many seconds without a server. 0: never."""
    retry_max_s: PositiveFloat = 15.0
    """Longest pause between two tries; pauses grow from 0.25 s and are jittered."""
    rpc_deadline_s: PositiveFloat = 20.0
    """Deadline of each unary call."""
    data: OwnData = OwnData()


def load_client_file(path: Path | None, overrides: Sequence[str]) -> ClientSettings:
    """The typed settings. Raises ConfigError."""
    tables = load_tables(ClientSettings, path, overrides) if path else apply_overrides({}, overrides)
    return validate(ClientSettings, tables, str(path) if path else "the client's settings")


def python_path_of(path: Path | None, overrides: Sequence[str]) -> tuple[Path, ...]:
    """Where the client's settings, which may lack its name here, search for its own code. Raises ConfigError."""
    return load_client_file(path, ["name=check", *overrides] if path is None else overrides).python_path
