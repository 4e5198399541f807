"""Uploads on their way in: checked, and put together straight into the tensors that the worker will use.

Shape suffix: B, rows of a whole upload.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.activation_codec import CODECS, ActivationCodec
from heron_core.wire.codec import BundleReceiver, Expected, check_manifest, expected_bytes
from heron_core.wire.labels import NUMBERS, SENT, numbers_of
from heron_core.wire.versions import Uploads
from heron_server.uploads.held import SamplesHere

MOST_REPEATED = 256
"""Frames of one stream that are here already. A client sends none: it goes on from Position."""


@dataclass(frozen=True)
class UploadShape:
    """What uploads of one purpose look like."""

    tensors: tuple[TensorSpec, ...]
    """Of one sample: the activations before they are encoded, then the labels as they travel."""
    batch_rows: int
    micro_rows: int
    """That travel together: of one micro-batch or of several small ones, which are one to the assembly."""
    codec: ActivationCodec = CODECS["raw"]
    """Of the activations."""
    encoded_rows: int = 0
    """That are encoded together: of one micro-batch. 0: all that travel together."""
    reuses: bool = False
    """Only rows that are not here yet come, in one micro-batch, with the numbers of all."""
    moving: bool = False
    """Of these also rows that have moved come again; the upload says which."""

    def parts(self, rows: int) -> int:
        """So many rows have been encoded in so many parts: those of a smaller upload in one."""
        each = self.encoded_rows or self.micro_rows
        return 1 if rows % each else max(1, rows // each)

    def travels(self, rows: int, length: int = 0) -> Expected:
        """(name, dtype, shape) of each tensor of so many rows: of an upload, or of what travels together of it; its
        parts stand one behind the other. `length`: of sequences that vary. Of reused rows, the most that come."""
        if self.reuses:
            return self.reused(rows, rows, NUMBERS)
        *activations, labels = self.tensors
        parts = self.parts(rows)
        each = self.codec.travels(activations, rows // parts, length)
        of_labels = CODECS["raw"].travels([labels], rows, length)
        return [*((name, dtype, (parts * first, *rest)) for name, dtype, (first, *rest) in each), *of_labels]

    def reused(self, rows: int, new: int, numbers: TensorSpec) -> Expected:
        """As `travels`, of an upload of which only the `new` rows come."""
        *activations, labels = self.tensors
        raw = CODECS["raw"]
        sent = [(SENT, "uint8", (-(-rows // 8),))] if self.moving else []
        return [
            *self.codec.travels(activations, new), *raw.travels([labels], new), *sent, *raw.travels([numbers], rows)
        ]  # fmt: skip

    @property
    def size_bytes(self) -> int:
        """Of one whole upload, of the longest sequences."""
        return expected_bytes(self.travels(self.batch_rows, self.longest))

    @property
    def longest(self) -> int:
        """Of sequences that vary; 0 where none does."""
        return next((spec.shape[0] for spec in self.tensors if spec.variable), 0)


@dataclass(frozen=True)
class Reused:
    """Of which samples an upload is."""

    numbering: bytes
    samples: int
    numbers_B: Array
    sent_B: NDArray[np.bool_]
    """Those whose rows came."""
    brought_B: Uploads
    """Which of the client's uploads brought each."""


@dataclass(frozen=True)
class Upload:
    """One whole upload."""

    number: int
    """Within its round or evaluation, from 0."""
    activations: tuple[Tensor, ...]
    """The cut's tensors [B, ...], in torch's own aligned memory: as they travelled, micro-batch behind micro-batch,
    until the trainer decodes them."""
    labels_B: Tensor
    """Until then as they travelled, too."""
    length: int = 0
    """Of its sequences, where they vary."""
    parts: int = 1
    """Micro-batches that it came in."""
    reused: Reused | None = None
    """Where only rows came that were not here yet: the numbers of all."""


@dataclass(frozen=True)
class Taken:
    """What one frame completed."""

    sequence: int | None = None
    """Micro-batches received whole so far, if this frame completed one."""
    label_bytes: int = 0
    upload: Upload | None = None


