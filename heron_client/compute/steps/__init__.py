"""How a client steps, one file for each way of moving its parameters."""

from __future__ import annotations

from heron_client.compute.steps.batch import Stepper
from heron_client.compute.steps.cut_gradients import CutGradientStepper
from heron_client.compute.steps.first_order import FirstOrderStepper
from heron_client.compute.steps.frozen import FrozenStepper
from heron_client.compute.steps.zeroth_order import ZerothOrderStepper
from heron_client.compute.torch_backend import ClientCompute
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec


def make_stepper(spec: RunSpec, compute: ClientCompute) -> Stepper:
    """A fresh stepper of the run's method: its optimiser begins with the moments that `compute` fetched."""
    match method_of(spec.method).front:
        case "zeroth_order":
            return ZerothOrderStepper(spec, compute)
        case "auxiliary_loss" | "whole_model":
            return FirstOrderStepper(compute)
        case "cut_gradients":
            return CutGradientStepper(compute)
        case "none":
            return FrozenStepper(compute)
