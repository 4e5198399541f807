"""The server's file: the run spec's tables, and a [server] table of local facts beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, Strict, model_validator

from heron_core.class_names import normal
from heron_core.config import LocalPath, apply_overrides, load_tables, validate
from heron_core.errors import ConfigError
from heron_core.models.language.base_folder import base_fingerprint
from heron_core.spec.kinds import Count, Flag, NonNegative, Positive, PositiveFloat, Settings
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import refuse_unused, without_unused
from heron_core.trust.addresses import Address

R = TypeVar("R", bound=RunSpec)
TEST_DATA = r"^(auto|none|npz|npy|image_folder|csv|parquet|hugging_face|text|jsonl|[\w.]+:\w+)$"


class ServerSettings(Settings):
    address: Address = "127.0.0.1:50051"
    """host:port to listen on, unix:PATH or unix-abstract:NAME. Another than loopback needs certificates. Port 0: any
    free one, printed."""
    certs: LocalPath | None = None
    """Folder with ca.pem, cert.pem and key.pem (`heron-server certs`): mutual TLS. Empty: certs/server, where that is
    there and the address is not loopback; on loopback plain text."""
    tokens: LocalPath | None = None
    """tokens.txt (`heron-server certs token`): clients prove their names by tokens instead of certificates, for a
    server behind something that ends TLS. Together with certs: TLS that asks clients for no certificate."""
    insecure: Flag = False
    """Says --insecure again, which a public address needs: plain text, from and to anybody who reaches the port."""
    run_dir: LocalPath | None = None
    """Folder for this run's checkpoints, metrics, summary and model. Empty: runs/<name> in the current folder."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda or cuda:1."""
    order: Literal["canonical", "arrival"] = "canonical"
    """canonical: uploads step by step in rank order, reproducible. arrival: as they come, faster, not reproducible."""
    byte_budget: Positive = 1 << 30
    """Most bytes of uploads the server holds at once; at least two whole uploads."""
    reuse_budget: Positive = 4 << 30
    """With codec.reuse: most bytes of its clients' samples that lie in the run directory, all of each client's."""
    memory_limit: Count = 0
    """Most bytes that the run may need here by `validate`'s count. 0: the memory of this machine, or of its
    container."""
    test_data: Annotated[str, Field(pattern=TEST_DATA)] = "auto"
    """The server's test set: auto (the run spec's built-in one), none (clients evaluate on held-out samples), or as
    the clients' data.source: npz, npy, image_folder, csv, parquet, hugging_face, text, jsonl, your own
    `package.module:factory`."""
    test_path: LocalPath | None = None
    """The file or folder."""
    test_options: dict[str, object] = Field(default_factory=dict)
    """Keyword arguments for your own factory; for npz, npy and hugging_face what their x and y are called,
    `{ x = "images", y = "labels" }`; for csv its `delimiter` and `decimal`; for image_folder its `classes`."""
    evaluate_start: Flag = False
    """Evaluate the model once before the first round, on the server's own test set, and show that beside the final
    figures."""
    written_samples: Count = 2
    """Where that test set is text, the final model goes on from so many of its prompts, for the report."""
    start_from: LocalPath | None = None
    """The `model` folder of an earlier run, whose front, head and back this one begins with (`--from`). The run spec's
    model.weights, weights_sha256 and weights_parts follow from it."""
    graphs: Flag = False
    """Export what clients run as ONNX graphs, for clients with backend = "onnx", which need neither torch nor the
    model's code. Each graph is compared with torch first. It takes seconds, and the export extra."""
    check_inputs: Literal["refuse", "warn", "off"] = "refuse"
    """Clients with their own data are compared with the test set here, else with the first of them: a range or spread
    that cannot be the same scale is refused, or only said in the log like smaller differences (warn), or not looked at
    (off)."""
    data_folder: LocalPath | None = None
    """Where experiment data (cifar10, arrays, e2e) and tokenisers lie. Empty: $HERON_DATA."""
    python_path: tuple[LocalPath, ...] = ()
    """Folders to search for your own code."""
    quorum: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.5
    """Share of a round's participants whose updates it needs; below it the round is abandoned."""
    start_wait_s: NonNegative = 0.0
    """Begin with min_clients once this many seconds have passed. 0: wait for all."""
    rejoin_s: PositiveFloat = 60.0
    """After a restart or an abandoned round, wait this long for every known client."""
    abandoned_pause_s: NonNegative = 1.0
    """Before an abandoned round begins again; twice as long each time in a row, 60 s at most."""
    step_deadline_s: PositiveFloat = 120.0
    """How long a client whose turn it is may be without progress. Longer than its longest local step takes."""
    straggler: Literal["wait", "drop"] = "wait"
    """What becomes of a slow client whose turn it is. wait: it goes on while it makes progress (local steps, clients'
    rounds replayed, micro-batches, each MiB of a client state); without, it is dropped from the round after
    step_deadline_s, or 4 times what its own local steps of an upload take, whichever is longer. drop: a turn lasts
    step_deadline_s at most."""
    round_deadline_s: PositiveFloat = 3600.0
    """Once a round has lasted this long, progress no longer counts: a turn lasts step_deadline_s at most. One piece of
    the server's own work, such as an average or a checkpoint, ends the run where it takes longer than this."""
    heartbeat_s: Annotated[float, Strict(), Field(ge=0.05, allow_inf_nan=False)] = 5.0
    """Seconds between a client's heartbeats."""
    silence_s: PositiveFloat = 30.0
    """A client not heard from for this long is disconnected. At least twice heartbeat_s."""
    grace_s: NonNegative = 10.0
    """A disconnected client keeps its place in the round for this long."""
    space_wait_s: NonNegative = 600.0
    """A full disk pauses the run for at most this long; what could not be written is tried again. 0: ends at once."""
    keep_checkpoints: Positive = 2
    """Checkpoints kept on the disk: of so many last rounds. The one whose evaluation was best stays besides."""
    checkpoint_every: Positive = 1
    """A checkpoint after each so many rounds, after the last, and where the run is stopped. With n > 1 a kill -9 or a
    power cut takes back up to n - 1 rounds: they are done again and their bytes sent again, and in canonical order the
    run ends with the same bits."""
    reflection: Flag = False
    """Offer gRPC server reflection (needs the reflection extra)."""

    @model_validator(mode="after")
    def _beats_come_in_time(self) -> Self:
        if 2 * self.heartbeat_s > self.silence_s:
            raise ValueError(
                f"heartbeat_s = {self.heartbeat_s:g} must be at most half of silence_s = {self.silence_s:g}, or "
                "clients are cut off between two heartbeats; lower heartbeat_s or raise silence_s"
            )
        return self

    @property
    def names_test_set(self) -> bool:
        """Does the server bring a test set of its own?"""
        return self.test_data not in ("auto", "none")


