"""The run spec: everything that affects learning. The server owns it and hands it to clients when they join.

Frozen pydantic models that refuse unknown keys. Each field's description is its line in docs/settings.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from heron_core.spec.codec import CodecSpec
from heron_core.spec.data import DataSpec
from heron_core.spec.kinds import (
    Count,
    Fingerprint,
    Flag,
    NonNegative,
    PlaceInFolder,
    Positive,
    PositiveFloat,
    Settings,
)
from heron_core.spec.language import LanguageSpec
from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.server_average import AveragedBackSpec, ServerAverageSpec


class ModelSpec(Settings):
    name: str = "digits_cnn"
    """Built-in family (digits_cnn, cifar_cnn, series_cnn, mlp, resnet18, -34, -50; causal_lm for a pretrained language
    model) or your own `package.module:factory`."""
    cut: str = ""
    """The sub-module to cut after, e.g. stem, layer1.0 (the paper's), layer1, layer2; of causal_lm how many blocks the
    client has. Empty: the family's default."""
    norm: Literal["group", "batch"] = "group"
    """Normalisation: group (per sample, allows micro-batches) or batch (the paper's; its buffers are averaged)."""
    auxiliary: Literal["gap_linear", "flatten_linear", "conv_gap_linear"] = "gap_linear"
    """The auxiliary head: pooled, flattened (the paper's, 8.6 times the client part), or with one convolution."""
    stem: Literal["small", "imagenet"] = "small"
    """ResNet stem: small is 3x3 without pooling for 32x32 images, imagenet is 7x7 with pooling."""
    input_shape: tuple[Positive, ...] = ()
    """Shape of one input sample without the batch, e.g. [3, 32, 32]. Empty: the family's default."""
    task: Literal["", "classification", "regression", "multi_label", "per_pixel", "next_token"] = ""
    """What the model is for. A built-in family does classification, regression or multi_label; your own factory says
    itself. Empty: the family's default (classification), or the factory's."""
    classes: Count = 0
    """Number of classes (of labels with multi_label, of values with regression). 0: the family's default (10)."""
    widths: tuple[Positive, ...] = ()
    """Hidden widths of mlp (empty: [64, 64, 32]); channels of the convolutions of digits_cnn ([8, 16, 32]), cifar_cnn
    ([16, 32, 32]) and series_cnn ([16, 32, 64])."""
    trainable: Literal["all", "frozen_too", "norm", "last_n_layers", "lora"] = "all"
    """Client parameters that move, travel and are averaged; the head always does. all: but for what your own module has
    frozen (requires_grad = False); frozen_too: that as well. norm: the front's normalisation scale
    and shift. last_n_layers: its last `last_layers` layers. lora: adapters of rank `lora_rank` beside its weights."""
    last_layers: Positive = 1
    """Layers (modules with parameters of their own) of the front that move, with trainable = last_n_layers."""
    lora_rank: Positive = 4
    """Rank of the adapters, with trainable = lora."""
    weights: PlaceInFolder = ""
    """Initial weights: a `model` folder of an earlier run, by its path in each side's data folder; `--from` gives the
    run's id. A client reads it only where part of its model does not travel, as with trainable = norm."""
    weights_sha256: Fingerprint = ""
    """Fingerprint (state_sha256 in its model.json) that those weights must have. Empty: any."""
    weights_parts: Annotated[tuple[Literal["front", "auxiliary", "back"], ...], Field(min_length=1)] = ("front",)
    """Which parts begin with those weights, the others by the seed. `--from`: all that the folder holds."""
    base: PlaceInFolder = ""
    """The pretrained model of causal_lm: a folder as transformers saves it (safetensors), by its path in each side's
    data folder. `heron-server fetch-model smollm2` makes one."""
    base_sha256: Fingerprint = ""
    """Fingerprint of that folder's weights, configuration and tokeniser. A server fills it in, clients compare."""
    language: LanguageSpec = LanguageSpec()
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for your own factory."""

    @model_validator(mode="after")
    def _fingerprint_of_something(self) -> Self:
        if self.weights_sha256 and not self.weights:
            raise ValueError("weights_sha256 is given without weights; name the folder in weights, or remove it")
        return self


class ZoSpec(Settings):
    num_directions: Positive = 1
    """q: random directions per local step. A step costs q + 1 forward passes, or 2q + 1 with central differences."""
    mu: PositiveFloat = 1e-3
    """Length of the perturbation mu * u. On the sphere the RMS change per weight is mu / sqrt(d), else mu."""
    distribution: Literal["sphere", "gaussian", "rademacher"] = "sphere"
    """Distribution of u: sphere is the paper's."""
    difference: Literal["forward", "central"] = "forward"
    """forward is the paper's: (l(theta + mu u) - l(theta)) / mu."""
    scope: Literal["batch", "micro_batch", "sample"] = "batch"
    """What one direction is for: the whole batch (the paper's), each micro-batch, or each sample. At the same number
    of forward passes; sample needs parameters that act on each sample by itself (normalisation, biases, and the
    adapters of causal_lm)."""
    normalise: Flag = False
    """Divide the gradient by the standard deviation of its slopes (FZOO); needs two directions a step or more."""
    block_wise: Flag = False
    """One direction for each stage of the front in turn, its probe from the activations that the prefix gave before."""
    exact_stages: Count = 0
    """How many of the front's last stages get their exact gradient together with the head: backpropagation through
    these alone, one micro-batch at a time. Only the stages below them are perturbed. 0: none, as in the paper."""


class AlignmentSpec(Settings):
    every_rounds: Positive = 10
    """l: the server aligns the heads after every l-th round."""
    buffer_samples: Positive = 1000
    """Newest uploaded samples of each client that the server keeps for it; at least one whole upload."""
    passes: Positive = 100
    """Passes over the buffer in one alignment."""
    batch_size: Positive = 1000
    """Samples per step of the alignment."""
    lr: PositiveFloat = 1e-3
    """Learning rate of its Adam."""


class MethodSpec(Settings):
    name: Literal["heron", "cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg", "frozen"] = "heron"
    """heron: zeroth-order clients. cse_fsl: backpropagation of the auxiliary loss. fsl_sage: the same through a head
    that the server aligns. sflv1, sflv2: the server returns the cut gradient; one server model per client, or one for
    all. fedavg: the whole model on the client. frozen: the control, clients never update."""
    local_steps: Positive = 20
    """h: local steps per round."""
    batch_size: Positive = 32
    """B: samples per local step."""
    micro_batch: Count = 0
    """Run forwards in micro-batches of this many samples and send each at once, small ones together up to 64 KiB;
    bounds the peak. 0: whole batch."""
    ghost_batch_norm: Flag = False
    """Allow micro_batch with BatchNorm: statistics are then per micro-batch, a different computation."""
    upload_period: Positive = 1
    """k: upload activations every k-th local step."""
    mixing: Flag = False
    """The server trains on batches mixed of the clients: one upload of each participant is pooled, their rows are
    permuted (seeded) and cut into batches of the same size, each as long as its longest sequence, so there are as many
    steps as before. false: one upload after the other (the paper's)."""
    objective: Literal["auxiliary", "cut_gradient"] = "auxiliary"
    """What heron's slopes are of. auxiliary: the loss of the client's own head. cut_gradient: the server's loss, along
    the gradient at the cut that it returns for each upload, as in sflv2; the client has no head, and still runs nothing
    but forward passes (HO-SFL)."""
    auxiliary_update: Literal["zo", "first_order", "server", "aligned"] = "first_order"
    """Who trains heron's head: first_order (the client by its exact gradient, on detached activations), zo (the
    paper's faithful mode: jointly with the front, by losses alone), server (on what it receives; sent down each round),
    aligned (as in fsl_sage). Unless zo, only the front is perturbed."""
    moments: Literal["reset", "kept", "averaged"] = "reset"
    """The client optimiser's moments: zero at each round's start, kept per client, or averaged with the weights."""
    running_statistics: Literal["update", "keep"] = "update"
    """frozen with BatchNorm: update the running statistics in training forwards, or normalise by the initial ones."""
    logit_adjustment: NonNegative = 0.0
    """Training on each client adds so many times the log of the client's own class shares to the logits, so that a
    class which it lacks is not unlearned: heron, cse_fsl and fedavg, with classification. 1: as published. 0: off."""
    proximal: NonNegative = 0.0
    """FedProx's mu: adds mu (theta - theta at the round's start) to each local step's gradient. A study found no
    gain from it. 0: off."""
    zo: ZoSpec = ZoSpec()
    alignment: AlignmentSpec = AlignmentSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    """The client's optimiser."""

    @model_validator(mode="after")
    def _micro_batch_divides(self) -> Self:
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(
                f"micro_batch must divide batch_size, got {self.micro_batch} and {self.batch_size}; "
                f"take a divisor of {self.batch_size}"
            )
        return self

    @property
    def micro_batch_rows(self) -> int:
        """Samples of one micro-batch: `micro_batch`, or the whole batch."""
        return self.micro_batch or self.batch_size


class GuardSpec(Settings):
    """What keeps one client's uploads from spoiling what the server trains."""

    clip_gradient: NonNegative = 0.0
    """Longest gradient of one upload: a longer one is scaled down to it before the server's step. 0: as it is."""
    loss_outlier: NonNegative = 0.0
    """An upload whose loss is so many standard deviations above the median of the other clients' recent uploads is not
    trained on. 0: all are."""


class FederationSpec(Settings):
    clients: Positive = 3
    """N: clients the run is planned for; experiment data is divided into this many parts."""
    clients_per_round: Count = 0
    """Clients drawn for each round (seeded). 0: all."""
    min_clients: Positive = 1
    """A round needs at least this many participants; below it the round is abandoned."""
    aggregation: Literal[
        "uniform", "samples", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "norm_clipping",
        "nearest_mixing", "bulyan",
    ] = "uniform"  # fmt: skip
    """What is made of the clients' states. uniform (the paper's 1/N) and samples (by each client's sample count)
    average whatever comes; the others bear `hostile` clients, see docs/hostile.md."""
    server_average: ServerAverageSpec = ServerAverageSpec()
    hostile: Count = 0
    """f: so many of a round's clients may send what they like. Each rule needs a number of clients for it."""
    most_samples: Count = 0
    """With aggregation = samples: no client weighs more than this many samples, whatever it says. 0: no limit."""
    clip_norm: NonNegative = 0.0
    """With aggregation = norm_clipping: the longest change of the weights that counts whole. 0: the clients' median."""

    @model_validator(mode="after")
    def _enough_clients(self) -> Self:
        if self.min_clients > self.clients:
            raise ValueError(f"min_clients = {self.min_clients} is more than clients = {self.clients}; lower it")
        if self.clients_per_round > self.clients:
            raise ValueError(
                f"clients_per_round = {self.clients_per_round} is more than clients = {self.clients}; "
                "lower it, or 0 for all"
            )
        if self.clients_per_round and self.min_clients > self.clients_per_round:
            raise ValueError(
                f"min_clients = {self.min_clients} is more than clients_per_round = {self.clients_per_round}; lower it"
            )
        return self

    @property
    def participants(self) -> int:
        """Clients in one round."""
        return self.clients_per_round or self.clients


class ThreadSpec(Settings):
    client: Positive = 1
    """Compute threads per client process. Part of the run spec: one and two threads give different bits."""
    server: Positive = 1
    """Compute threads of the server's worker."""


class RunSpec(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "run"
    """A short name; the run id is made from it."""
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)] = 0
    """Names every random stream, together with round, rank, step and direction."""
    rounds: Positive = 10
    """T: rounds of the run."""
    evaluate_every: Positive = 1
    """The model is evaluated after each so many rounds and after the last; the records of other rounds have no accuracy
    and no loss of an evaluation. No weight depends on it. A checkpoint stays as the best one only where its round was
    evaluated."""
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    method: MethodSpec = MethodSpec()
    server_optimizer: OptimizerSpec = OptimizerSpec()
    """The server's first-order optimiser on the back; its state persists across rounds."""
    averaged_back: AveragedBackSpec = AveragedBackSpec()
    guard: GuardSpec = GuardSpec()
    codec: CodecSpec = CodecSpec()
    federation: FederationSpec = FederationSpec()
    threads: ThreadSpec = ThreadSpec()

    @model_validator(mode="after")
    def _batch_norm_needs_whole_batches(self) -> Self:
        method = self.method
        smaller = method.micro_batch_rows < method.batch_size
        if smaller and self.model.norm == "batch" and not method.ghost_batch_norm:
            raise ValueError(
                f'micro_batch = {method.micro_batch} with norm = "batch" normalises each micro-batch by itself, which '
                'is another computation; use norm = "group", micro_batch = 0, or say ghost_batch_norm = true'
            )
        return self
