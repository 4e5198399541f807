"""Who and what may come in: a Join, an update's counts, and the numbers that the rounds machine goes by."""

from __future__ import annotations

from math import inf

from heron_core.errors import ConfigError, TensorError, VersionMismatch
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import generator
from heron_core.trust.names import NAME, RULE
from heron_core.version import PROTOCOL_VERSION
from heron_server.config import ServerSettings
from heron_server.rounds.rules import Rules

MAX_SAMPLES = 1 << 40


def check_join(request: pb.JoinRequest) -> None:
    """Raises VersionMismatch, or ConfigError for a name or key that cannot be one."""
    if request.protocol_version != PROTOCOL_VERSION:
        raise VersionMismatch(
            f"this server speaks protocol version {PROTOCOL_VERSION}, the client {request.protocol_version}; "
            "install the same Heron on both sides"
        )
    if not NAME.fullmatch(request.client_name) or len(request.instance_key) != 16:
        raise ConfigError(
            f"{RULE}, and an instance key is 16 bytes; got "
            f"{request.client_name[:80]!r} and {len(request.instance_key)} bytes"
        )


def check_counts(header: pb.UpdateHeader, name: str, classes: int) -> None:
    """TensorError for numbers of samples or figures that cannot be. Fields that nobody knows are taken out.

    `classes`: of the run's task, 0 where a label is no class. The histogram may be left out.
    """
    counts = {"num_samples": header.num_samples, "held_out_samples + 1": header.held_out_samples + 1}
    for what, count in counts.items():
        if not 0 < count <= MAX_SAMPLES:
            raise TensorError(f"client {name!r}: {what} must be 1 to {MAX_SAMPLES}, got {count}")
    figures, known = header.figures, len(header.figures.class_histogram)
    if known not in (0, classes):
        wanted = f"{classes} counts or none" if classes else "no counts"
        raise TensorError(f"client {name!r}: a class histogram must have {wanted}, got {known}")
    if sum(figures.class_histogram) > MAX_SAMPLES:
        raise TensorError(f"client {name!r}: a class histogram must count at most {MAX_SAMPLES} samples")
    for what in ("forward_passes", "step_seconds_median"):
        if not 0 <= getattr(figures, what) < inf:
            raise TensorError(f"client {name!r}: {what} must be 0 or more, got {getattr(figures, what)}")
    header.DiscardUnknownFields()


def rules(spec: RunSpec, settings: ServerSettings) -> Rules:
    """The rounds machine's numbers. A pool of mixed uploads holds no more clients than the run is planned for."""
    return Rules(
        rounds=spec.rounds, evaluate_every=spec.evaluate_every,
        clients=spec.federation.clients, min_clients=spec.federation.min_clients,
        per_round=spec.federation.participants if spec.method.mixing else spec.federation.clients_per_round,
        order=lambda number, ranks: generator(spec.seed, "participants", "round", number).permutation(ranks).tolist(),
        open_ended=spec.data.source == "client", quorum=settings.quorum, round_deadline_s=settings.round_deadline_s,
        start_wait_s=settings.start_wait_s, rejoin_s=settings.rejoin_s, silence_s=settings.silence_s,
        grace_s=settings.grace_s, abandoned_pause_s=settings.abandoned_pause_s, space_wait_s=settings.space_wait_s,
    )  # fmt: skip