class RunFile(RunSpec):
    server: ServerSettings = ServerSettings()
    """Local facts of the server; clients never see them."""
    simulate: dict[str, object] = Field(default_factory=dict)
    """The simulator's own table, of which nothing is read or checked here: `heron-simulate` does both."""


def load_run_file(path: Path, overrides: list[str] | None = None) -> tuple[RunSpec, ServerSettings]:
    """The two halves of the file; raises ConfigError.

    Where an override names another method, what the file says for its own is left out, not refused.
    """
    tables = load_tables(RunFile, path, overrides or [])
    if "name" in apply_overrides({}, overrides or []).get("method", {}):
        whole = validate(RunFile, tables, str(path)).model_dump(exclude={"server", "simulate"})
        tables = apply_overrides(without_unused(RunSpec.model_validate(whole), tables), overrides or [])
    return split_run_file(tables, str(path))


def split_run_file(tables: dict[str, Any], origin: str) -> tuple[RunSpec, ServerSettings]:
    """Both halves, typed. ConfigError: a wrong key or value, or a setting that the run's method does not use.
    DataError: model.base, whose fingerprint goes into the spec, is not there."""
    whole = validate(RunFile, tables, origin)
    if whole.server.start_from is not None:
        tables = begun(tables, whole.server.start_from)
        whole = validate(RunFile, tables, origin)
    if whole.model.name == "causal_lm" and whole.model.base and not whole.model.base_sha256:
        tables = _with_base(tables, base_fingerprint(whole.model.base, whole.server.data_folder))
        whole = validate(RunFile, tables, origin)
    spec = RunSpec.model_validate(fitting_holdout(whole, whole.server).model_dump(exclude={"server", "simulate"}))
    refuse_unused(spec, tables, origin)
    return spec, whole.server


def begun(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run file's tables, valid ones, that say in [model] and data.class_names that the run begins with the model in
    `folder`. DataError: there is no model that can be used; ConfigError: the tables name other weights or classes.
    """
    from heron_core.models.weights import as_weights, class_names_of_folder  # torch

    found, model = as_weights(folder), dict(tables.get("model", {}))
    if model.get("weights_sha256", "") not in ("", found["weights_sha256"]):
        raise ConfigError(
            f"the run begins either with the weights of model.weights_sha256 = {model['weights_sha256']!r} or with "
            f"those in {folder} (--from, server.start_from), which are others; leave one of the two out"
        )
    tables = {**tables, "model": {**found, **{key: value for key, value in model.items() if value}}}
    return _with_class_names(tables, class_names_of_folder(folder), folder)


def _with_base(tables: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The same, which also say what the server's model.base is: clients compare theirs."""
    return {**tables, "model": {**tables["model"], "base_sha256": fingerprint}}


def _with_class_names(tables: dict[str, Any], names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The model's outputs mean these classes, in this order, and so must the labels of the clients' own data."""
    data = dict(tables.get("data", {}))
    given = tuple(map(normal, data.get("class_names", ())))
    if not names or given == names or data.get("source") != "client":
        return tables
    if given:
        raise ConfigError(
            f"data.class_names = {list(given)}, and the model in {folder} (--from) tells {list(names)}, in this order; "
            "leave data.class_names out, or begin with another model"
        )
    return {**tables, "data": {**data, "class_names": list(names)}}


def fitting_holdout(spec: R, settings: ServerSettings) -> R:
    """The run as it is, but clients hold nothing out that nobody asked for where the server has a test set of its own.

    What was asked for is what was given when `spec` was made; to a copy made of all its values, all were.
    """
    if not settings.names_test_set or spec.data.source != "client" or "holdout" in spec.data.model_fields_set:
        return spec
    return spec.model_copy(update={"data": spec.data.model_copy(update={"holdout": 0.0})})
