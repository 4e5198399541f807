"""What mu * u means at the paper's setting."""

from __future__ import annotations

import pytest

from heron_core.spec.run_spec import ZoSpec
from heron_server.planning.perturbation import perturbation


def test_on_the_sphere_the_whole_change_is_mu() -> None:
    sphere = perturbation(ZoSpec(), perturbed=731_210, rows=256, classes=10)
    assert sphere.rms == pytest.approx(1e-3 / 855.1, rel=1e-3)
    assert sphere.length == pytest.approx(1e-3)


def test_with_unit_variance_each_weight_s_is() -> None:
    gaussian = perturbation(ZoSpec(distribution="gaussian"), perturbed=731_210, rows=256, classes=10)
    assert gaussian.rms == pytest.approx(1e-3)
    assert gaussian.length == pytest.approx(0.855, rel=1e-3)
