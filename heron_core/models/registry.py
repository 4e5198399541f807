"""From the run spec's [model] table to a SplitModel: a built-in family, or a user's own factory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.adapt.lora import with_adapters
from heron_core.models.adapt.trainable import only_last_layers, only_normalisation, whole_front
from heron_core.models.from_module import CutModule, split_cut_module
from heron_core.models.lint.fresh import NewEachTime
from heron_core.models.names import nearest
from heron_core.models.split_model import SplitModel
from heron_core.models.weights import starting_from
from heron_core.models.weights import weights_folder as folder_of_weights
from heron_core.own_code import said_by
from heron_core.spec.methods import PARTS
from heron_core.spec.run_spec import ModelSpec

CAUSAL_LM = "causal_lm"
BUILT_IN: Mapping[str, str] = {
    "digits_cnn": "heron_core.models.families.digits_cnn:digits_cnn",
    "cifar_cnn": "heron_core.models.families.cifar_cnn:cifar_cnn",
    "series_cnn": "heron_core.models.families.series_cnn:series_cnn",
    "mlp": "heron_core.models.families.mlp:mlp",
    "resnet18": "heron_core.models.families.resnet:resnet",
    "resnet34": "heron_core.models.families.resnet:resnet",
    "resnet50": "heron_core.models.families.resnet:resnet",
    CAUSAL_LM: "heron_core.models.language.causal_lm:causal_lm",
}


def is_own(spec: ModelSpec) -> bool:
    """Is it a user's own model, rather than a built-in family?"""
    return spec.name not in BUILT_IN


def build_split_model(
    spec: ModelSpec,
    *,
    allowed: Collection[str] | None = None,
    data_folder: Path | None = None,
    weights_folder: Path | None = None,
    fetches: bool = False,
) -> SplitModel:
    """The split model that `spec` describes; its parts are not built yet, but for one front where it must be looked at.

    `allowed`: names of user code that may be imported; None allows any (the operator wrote the run file).
    `data_folder`: where model.weights lies; None means $HERON_DATA. `weights_folder`: the folder of model.weights
    itself, where this side names it. `fetches`: for a client, which reads model.weights only where it must. ModelError:
    an unknown name or cut, code that is not allowed or fails, a setting that contradicts it. DataError: model.weights
    is not there, or another.
    """
    model: SplitModel
    front: nn.Module | None
    if spec.name in BUILT_IN:
        _refuse_options(spec)
    if spec.name == CAUSAL_LM:
        model, front = _find(BUILT_IN[spec.name])(spec, data_folder, checks=not fetches), None
    elif spec.name in BUILT_IN:
        model, front = _find(BUILT_IN[spec.name])(spec), None
    else:
        model, front = _users_own(spec, allowed)
    if (spec.trainable == "all" or spec.name == CAUSAL_LM) and not spec.weights:
        return model
    front = model.build("front", 0) if front is None else front
    model = model if spec.name == CAUSAL_LM else _restricted(model, front, spec)
    if not spec.weights:
        return model
    find = partial(folder_of_weights, spec.weights, data_folder, weights_folder)
    return starting_from(model, front, spec, find, fetches=fetches)


def _restricted(model: SplitModel, front: nn.Module, spec: ModelSpec) -> SplitModel:
    """`model` with model.trainable applied. ModelError if the front has nothing of that kind."""
    match spec.trainable:
        case "all":
            return model
        case "frozen_too":
            return whole_front(model, front)
        case "norm":
            return only_normalisation(model, front)
        case "last_n_layers":
            return only_last_layers(model, front, spec.last_layers)
        case "lora":
            return with_adapters(model, front, spec.lora_rank)


def _refuse_options(spec: ModelSpec) -> None:
    if spec.options:
        raise ModelError(
            f"model.options is for your own factory, {spec.name} takes none, "
            f"got {', '.join(map(repr, spec.options))}; "
            "use cut, norm, auxiliary, stem, input_shape, classes or widths"
        )


def _users_own(spec: ModelSpec, allowed: Collection[str] | None) -> tuple[SplitModel, nn.Module | None]:
    """The model, and a front where cutting it took one."""
    if ":" not in spec.name:
        raise ModelError(
            f"unknown model {spec.name!r}{nearest(spec.name, BUILT_IN)}; take one of {', '.join(BUILT_IN)}, "
            "or your own as package.module:factory"
        )
    if allowed is not None and spec.name not in allowed:
        raise ModelError(
            f"the run wants the model code {spec.name!r}, this side allows {sorted(allowed) or 'none'}; "
            "if you trust it, add it to allow_model_code in the client's file"
        )
    return as_split_model(_call(_find(spec.name), spec), spec)


def as_split_model(made: object, spec: ModelSpec) -> tuple[SplitModel, nn.Module | None]:
    """What a user's factory, called spec.name, returned; and a front where cutting it took one. Raises ModelError."""
    front = None
    if isinstance(made, CutModule):
        model, front = split_cut_module(made, cut=spec.cut, auxiliary=spec.auxiliary)
    elif not isinstance(made, SplitModel):
        raise ModelError(f"{spec.name} must return a SplitModel or a CutModule, it returned {type(made).__name__}")
    elif spec.cut:
        raise ModelError(
            f"model.cut = {spec.cut!r} has no effect on {spec.name}, which cuts its model itself; "
            "leave it empty, or pass the place through model.options"
        )
    else:
        factories = [NewEachTime(getattr(made, part), f"the factory of {part}") for part in PARTS]
        model = replace(made, front=factories[0], auxiliary=factories[1], back=factories[2])
    _check_promises(spec, model)
    return model, front


def _find(name: str) -> Callable[..., Any]:
    """The object behind `package.module:factory`. ModelError: no such module or name, or the import fails."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"cannot import {module_name!r} for model {name!r}: {said_by(error)}; "
            "check the name, and that the package is installed or on PYTHONPATH"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise ModelError(f"{module_name} has no callable {attribute!r}{nearest(attribute, known)}")
    return factory  # type: ignore[no-any-return]


def _call(factory: Callable[..., Any], spec: ModelSpec) -> object:
    try:
        return factory(**spec.options)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{spec.name} failed with model.options = {spec.options}: {said_by(error)}") from error


DTYPES = ("float32", "float16", "float64", "int64", "int32", "uint8", "bool")
"""Of inputs and activations: those that NumPy, torch and the wire have."""


def _check_promises(spec: ModelSpec, model: SplitModel) -> None:
    for given in (*model.inputs, *model.activations):
        if given.dtype not in DTYPES:
            raise ModelError(
                f"{given.name} of {spec.name} must be one of {', '.join(DTYPES)}, got {given.dtype!r}; mend it"
            )
    takes = model.inputs[0].shape
    if spec.input_shape and spec.input_shape != takes:
        raise ModelError(
            f"model.input_shape is {list(spec.input_shape)}, {spec.name} takes {list(takes)}; "
            "make them agree or leave it empty"
        )
    if spec.task and spec.task != model.task.name:
        raise ModelError(
            f'model.task is "{spec.task}", {spec.name} is for "{model.task.name}"; make them agree or leave it empty'
        )
    outputs = model.classes or model.task.output_shape[-1]
    if spec.classes and spec.classes != outputs:
        raise ModelError(f"model.classes is {spec.classes}, {spec.name} has {outputs}; make them agree or leave it 0")
