"""The client's side of the activation codec: micro-batches on their way up, cut gradients as they came."""

from __future__ import annotations

import numpy as np

from heron_client.compute.backend import Backend
from heron_client.transport.received import ADVICE, from_server
from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.errors import DataError, TensorError
from heron_core.streams import Part
from heron_core.wire.activation_codec import ActivationCodec, floating


def encoded(
    codec: ActivationCodec, backend: Backend, activations: list[Array], labels: Array, seed: int, *path: Part
) -> dict[str, Array]:
    """What travels for one micro-batch, by name; `path` names its random streams, such as ("round", 3, "step", 0).

    DataError: the activations are not finite, and the codec has no code for that.
    """
    cut = backend.activations
    try:
        arrays = codec.encode(activations, cut, seed, *path)
    except TensorError as error:
        place = ", ".join(f"{name} {number}" for name, number in zip(path[::2], path[1::2], strict=True))
        raise DataError(
            f"{place}: {error}; lower method.optimizer.lr, or look for NaN in this client's data"
        ) from None
    return dict(zip([spec.name for spec in (*cut, backend.labels.tensor)], [*arrays, labels], strict=True))


def decoded(codec: ActivationCodec, backend: Backend, came: CutGradients, rows: int, length: int) -> CutGradients:
    """The gradients [rows, ...] that came; their list is emptied: whoever holds it shall not hold them.

    ServerTensorError: no codec gives these.
    """
    loss, arrays = came
    specs = floating(backend.activations)
    with from_server():
        try:
            gradients = codec.decode(arrays, specs, rows, np.empty, length=length)
        except TensorError as error:
            raise TensorError(f"the server's cut gradients: {error}; {ADVICE}") from None
    arrays.clear()
    return loss, gradients
