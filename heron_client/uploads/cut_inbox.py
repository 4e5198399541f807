"""Cut gradients on their way down: collected chunk by chunk, checked before anybody uses them."""

from __future__ import annotations

from math import isfinite

from heron_client.transport.received import ADVICE, from_server
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.codec import BundleReceiver, Expected, check_finite, check_manifest, empty_arrays
from heron_core.wire.frames import Bulk

ORIGIN = "the server's cut gradients"


class CutInbox:
    """Holds one step's bundle. A bundle that begins again, as after a broken stream, is taken from its start."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._expected: Expected = ()
        self._arrays = empty_arrays([])
        self._receiver: BundleReceiver | None = None
        self._loss = 0.0
        self.newest_step = -1
        """Of all gradients that came, wanted or not."""

    def want(self, upload: Upload) -> None:
        """From here on the gradients that this upload wants are taken."""
        if self._step != upload.step:
            self._step, self._receiver, self._arrays = upload.step, None, {}
            self._expected = upload.gradients

    def put(self, bulk: Bulk[pb.PushEvent]) -> None:
        """Takes one chunk; of another step than the wanted one it is ignored.

        ServerTensorError: not what was announced, or not finite.
        """
        chunk = bulk.rest.cut_gradients
        self.newest_step = max(self.newest_step, chunk.step)
        if chunk.step == self._step:
            with from_server():
                self._take_in(chunk, bulk.payload, f"{ORIGIN}, step {chunk.step}")

    def _take_in(self, chunk: pb.CutGradients, payload: memoryview, origin: str) -> None:
        if chunk.offset == 0:
            check_manifest(chunk.manifest, self._expected, origin)
            self._arrays, self._loss = empty_arrays(self._expected), chunk.loss
            self._receiver = BundleReceiver(list(self._arrays.values()), origin)
        if self._receiver is None:
            raise TensorError(f"{origin}: expected the chunk at byte 0, got the one at {chunk.offset}")
        self._receiver.write(chunk.offset, payload)
        if self._receiver.complete:
            check_finite(self._arrays, origin, ADVICE)
            if not isfinite(self._loss):
                raise TensorError(f"{origin}: the loss must be finite, got {self._loss}; {ADVICE}")

    def take(self) -> CutGradients | None:
        """The wanted step's loss and gradients once they are whole; then they are the caller's alone."""
        if self._receiver is None or not self._receiver.complete:
            return None
        arrays, self._arrays, self._receiver, self._step = self._arrays, {}, None, None
        return self._loss, list(arrays.values())
