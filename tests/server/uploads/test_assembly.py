from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.pb.v1 import tensors_pb2
from heron_core.wire.activation_codec import CODECS
from heron_core.wire.codec import chunks, manifest_of
from heron_server.uploads.assembly import MOST_REPEATED, Assembly, BufferPool, Taken, UploadShape

UPLOADED = (TensorSpec("hidden", (2, 3)), TensorSpec("mask", (2,), "uint8"), TensorSpec("labels", (), "int64"))
Frame = tuple[pb.FrameHeader, memoryview]


def assembly(count: int = 2, batch: int = 4, micro: int = 2, exact: bool = True) -> Assembly:
    shape = UploadShape(UPLOADED, batch, micro)
    return Assembly("edge-1", shape, count, exact, BufferPool(shape))


def tensors(rows: int, value: int) -> dict[str, Array]:
    return {
        "hidden": np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3) + 100 * value,
        "mask": np.full((rows, 2), value, dtype=np.uint8),
        "labels": np.arange(rows, dtype=np.int64) + value,
    }


def frames(
    sequence: int,
    *,
    rows: int = 2,
    batch: int = 4,
    chunk: int = 1 << 20,
    change: Callable[[pb.FrameHeader], None] = lambda h: None,
) -> Iterator[Frame]:
    step, start = divmod(sequence * rows, batch)
    arrays = tensors(rows, sequence)
    for number, (offset, parts) in enumerate(chunks(list(arrays.values()), chunk)):
        header = pb.FrameHeader(term=1, round=3, step=step, sequence=sequence, offset=offset)
        if number == 0:
            header.row_start, header.batch_rows = start, batch
            header.manifest.CopyFrom(manifest_of(arrays))
        change(header)
        yield header, memoryview(b"".join(parts))


def take_all(assembled: Assembly, sent: Iterator[Frame], credit: int = 99) -> list[Taken]:
    return [assembled.take(header, payload, credit) for header, payload in sent]


@pytest.mark.parametrize("chunk", [1, 7, 24, 1 << 20])
def test_an_upload_is_assembled_from_micro_batches_and_frames(chunk: int) -> None:
    assembled = assembly()
    first = take_all(assembled, frames(0, chunk=chunk))
    assert first[-1] == Taken(sequence=1, label_bytes=16) and all(t == Taken() for t in first[:-1])
    second = take_all(assembled, frames(1, chunk=chunk))
    upload = second[-1].upload
    assert second[-1].sequence == 2 and upload is not None and upload.number == 0
    hidden, mask = upload.activations
    assert np.array_equal(hidden.numpy(), np.concatenate([tensors(2, i)["hidden"] for i in (0, 1)]))
    assert np.array_equal(mask.numpy(), [[0, 0], [0, 0], [1, 1], [1, 1]])
    assert upload.labels_B.tolist() == [0, 1, 1, 2]
    third = take_all(assembled, frames(2))
    assert third[-1] == Taken(sequence=3, label_bytes=16)
    assert upload.labels_B.tolist() == [0, 1, 1, 2], "the next upload has its own memory"


def test_what_is_here_already_is_passed_over() -> None:
    assembled = assembly()
    take_all(assembled, frames(0))
    assert take_all(assembled, frames(0, chunk=5)) == [Taken()] * len(list(frames(0, chunk=5)))
    assert take_all(assembled, frames(1))[-1].upload is not None


def test_frames_that_are_here_already_may_come_again_a_few_times_and_anew_on_each_stream() -> None:
    assembled = assembly()
    take_all(assembled, frames(0))
    again = list(frames(0)) * MOST_REPEATED
    take_all(assembled, iter(again))
    with pytest.raises(TensorError, match="frames came again and again; go on from Position"):
        take_all(assembled, frames(0))
    assembled.forget_partial()
    take_all(assembled, iter(again))


