"""The client's local facts: where the server is, what this box is called, where its data lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from heron_core.config import apply_overrides, host_and_port, load_toml, validate
from heron_core.spec.kinds import Flag, NonNegative, PositiveFloat, Settings
from heron_core.trust.names import NAME


class OwnData(Settings):
    source: str = ""
    """image_folder, npz, or your own `package.module:factory`. Used where the run spec says data.source = "client"."""
    path: Path | None = None
    """The folder of images, or the .npz file."""
    folder: Path | None = None
    """Where experiment data (cifar10) lies. Empty: $HERON_DATA."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for your own factory."""


class ClientSettings(Settings):
    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    """This client's name, unique in the run. The sorted names decide ranks, and with them streams and partition."""
    server: str = "127.0.0.1:50051"
    """The server's host:port, or unix:PATH."""
    certs: Path | None = None
    """Folder with ca.pem, cert.pem and key.pem, from `heron-server certs client` on the server; TLS, which proves the
    name. Empty: ./certs, where that is there and the server is another machine; on loopback plain text."""
    token_file: Path | None = None
    """The token of a server that asks for one (`heron-server certs token`). Empty: `token` in certs without a cert.pem.
    Without certs, TLS believes the authorities that everybody knows."""
    insecure: Flag = False
    """Says --insecure again, which a public address or a name needs: labels and activations travel in plain text."""
    state_dir: Path | None = None
    """Folder that keeps this client's identity over restarts. Empty: a new identity each start."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda or cuda:1."""
    allow_model_code: tuple[str, ...] = ()
    """Names `package.module:factory` that a run spec may make this client import."""
    python_path: tuple[Path, ...] = ()
    """Folders to search for your own code, relative to this file."""
    retry_for_s: NonNegative = 0.0
    """Give up after this many seconds without a server. 0: never."""
    retry_max_s: PositiveFloat = 15.0
    """Longest pause between two tries; pauses grow from 0.25 s and are jittered."""
    rpc_deadline_s: PositiveFloat = 20.0
    """Deadline of each unary call."""
    data: OwnData = OwnData()

    @field_validator("server")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        return host_and_port(value)


def load_client_file(path: Path | None, overrides: list[str]) -> ClientSettings:
    """The typed settings; relative python_path entries are relative to the file. Raises ConfigError."""
    tables = apply_overrides(load_toml(path) if path else {}, overrides)
    settings = validate(ClientSettings, tables, str(path) if path else "the client's settings")
    folder = path.parent if path else Path.cwd()
    return settings.model_copy(update={"python_path": tuple((folder / p).resolve() for p in settings.python_path)})


def python_path_of(path: Path | None, overrides: list[str]) -> tuple[Path, ...]:
    """Where the client's settings, which may lack its name here, search for its own code. Raises ConfigError."""
    return load_client_file(path, ["name=check", *overrides] if path is None else overrides).python_path
