"""Losses and counts of logits that are computed slice by slice are those of the whole logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heron_core.labels import IGNORED
from heron_core.models.tasks import token_logits
from heron_core.models.tasks.next_token import NextToken
from heron_core.models.tasks.token_logits import TokenLogits, whole

VOCABULARY, LENGTH, WIDTH = 11, 7, 4


@pytest.fixture(params=[1, 3, 1000])
def tokens_a_slice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count = int(request.param)
    monkeypatch.setattr(token_logits, "SLICE_BYTES", 4 * VOCABULARY * count)
    return count


def made(seen: list[int]) -> tuple[TokenLogits, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, LENGTH, WIDTH, generator=random, requires_grad=True)
    matrix = 5 * torch.randn(WIDTH, VOCABULARY, generator=random)
    labels = torch.randint(VOCABULARY, (3, LENGTH), generator=random)
    labels[0, 4:], labels[2] = IGNORED, IGNORED

    def unembed(some: torch.Tensor) -> torch.Tensor:
        seen.append(len(some))
        return some @ matrix

    return TokenLogits(hidden, unembed, VOCABULARY), labels


@pytest.mark.parametrize("graph", [True, False])
def test_losses_and_their_gradient_are_those_of_the_whole(graph: bool, tokens_a_slice: int) -> None:
    task, seen = NextToken(VOCABULARY, LENGTH), list[int]()
    outputs, labels = made(seen)
    with torch.set_grad_enabled(graph):
        losses = task.losses(outputs, labels)
    assert max(seen) <= tokens_a_slice and sum(seen) == 4 + LENGTH  # ignored positions cost nothing
    with torch.no_grad():
        assert torch.equal(losses, task.losses(outputs, labels))  # bit for bit: zeroth order compares both
    expected = task.losses(whole(outputs), labels)
    torch.testing.assert_close(losses, expected)
    if graph:
        ours, theirs = (torch.autograd.grad(each.sum(), outputs.hidden_BTH)[0] for each in (losses, expected))
        torch.testing.assert_close(ours, theirs)


def test_what_is_measured_is_measured_alike(tokens_a_slice: int) -> None:
    task = NextToken(VOCABULARY, LENGTH)
    outputs, labels = made([])
    with torch.no_grad():
        ours, theirs = task.measure(outputs, labels), task.measure(whole(outputs), labels)
    np.testing.assert_array_equal(ours["token_accuracy"], theirs["token_accuracy"])
    np.testing.assert_allclose(ours["token_loss"], theirs["token_loss"], rtol=1e-6)


def test_samples_of_which_nothing_counts_have_no_loss() -> None:
    outputs, labels = made([])
    with torch.no_grad():
        assert NextToken(VOCABULARY, LENGTH).losses(outputs, torch.full_like(labels, IGNORED)).tolist() == [0, 0, 0]