class BufferPool:
    """Buffers for whole uploads, which come back: fresh pages cost as much time as filling them. Thread-safe.

    It never holds more of them than were in use at once, and so stays within the byte budget.
    """

    def __init__(self, shape: UploadShape) -> None:
        self._shape = shape
        self._free: list[list[Tensor]] = []
        self._whole = shape.travels(shape.batch_rows, shape.longest)
        self._recycles = not shape.longest and not shape.reuses
        self._batch_rows = shape.batch_rows

    def fits(self, shape: UploadShape) -> bool:
        """Are uploads of this shape as large, whatever the micro-batches that they come in?"""
        return self._whole == shape.travels(shape.batch_rows, shape.longest)

    def take(self, rows: int, length: int = 0) -> list[Tensor]:
        """Room for an upload of so many rows, `length`: of sequences."""
        if rows == self._shape.batch_rows and self._free:
            return self._free.pop()
        return _room(self._shape.travels(rows, length))

    def give(self, upload: Upload) -> None:
        """The upload is consumed: nobody may look at its tensors any more."""
        if self._recycles and len(upload.labels_B) == self._shape.batch_rows:
            self._free.append([*upload.activations, upload.labels_B])


def _room(expected: Expected) -> list[Tensor]:
    """Uninitialised, in torch's own aligned memory."""
    return [torch.empty(size, dtype=getattr(torch, dtype)) for _, dtype, size in expected]