def test_a_partial_micro_batch_is_sent_again_from_its_start() -> None:
    assembled = assembly()
    take_all(assembled, frames(0))
    partial = list(frames(1, chunk=30))
    take_all(assembled, iter(partial[:2]))
    with pytest.raises(TensorError, match="expected the chunk at byte 60, got the one at 0"):
        take_all(assembled, frames(1, chunk=30))
    assembled.forget_partial()
    upload = take_all(assembled, frames(1, chunk=13))[-1].upload
    assert upload is not None
    assert np.array_equal(upload.activations[0].numpy(), np.concatenate([tensors(2, i)["hidden"] for i in (0, 1)]))


def test_an_evaluation_may_end_with_a_smaller_upload_in_one_piece() -> None:
    assembled = assembly(exact=False)
    assert take_all(assembled, frames(0, rows=4))[-1].upload is not None
    manifest_rows = 3
    arrays = tensors(manifest_rows, 1)
    header = pb.FrameHeader(round=3, step=1, sequence=1, batch_rows=3)
    header.manifest.CopyFrom(manifest_of(arrays))
    payload = memoryview(b"".join(a.tobytes() for a in arrays.values()))
    upload = assembled.take(header, payload, 99).upload
    assert upload is not None and len(upload.labels_B) == 3


def reshape(index: int, shape: list[int]) -> Callable[[pb.FrameHeader], None]:
    def change(header: pb.FrameHeader) -> None:
        header.manifest.tensors[index].shape[:] = shape

    return change


def retype(header: pb.FrameHeader) -> None:
    header.manifest.tensors[0].dtype = tensors_pb2.DTYPE_FLOAT64


def rename(header: pb.FrameHeader) -> None:
    header.manifest.tensors[2].name = "targets"


def swap(header: pb.FrameHeader) -> None:
    header.manifest.tensors[0].name, header.manifest.tensors[1].name = "mask", "hidden"


def set_field(**fields: int) -> Callable[[pb.FrameHeader], None]:
    def change(header: pb.FrameHeader) -> None:
        for name, value in fields.items():
            setattr(header, name, value)

    return change


