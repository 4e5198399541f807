"""A factory that gives a new module at each call."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from torch import Tensor, nn

from heron_core.errors import ModelError


class NewEachTime:
    """Refuses a module of `factory` whose weights were given out before: what one run moved, the next would begin with.

    Weights that their module has frozen may be the same ones each time: nobody moves them.
    """

    def __init__(self, factory: Callable[[], nn.Module], whose: str) -> None:
        self.factory, self._whose = factory, whose
        self._given: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def __call__(self) -> nn.Module:
        """A new module, or whatever else the factory gives. Raises ModelError, and what the factory does."""
        module = self.factory()
        if not isinstance(module, nn.Module):
            return module
        moving = {name: p for name, p in module.named_parameters() if p.requires_grad}
        again = [name for name, parameter in moving.items() if self._given.get(id(parameter)) is parameter]
        if again:
            raise ModelError(
                f"{self._whose} must build a new module at each call, the second one has the same {again[0]} as the "
                "first; make the module inside the function, as in lambda: Net()"
            )
        self._given.update({id(parameter): parameter for parameter in moving.values()})
        return module
