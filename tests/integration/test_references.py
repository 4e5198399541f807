"""The reference loops are right themselves: against one another, and against ordinary training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from integration import reference_loop
from integration.reference_align import align
from integration.reference_estimators import own_parameters
from integration.reference_parts import Client, Run, fill, flat, make_optimizer
from integration.references import reference_run
from integration.test_bit_identity import JOINT, MODELS, SGD, spec_of

from heron_core.models import lean
from heron_core.spec.run_spec import RunSpec

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("zo", [{}, {"num_directions": 3, "difference": "central", "distribution": "gaussian"}])
def test_the_loop_with_options_equals_the_papers_where_none_is_used(zo: dict[str, Any], model: str) -> None:
    spec = spec_of(method=JOINT, zo=zo, **MODELS[model])
    assert reference_run(spec) == reference_loop.reference_run(spec)


def trained(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The final tensors of the spec's reference loop, by name in the whole network."""
    kept: dict[str, torch.Tensor] = {}

    def keep(run: Run, client_state: dict[str, Any], back: Any = None) -> str:
        kept.update(client_state)
        kept.update({f"back.{n}": t.clone() for n, t in (back or run.back).state_dict().items()})
        return ""

    monkeypatch.setattr(Run, "sha256", keep)
    reference_run(spec)
    return kept


def centralised(spec: RunSpec) -> dict[str, torch.Tensor]:
    """One optimiser on front and back joined, on the batches of a single client: no federation at all."""
    run = Run(spec)
    net = torch.nn.ModuleDict({part: run.model.build(part, spec.seed) for part in ("front", "back")}).train()
    rule = make_optimizer(spec.server_optimizer, list(net.parameters()))
    for round_ in range(1, spec.rounds + 1):
        for m in range(spec.method.local_steps):
            [(x, y)] = run.pieces(0, round_, m)
            rule.zero_grad()
            run.model.task.losses(net["back"](net["front"](*x)), y).mean().backward()
            rule.step()
    return dict(net.state_dict())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", [{"name": "adam"}, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("name", ["fedavg", "sflv1", "sflv2"])
def test_one_client_with_moments_that_last_is_centralised_training(
    name: str, optimizer: dict[str, Any], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(
        method={"name": name, "moments": "kept", "optimizer": optimizer},
        server_optimizer=optimizer,
        **{**MODELS[model], "federation": {"clients": 1}},
    )
    found = trained(spec, monkeypatch)
    for key, tensor in centralised(spec).items():
        torch.testing.assert_close(found[key], tensor, **CLOSE)


def test_own_parameters_give_each_sample_what_it_would_get_alone() -> None:
    run = Run(spec_of(model={"trainable": "norm"}))
    client = Client(run, 0, ("front", "auxiliary"), ("front",))
    [((x,), _)] = run.pieces(0, 1, 0)
    theta = flat(client.params)
    theta_BF = theta + 0.3 * torch.randn(len(x), len(theta), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with own_parameters(client, client.params, theta_BF), lean.whole_batches():
            together = client.net["front"](x)
        for sample, own in enumerate(theta_BF):
            fill(client.params, own)
            torch.testing.assert_close(together[sample], client.net["front"](x[sample : sample + 1])[0], **CLOSE)


def test_alignment_brings_a_heads_cut_gradient_to_the_servers() -> None:
    aligning = {"every_rounds": 1, "passes": 200, "lr": 1e-2}
    run = Run(spec_of(method={"name": "fsl_sage", "alignment": aligning}, model={"auxiliary": "flatten_linear"}))
    head, front = run.model.build("auxiliary", 0), run.model.build("front", 0)
    with torch.no_grad():
        uploads = [((front(*x),), y) for m in range(3) for x, y in run.pieces(0, 1, m)]

    def distance() -> float:
        total = 0.0
        for (z,), y in uploads:
            at = z.clone().requires_grad_()
            ours, theirs = (
                torch.autograd.grad(run.model.task.losses(part(at), y).sum(), at)[0] for part in (head, run.back)
            )
            total += float((ours - theirs).square().sum())
        return total

    before = distance()
    align(run, 1, 0, head, uploads)
    assert distance() < 0.5 * before
