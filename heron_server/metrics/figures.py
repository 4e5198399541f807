"""The figures of a run as JSON holds them: the lines of metrics.jsonl, summary.json, and what a checkpoint keeps.

A stable interface for programs: keys may be added, never renamed. None is null: not measured, or not this run's.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Judged(TypedDict):
    """The figure that judges a run, and which way is better."""

    name: str
    value: float | None
    higher_is_better: bool
    is_share: bool
    """Between 0 and 1."""


class Evaluation(TypedDict):
    """What an evaluation of the whole model found, means over all samples."""

    accuracy: float | None
    """Of the averaged back where there is one, as are `loss`, `metric` and `metrics`; else of the trained one."""
    trained_accuracy: float | None
    """Of the trained back, where `accuracy` is that of its average."""
    auxiliary_accuracy: float | None
    """Of the auxiliary head, where there is one for all."""
    majority_accuracy: float | None
    """Of always answering with the most frequent class."""
    loss: float | None
    metric: Judged
    metrics: dict[str, float | None]
    """All of the task's metrics by name."""
    auxiliary_metrics: dict[str, float | None]
    trained_metrics: dict[str, float | None]
    """Of the trained back; empty where it is what is evaluated."""


class RoundRecord(Evaluation):
    """One round."""

    round: int
    """From 1."""
    wall_s: float
    participants: int
    """Clients whose update was counted."""
    dropped: int
    dropped_reasons: dict[str, str]
    """By client name."""
    client_loss: float | None
    """Mean over the clients of their mean over local steps."""
    client_loss_first: float | None
    """The same of each client's first local step."""
    client_loss_last: float | None
    server_loss: float | None
    """Mean over the round's uploads."""
    samples: NotRequired[int]
    """That were evaluated; absent in rounds of an earlier version."""
    quarantined: int
    """Uploads that the back was not trained on, because their loss was an outlier."""
    wire_bytes: NotRequired[int]
    """Both ways, from the run's beginning to the round's end; absent in rounds of an earlier version."""


class ClientRecord(TypedDict):
    """The last figures of one client, as it measured them itself."""

    step_seconds_median: float
    peak_bytes: int | None
    """Resident memory at its highest, with code and libraries."""
    loaded_bytes: int | None
    """Resident memory before the first round."""
    pss_bytes: int | None
    """Proportional set size: shared pages are divided among the processes that share them."""
    class_histogram: list[int]
    """Samples of each class; empty where labels are not classes."""
    backend: NotRequired[str]
    """Where its model runs: cpu or cuda by torch, onnx by graphs, ? where it does not say; absent in checkpoints of an
    earlier version."""


class ClientStep(TypedDict):
    """What one local step of a client takes."""

    forward_passes: float
    """Over whole batches."""
    seconds_median: float | None
    peak_bytes_median: int | None
    macs: int
    """Multiply-accumulates."""
    macs_paper: int
    """The same as arXiv 2601.09076 counts."""


class Repeated(TypedDict):
    """Rounds that were done and not yet saved when the server was killed, and so were done again."""

    rounds: int
    wire_up: int
    """Bytes; the ledger has them, and those of the second time."""
    wire_down: int


class WrittenSample(TypedDict):
    """What a language model writes after a prompt of the test set, each time the likeliest token."""

    prompt: str
    reference: str
    """How the test set goes on."""
    written: str


class Start(TypedDict):
    """The model before anybody trained it."""

    loss: float
    metrics: dict[str, float | None]
    samples: list[WrittenSample]


class Summary(Evaluation):
    """A whole run; the evaluation is that of its last round."""

    schema: int
    run_id: str
    method: str
    model: str
    rounds: int
    """As set."""
    rounds_done: int
    best_round: int | None
    """By the figure that judges the run, the earliest of equals; None where nobody evaluates."""
    clients: int
    wall_s: float
    """Of all rounds."""
    model_sha256: str
    ledger: dict[str, int]
    """Bytes by kind, and by direction."""
    repeated: Repeated
    ledger_paper: dict[str, int]
    """Bytes as arXiv 2601.09076 charges them."""
    client_step: ClientStep
    per_client: dict[str, ClientRecord]
    history: list[RoundRecord]
    class_names: NotRequired[list[str]]
    """In the order of the labels; empty where nobody has named them."""
    model_path: NotRequired[str]
    averaged_back: NotRequired[bool]
    """Does the saved model hold the averaged back, with the trained one beside it?"""
    input_contract: NotRequired[dict[str, Any]]
    """How stored values become the model's inputs, as in model.json; absent where nobody said it."""
    start: NotRequired[Start]
    """With server.evaluate_start."""
    samples: NotRequired[list[WrittenSample]]
    """By the final model; absent where the server's test set is no text."""
    curves_path: NotRequired[str | None]
    curves_hint: NotRequired[str]
    """Why there is no curves.png; empty where there is one."""


class SavedRecords(TypedDict):
    """What a checkpoint keeps of the records."""

    history: list[RoundRecord]
    clients: dict[str, ClientRecord]
    step_seconds: list[float]
    """Each client's median in each round; the newest."""
    peaks: list[int]
    """Peak bytes of each client in each round, where measured; the newest."""
    passes_per_step: float
    repeated: NotRequired[Repeated]
    """Absent: none."""
