"""Every kind of task ends with the plain reference loop's bits: integers in, and two tensors over the cut."""

from __future__ import annotations

from typing import Any

import pytest
from integration.five_tasks import KINDS, clients_of, halves_of, need_data, run_of
from integration.references import reference_run

from heron_simulator.simulator import simulate

SHORT = ("rounds=2", "method.local_steps=3", "method.batch_size=8")
VISIBLE = "method.zo.mu=1e-2"
"""A perturbation that float32 does not swallow."""
ALIGNED = tuple(
    f"method.alignment.{s}" for s in ("every_rounds=1", "passes=5", "buffer_samples=16", "batch_size=10")
)

IN_A_FEW_BITS = ("codec.uploads=int8", "codec.cut_gradients=int4", "codec.labels=packed")


def same_bits(kind: str, patch: pytest.MonkeyPatch, *overrides: str) -> None:
    need_data(kind, patch)
    another = any(setting.startswith("method.name=") for setting in overrides)
    spec, settings = run_of(kind, *SHORT, *overrides, *(() if another else (VISIBLE,)))
    found: dict[str, Any] = simulate(spec, settings=settings, client_settings=clients_of(kind)).summary
    assert found["model_sha256"] == reference_run(spec, shares=[train for train, _ in halves_of(spec, kind)])


@pytest.mark.parametrize("overrides", [(), ("method.name=cse_fsl",)], ids=["heron", "cse_fsl"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_gives_the_reference_bits(
    kind: str, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_bits(kind, monkeypatch, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("method.auxiliary_update=zo",),
        ("method.auxiliary_update=server",),
        ("method.micro_batch=2",),
        ("method.micro_batch=4", "method.zo.scope=micro_batch", "method.moments=averaged"),
        ("method.name=cse_fsl", "method.micro_batch=4", "method.upload_period=2"),
        ("method.objective=cut_gradient", "method.micro_batch=4", "method.zo.scope=micro_batch", *IN_A_FEW_BITS),
        ("method.name=sflv1",),
        ("method.name=sflv2",),
        ("method.name=fedavg",),
        ("method.name=frozen",),
    ],
    ids=" ".join,
)
def test_tokens_of_varying_length_give_the_reference_bits_in_every_method(
    overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_bits("next_token", monkeypatch, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [("method.name=fsl_sage", *ALIGNED), ("method.name=sflv2",), ("method.name=fedavg",)],
    ids=["fsl_sage", "sflv2", "fedavg"],
)
@pytest.mark.parametrize("kind", ["regression", "per_pixel"])
def test_labels_that_are_no_classes_give_the_reference_bits_in_other_methods(
    kind: str, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_bits(kind, monkeypatch, *overrides)
