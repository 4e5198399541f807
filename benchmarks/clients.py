"""Clients to measure: the product's, of every method, and stock torch's. ResNet-18 (small stem), cut layer1.0.

The product's side runs whole local rounds: batch, passes, optimiser, codec, uploader, serialised frames. Only the
socket is missing; what the server would answer is made up.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from common import exhaust  # puts the repository on the path
from torch import Tensor, nn

BATCH = 256
END = object()


def run_spec(method: dict[str, Any], norm: str = "batch", head: str = "flatten_linear", steps: int = 1) -> Any:
    """The paper's client with this method table; Adam 1e-4, and heron's head by losses alone unless the table says."""
    from heron_core.spec.run_spec import RunSpec

    optimizer = {} if method.get("name") == "frozen" else {"optimizer": {"name": "adam", "lr": 1e-4}}
    head_by = {"auxiliary_update": "zo"} if method.get("name") == "heron" else {}
    return RunSpec.model_validate({
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": norm, "auxiliary": head},
        "federation": {"clients": 5},
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


class ProductClient:
    """The compute side with its local rounds, for any method."""

    def __init__(self, spec: Any, device: str = "cpu") -> None:
        from heron_client.compute.backends.torch_backend import TorchBackend
        from heron_core.data.source import ArraySource
        from heron_core.models import build_split_model
        from heron_core.spec.role import role_of

        self.spec, self.device = spec, torch.device(device)
        self.model = build_split_model(spec.model)
        self.backend = TorchBackend(self.model, role_of(spec), self.device)
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

    def bare_inputs(self) -> list[Tensor]:
        """A batch in torch's memory, in the spec's micro-batches."""
        from heron_core.device import to_inputs

        rows = self.spec.method.micro_batch_rows
        (x,), _ = self.source.batch(np.arange(self.spec.method.batch_size))
        whole = range(0, len(x), rows)
        return [to_inputs([x[i : i + rows]], self.device, self.model.channels_last)[0] for i in whole]

    @torch.inference_mode()
    def bare(self, micro_batches: list[Tensor], passes: int) -> None:
        """Bare forward passes of the same modules."""
        modules = self.backend.modules
        for _ in range(passes):
            for x in micro_batches:
                modules.head(modules.front(x))


def _next(uploads: Any, answers: list[Any]) -> Any:
    """What the round yields next, END after the last; the answer is not kept here."""
    try:
        return uploads.send(answers.pop())
    except StopIteration:
        return END


# -- stock torch, first order ------------------------------------------------------------------------------------


def stock_norm(norm: str) -> nn.Module:
    return nn.GroupNorm(32, 64) if norm == "group" else nn.BatchNorm2d(64)


class StockBlock(nn.Module):
    """ResNet's basic block, as torchvision writes it."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x
        return self.relu(out)


class StockClient:
    """CSE-FSL's step as plain torch: nn modules, autograd, torch.optim.Adam; nothing is uploaded."""

    def __init__(self, norm: str, head: str, steps: int = 1, device: str = "cpu") -> None:
        torch.set_num_threads(1)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
        flat = [nn.Flatten(), nn.Linear(65536, 10)]
        stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), stock_norm(norm), nn.ReLU(inplace=True)]
        self._net = nn.Sequential(*stem, StockBlock(norm), *(pooled if head == "gap_linear" else flat)).to(device)
        self._steps, self._device = steps, device
        self._x, self._labels = images(2 * BATCH)
        self._optimizer: Any = None

    def warm_up(self) -> None:
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=1e-4)
        self._step(np.arange(2))
        self._net.zero_grad(set_to_none=True)
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=1e-4)

    def round(self) -> None:
        for number in range(self._steps):
            self._step(np.arange(BATCH) + number % 2 * BATCH)

    def _step(self, rows: np.ndarray) -> None:
        x = torch.from_numpy(self._x[rows]).to(self._device).float() / 255
        labels = torch.from_numpy(self._labels[rows]).to(self._device)
        self._optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self._net(x), labels).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
