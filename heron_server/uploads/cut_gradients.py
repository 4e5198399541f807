"""The newest cut gradients of each client: on their way down, and until the client shows that it has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from heron_core.arrays import Array
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk


@dataclass(frozen=True)
class CutGradients:
    """d loss / d activations of one upload, for its mean loss before the server's step."""

    number: int
    """Of the upload, within its round."""
    loss: float
    tensors: Mapping[str, Array]
    """What travels for the gradients of the cut's floating-point tensors [B, ...], row-major, by name."""

    def events(self) -> Iterator[Bulk[pb.PushEvent]]:
        """The bundle's chunks; the manifest and the loss travel with the first."""
        for offset, parts in chunks(list(self.tensors.values())):
            event = pb.CutGradients(step=self.number, offset=offset, loss=self.loss)
            if offset == 0:
                event.manifest.CopyFrom(manifest_of(self.tensors))
            yield Bulk(pb.PushEvent(cut_gradients=event), parts)


class Unconfirmed:
    """At most one bundle a client: it sends its next upload, or its update, only once it has the last one's."""

    def __init__(self) -> None:
        self._newest: dict[str, CutGradients] = {}

    def keep(self, name: str, gradients: CutGradients) -> None:
        """They are on their way down."""
        self._newest[name] = gradients

    def confirm(self, name: str, number: int) -> None:
        """A frame of upload `number` came: the client has what came before."""
        if name in self._newest and number > self._newest[name].number:
            del self._newest[name]

    def forget(self, name: str) -> None:
        """The client's update came, or it is out of the round."""
        self._newest.pop(name, None)

    def again(self, name: str) -> CutGradients | None:
        """What a stream that comes back shall begin with."""
        return self._newest.get(name)