BAD: dict[str, tuple[Callable[[pb.FrameHeader], None], str]] = {
    "an upload ahead": (set_field(step=1), r"expected upload 0 of 2, micro-batch 1, got upload 1, micro-batch 1"),
    "an upload beyond the round": (set_field(step=9), r"expected upload 0 of 2.*got upload 9"),
    "a sequence ahead": (set_field(sequence=2), r"micro-batch 1, got upload 0, micro-batch 2"),
    "a hole in the rows": (set_field(row_start=3), r"expected rows 2 to 4 of the upload, got rows 3 to 5"),
    "rows sent before": (set_field(row_start=0), r"expected rows 2 to 4 of the upload, got rows 0 to 2"),
    "another batch size": (set_field(batch_rows=6), r"an upload has 4 rows, got 6"),
    "no batch size": (set_field(batch_rows=0), r"an upload has 4 rows, got 0"),
    "too few rows": (reshape(0, [1, 2, 3]), r"tensor hidden must be float32 \[2, 2, 3\], got float32 \[1, 2, 3\]"),
    "a plague of rows": (reshape(2, [1 << 40]), r"expected rows 2 to 4"),
    "another shape": (reshape(0, [2, 3, 2]), r"tensor hidden must be float32 \[2, 2, 3\], got float32 \[2, 3, 2\]"),
    "a scalar": (reshape(2, []), r"expected rows 2 to 4 of the upload, got rows 2 to 2"),
    "fewer labels": (reshape(2, [1]), r"expected rows 2 to 4 of the upload, got rows 2 to 3"),
    "another dtype": (retype, r"tensor hidden must be float32 \[2, 2, 3\], got float64 \[2, 2, 3\]"),
    "another name": (rename, r"missing \['labels'\], unknown \['targets'\]"),
    "another order": (swap, r"expected 3 tensors \['hidden', 'mask', 'labels'\], got 3 \['mask', 'hidden', 'labels'\]"),
    "a length where none varies": (set_field(length=1), r"sequences of an upload must be of no varying length, 0 long"),
    "no manifest": (lambda h: h.ClearField("manifest"), r"got rows 2 to 2"),
    "a later chunk first": (set_field(offset=8), r"expected the chunk at byte 0, got the one at 8"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_header_is_refused_by_name_and_nothing_is_stored(bad: str) -> None:
    change, message = BAD[bad]
    assembled = assembly()
    take_all(assembled, frames(0))
    with pytest.raises(TensorError, match=message) as caught:
        take_all(assembled, frames(1, change=change))
    assert "client 'edge-1', round 3" in str(caught.value)
    assert assembled.sequence == 1
    assembled.forget_partial()
    upload = take_all(assembled, frames(1))[-1].upload
    assert upload is not None, "the good one still fits"
    assert np.array_equal(upload.activations[0].numpy(), np.concatenate([tensors(2, i)["hidden"] for i in (0, 1)]))


def test_more_bytes_than_announced_are_refused() -> None:
    assembled = assembly()
    ((header, payload),) = frames(0)
    with pytest.raises(TensorError, match="68 bytes were announced, got 69"):
        assembled.take(header, memoryview(bytes(payload) + b"x"), 99)


def test_an_upload_beyond_the_credit_is_refused() -> None:
    assembled = assembly()
    for sequence in (0, 1):
        take_all(assembled, frames(sequence), credit=1)
    with pytest.raises(TensorError, match="the credit ends before upload 1"):
        take_all(assembled, frames(2), credit=1)
    assert take_all(assembled, frames(2), credit=2)[-1].sequence == 3


def test_an_upload_after_the_last_is_refused() -> None:
    assembled = assembly(count=1)
    for sequence in (0, 1):
        take_all(assembled, frames(sequence))
    with pytest.raises(TensorError, match="expected upload 1 of 1, micro-batch 2, got upload 1"):
        take_all(assembled, frames(2))


def test_blocks_of_an_encoded_upload_stand_one_behind_the_other_and_have_the_size_that_rows_and_length_give() -> None:
    cut = (TensorSpec("words", (9, 5), variable=True), TensorSpec("mask", (9,), "bool", variable=True))
    shape = UploadShape((*cut, TensorSpec("labels", (), "int64")), 4, 2, CODECS["int8"])
    assembled = Assembly("edge-1", shape, 1, True, BufferPool(shape))
    values, block = 2 * 3 * 5, 2 + 32
    assert shape.size_bytes == 2 * (3 * (2 + 32) + 2 * 9) + 4 * 8

    def send(number: int, size: int, length: int) -> Taken:
        words, mask = np.full(size, number, np.uint8), np.zeros((2, 3), np.bool_)
        arrays = {"words": words, "mask": mask, "labels": np.full(2, number)}
        header = pb.FrameHeader(sequence=number, row_start=2 * number, batch_rows=4, length=length)
        header.manifest.CopyFrom(manifest_of(arrays))
        return assembled.take(header, memoryview(b"".join(a.tobytes() for a in arrays.values())), 1)

    for size, length, message in (
        (block + 1, 3, rf"tensor words must be uint8 \[{block}\], got uint8 \[{block + 1}\]"),
        (values * 4, 3, "tensor words must be uint8"),
        (block, 10, "must be 1 to 9 long, got 10"),
        (block, 0, "must be 1 to 9 long, got 0"),
    ):
        with pytest.raises(TensorError, match=f"client 'edge-1'.*{message}"):
            send(0, size, length)
    send(0, block, 3)
    with pytest.raises(TensorError, match="must be 3, as in the upload's first micro-batch long, got 2"):
        send(1, block, 2)
    upload = send(1, block, 3).upload
    assert upload is not None and (upload.length, upload.parts) == (3, 2)
    assert upload.activations[0].tolist() == [0] * block + [1] * block and upload.labels_B.tolist() == [0, 0, 1, 1]