class Assembly:
    """One client's uploads of one round, in order. Raises TensorError and stores nothing that does not fit."""

    def __init__(
        self, client: str, shape: UploadShape, count: int, exact: bool, pool: BufferPool,
        here: SamplesHere | None = None,
    ) -> None:  # fmt: skip
        """`exact`: every upload is a whole batch, in micro-batches; else the last may be smaller, each in one. `here`:
        of a shape that reuses, the client's samples."""
        assert shape.reuses == (here is not None), "whoever reuses samples knows which are here"
        self._client, self._shape, self.count, self._exact, self._pool = client, shape, count, exact, pool
        self._here = here
        self.sequence = 0
        """Micro-batches received whole."""
        self._number = 0
        self._rows = self._batch_rows = self._length = 0
        self._buffers: list[Tensor] = []
        self._receiver: BundleReceiver | None = None
        self._micro = 0
        self._label_bytes = 0
        self._repeated = 0
        """Frames of this stream that were here already."""

    @property
    def received_bytes(self) -> int:
        """Of the micro-batch that is not whole yet."""
        return self._receiver.received if self._receiver is not None else 0

    def opened(self, opening: pb.FrameHeader) -> bytes:
        """The client's stream begins: what of its samples is here, for its Position. Raises TensorError."""
        self.forget_partial()
        return b"" if self._here is None else self._here.open(opening.numbering, opening.samples, opening.kept)

    def forget_partial(self) -> None:
        """The stream broke: an unfinished micro-batch comes again from its start."""
        self._receiver, self._repeated = None, 0

    def take(self, header: pb.FrameHeader, payload: memoryview, credit: int) -> Taken:
        """Stores one frame's bytes."""
        origin = f"client {self._client!r}, round {header.round}, upload {header.step}"
        if header.sequence < self.sequence:
            self._repeated += 1
            if self._repeated > MOST_REPEATED:
                raise TensorError(f"{origin}: {MOST_REPEATED} frames came again and again; go on from Position")
            return Taken()  # it is here already
        if header.sequence != self.sequence or header.step != self._number or header.step >= self.count:
            raise TensorError(
                f"{origin}: expected upload {self._number} of {self.count}, micro-batch {self.sequence}, got upload "
                f"{header.step}, micro-batch {header.sequence}; uploads come in order"
            )
        if header.step >= credit:
            raise TensorError(f"{origin}: the credit ends before upload {credit}; wait for Credit")
        if self._receiver is None:
            self._receiver = self._begin(header, origin)
        self._receiver.write(header.offset, payload)
        return self._finish(origin) if self._receiver.complete else Taken()

    def _begin(self, header: pb.FrameHeader, origin: str) -> BundleReceiver:
        labels = header.manifest.tensors[-1].shape if header.manifest.tensors else ()
        rows = int(labels[0]) if labels else 0
        self._check_rows(header, rows, origin)
        self._check_length(header, origin)
        wanted = self._wanted(header, rows)
        check_manifest(header.manifest, wanted, origin)
        if not self._rows:
            reuses = self._here is not None
            self._buffers = _room(wanted) if reuses else self._pool.take(header.batch_rows, header.length)
            self._batch_rows, self._length = header.batch_rows, header.length
        self._micro, self._label_bytes = rows, expected_bytes([wanted[len(self._shape.tensors) - 1]])
        number = self._rows // rows
        places = zip(self._buffers, (shape[0] for _, _, shape in wanted), strict=True)
        return BundleReceiver([b[number * size : (number + 1) * size].numpy() for b, size in places], origin)

    def _wanted(self, header: pb.FrameHeader, rows: int) -> Expected:
        """Of reused rows as many as the manifest says, none to all: any other number fits no manifest."""
        if self._here is None:
            return self._shape.travels(rows, header.length)
        given, at = header.manifest.tensors, len(self._shape.tensors) - 1
        labels = given[at].shape if len(given) > at else ()
        new = min(int(labels[0]), rows) if labels else 0
        return self._shape.reused(rows, new, numbers_of(self._here.samples))

    def _check_rows(self, header: pb.FrameHeader, rows: int, origin: str) -> None:
        most = self._shape.batch_rows
        if not (most if self._exact else 1) <= header.batch_rows <= most:
            raise TensorError(f"{origin}: an upload has {most} rows, got {header.batch_rows}")
        wanted = self._shape.micro_rows if self._exact else header.batch_rows
        if rows != wanted or header.row_start != self._rows:
            raise TensorError(
                f"{origin}: expected rows {self._rows} to {self._rows + wanted} of the upload, got rows "
                f"{header.row_start} to {header.row_start + rows}"
            )
        if self._rows and header.batch_rows != self._batch_rows:
            raise TensorError(f"{origin}: the upload began with {self._batch_rows} rows, got {header.batch_rows}")

    def _check_length(self, header: pb.FrameHeader, origin: str) -> None:
        """Raises TensorError for sequences of another length than the cut or this upload's first micro-batch allows."""
        length, longest = header.length, self._shape.longest
        if not min(1, longest) <= length <= longest or (self._rows and length != self._length):
            wanted = f"{self._length}, as in the upload's first micro-batch" if self._rows else f"1 to {longest}"
            wanted = wanted if longest else "of no varying length, 0"
            raise TensorError(f"{origin}: the sequences of an upload must be {wanted} long, got {length}")

    def _reused(self, origin: str) -> Reused | None:
        if self._here is None:
            return None
        numbers_B, said_B = self._buffers.pop(), None
        if self._shape.moving:
            said_B = np.unpackbits(self._buffers.pop().numpy(), count=len(numbers_B)).astype(bool)
        found = self._here.take(numbers_B.numpy(), len(self._buffers[-1]), self._number, origin, said_B)
        return Reused(self._here.numbering, self._here.samples, numbers_B.numpy(), *found)

    def _finish(self, origin: str) -> Taken:
        reused = self._reused(origin)
        self._receiver = None
        self.sequence += 1
        self._rows += self._micro
        if self._rows < self._batch_rows:
            return Taken(self.sequence, self._label_bytes)
        *activations, labels_B = self._buffers
        parts = 1 if reused else self._shape.parts(self._batch_rows)
        upload = Upload(self._number, tuple(activations), labels_B, self._length, parts, reused)
        self._number, self._rows, self._buffers = self._number + 1, 0, []
        return Taken(self.sequence, self._label_bytes, upload)
