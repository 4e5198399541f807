"""How a client steps, one file for each way of moving its parameters."""

from __future__ import annotations

from heron_client.compute.backend import FirstOrderBackend, lacks
from heron_client.compute.client_state import ClientState
from heron_client.compute.steps.cut_gradients import CutGradientStepper
from heron_client.compute.steps.cut_slopes import CutSlopeStepper
from heron_client.compute.steps.first_order import FirstOrderStepper
from heron_client.compute.steps.frozen import FrozenStepper
from heron_client.compute.steps.moving import Moving
from heron_client.compute.steps.stepper import Stepper
from heron_client.compute.steps.zeroth_order import ZerothOrderStepper
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec


def make_stepper(method: MethodSpec, seed: int, state: ClientState) -> Stepper:
    """A fresh stepper of the run's method: its optimiser begins with the moments that were fetched.

    ConfigError: the method backpropagates, and the backend cannot.
    """
    composition, backend = method_of(method), state.backend
    if composition.front == "none":
        return FrozenStepper(backend)
    if composition.front == "zeroth_order" and composition.returns_cut_gradients:
        return CutSlopeStepper(method.zo, seed, backend, Moving(state))
    if composition.front == "zeroth_order":
        return ZerothOrderStepper(method.zo, composition.head, seed, backend, Moving(state))
    if not isinstance(backend, FirstOrderBackend):
        raise lacks(backend, "backpropagate", f'method.name = "{method.name}"')
    if composition.front == "cut_gradients":
        return CutGradientStepper(backend, Moving(state))
    return FirstOrderStepper(backend, Moving(state))
