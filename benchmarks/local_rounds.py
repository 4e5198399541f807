"""What the product's client does in its local rounds, over any backend: batch, passes, optimiser, codec, uploader,
serialised frames. Only the socket is missing; what the server would answer is made up. Torch is not imported here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from common import exhaust  # puts the repository on the path

BATCH = 256
END = object()


def run_spec(
    method: dict[str, Any], norm: str = "batch", head: str = "flatten_linear", steps: int = 1, cut: str = "layer1.0",
    codec: str = "raw",
) -> Any:  # fmt: skip
    """The paper's client with this method table; Adam 1e-4, and heron's head by losses alone unless the table says."""
    from heron_core.spec.run_spec import RunSpec

    optimizer = {} if method.get("name") == "frozen" else {"optimizer": {"name": "adam", "lr": 1e-4}}
    head_by = {"auxiliary_update": "zo"} if method.get("name") == "heron" else {}
    return RunSpec.model_validate({
        "model": {"name": "resnet18", "cut": cut, "norm": norm, "auxiliary": head},
        "federation": {"clients": 5},
        "codec": {"uploads": codec},
        "method": {"batch_size": BATCH, "local_steps": steps, **optimizer, **head_by, **method},
    })  # fmt: skip


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, count)


class Sink:
    """A PushStream that serialises every frame, as the gRPC transport does, and acknowledges as late as it may."""

    def __init__(self) -> None:
        self._last = b""
        self._sent: deque[int] = deque()
        self._opened = False

    def send(self, frame: Any) -> None:
        from heron_core.wire.frames import serialize

        self._last = serialize(frame)
        sequence = frame.rest.header.sequence
        if not self._sent or self._sent[-1] != sequence:
            self._sent.append(sequence)

    def receive(self, timeout_s: float) -> Any:
        from heron_core.pb.v1 import split_pb2 as pb
        from heron_core.wire.frames import Bulk

        if not self._opened:
            self._opened = True
            return Bulk(pb.PushEvent(position=pb.Position(sequence=0, credit_steps=1 << 20)))
        if timeout_s and self._sent:
            return Bulk(pb.PushEvent(acknowledged=pb.Acknowledged(sequence=self._sent.popleft() + 1)))
        return None

    def close(self) -> None: ...


class LocalRounds:
    """A backend's local rounds on noise."""

    def __init__(self, spec: Any, backend: Any) -> None:
        from heron_core.data.source import ArraySource

        self.spec, self.backend = spec, backend
        self.source = ArraySource(*images(2 * spec.method.batch_size))

    def warm_up(self) -> None:
        """One step of two samples: the code has run, and nothing of it is kept."""
        self.round(2)

    def round(self, rows: int = 0) -> Any:
        """One local round of the spec's steps; returns its figures."""
        from heron_client.compute.batch import Batches
        from heron_client.compute.client_state import ClientState
        from heron_client.compute.local_round import LocalRound
        from heron_client.uploads.uploader import Uploader
        from heron_core.data.batches import BatchOrder
        from heron_core.pb.v1 import split_pb2 as pb

        method = self.spec.method if not rows else self._of_rows(rows)
        order = BatchOrder(0, 0, len(self.source), method.batch_size)
        batches = Batches(self.source, order, method, 1, 0, self.spec.rounds)
        local = LocalRound(method, self.spec.seed, ClientState(self.backend, method), batches)
        uploader = Uploader(pb.FrameHeader(run_id="r", session_id="s", term=1, round=1, purpose=pb.PURPOSE_TRAIN))
        exhaust(uploader.attach(Sink(), 1.0))
        uploads, answers, owed = local.uploads(), [None], ()
        while (upload := _next(uploads, answers)) is not END:
            if upload is None:  # it needs what it is owed, or a step has sent nothing
                exhaust(uploader.settle(1.0))
                answers.append((2.3, [np.full(shape, 1e-6, dtype) for _, dtype, shape in owed]) if owed else None)
                continue
            exhaust(uploader.push(upload, 1.0))
            owed = upload.gradients
            upload = None
            answers.append(None)
        exhaust(uploader.settle(1.0))
        return local.figures

    def _of_rows(self, rows: int) -> Any:
        return self.spec.method.model_copy(update={"batch_size": rows, "micro_batch": 0, "local_steps": 1})


def _next(uploads: Any, answers: list[Any]) -> Any:
    """What the round yields next, END after the last; the answer is not kept here."""
    try:
        return uploads.send(answers.pop())
    except StopIteration:
        return END
