"""Tensors become bytes and come back the same, whatever their dtype and shape; wrong ones are named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heron_core.arrays import Array
from heron_core.errors import ModelError, TensorError
from heron_core.pb.v1 import tensors_pb2 as pb
from heron_core.wire.codec import (
    CHUNK_BYTES,
    CODES,
    DTYPES,
    FEW_CHUNKS,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    BundleReceiver,
    announced,
    as_bytes,
    check_finite,
    check_manifest,
    chunks,
    empty_arrays,
    expected_bytes,
    expected_of,
    manifest_of,
    mismatches,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
DTYPE_NAMES = st.sampled_from(sorted(CODES))
ARRAYS = DTYPE_NAMES.flatmap(lambda name: hnp.arrays(np.dtype(name), SHAPES))
BUNDLES = st.lists(ARRAYS, max_size=5).map(lambda arrays: {f"t{i}": a for i, a in enumerate(arrays)})


def travel(arrays: Mapping[str, Array], chunk_bytes: int) -> dict[str, Array]:
    """What arrives when `arrays` cross in chunks of `chunk_bytes`, with the manifest through its serialised form."""
    manifest = pb.Manifest.FromString(manifest_of(arrays).SerializeToString())
    landed = empty_arrays(announced(manifest, "test"))
    receiver = BundleReceiver(list(landed.values()), "test")
    chunk_bytes = max(chunk_bytes, -(-expected_bytes(expected_of(arrays)) // FEW_CHUNKS))
    for offset, parts in chunks(list(arrays.values()), chunk_bytes):
        receiver.write(offset, b"".join(parts))
    assert receiver.complete
    return landed


def assert_same_bits(got: Mapping[str, Array], sent: Mapping[str, Array]) -> None:
    assert list(got) == list(sent)
    for name, array in sent.items():
        assert got[name].dtype.name == array.dtype.name
        assert got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()


@given(arrays=BUNDLES, chunk_bytes=st.integers(1, 64))
def test_any_bundle_arrives_bit_for_bit_with_chunk_boundaries_anywhere(
    arrays: dict[str, Array], chunk_bytes: int
) -> None:
    assert_same_bits(travel(arrays, chunk_bytes), arrays)


@pytest.mark.parametrize("dtype", sorted(CODES))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3)])
def test_every_dtype_arrives_also_0_d_and_empty(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(int(np.prod(shape))).reshape(shape) % 2).astype(dtype)
    assert_same_bits(travel({"before": np.ones(3, "u1"), "x": array}, 4), {"before": np.ones(3, "u1"), "x": array})


def test_the_wire_carries_exactly_the_dtypes_of_the_proto() -> None:
    assert set(DTYPES) == {code for code in pb.DType.values() if code != pb.DTYPE_UNSPECIFIED}
    assert set(CODES) == {pb.DType.Name(code).removeprefix("DTYPE_").lower() for code in DTYPES}


def test_nan_payloads_and_negative_zero_keep_their_bits() -> None:
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 0x00000001], dtype=np.uint32).view(np.float32)
    assert travel({"x": bits}, 3)["x"].view(np.uint32).tolist() == bits.view(np.uint32).tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10, dtype=np.int64)[::-2],
        np.broadcast_to(np.float64(3.0), (2, 3)),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ],
    ids=["transposed", "reversed", "broadcast", "fortran"],
)
def test_non_contiguous_arrays_travel_row_major(array: Array) -> None:
    assert_same_bits(travel({"x": array}, 5), {"x": array})


def test_big_endian_arrays_travel_little_endian() -> None:
    array = np.arange(5, dtype=">f4")
    assert travel({"x": array}, 7)["x"].tolist() == [0, 1, 2, 3, 4]
    assert bytes(as_bytes(array)) == array.astype("<f4").tobytes()


def test_contiguous_arrays_are_sent_without_a_copy() -> None:
    array = np.zeros(1000, dtype=np.float32)
    views = [part for _, parts in chunks([array], 512) for part in parts]
    assert all(np.shares_memory(np.frombuffer(view, np.uint8), array) for view in views)


@given(sizes=st.lists(st.integers(0, 40), max_size=6), chunk_bytes=st.integers(1, 30))
def test_pieces_are_full_but_the_last_and_their_offsets_are_the_bytes_before(
    sizes: list[int], chunk_bytes: int
) -> None:
    out = list(chunks([np.zeros(n, np.uint8) for n in sizes], chunk_bytes))
    lengths = [sum(len(part) for part in parts) for _, parts in out]
    assert [offset for offset, _ in out] == [sum(lengths[:i]) for i in range(len(out))]
    assert sum(lengths) == sum(sizes)
    assert all(n == chunk_bytes for n in lengths[:-1])
    assert out, "a manifest needs a chunk to travel with"
    assert lengths == [0] or lengths[-1] > 0


def test_a_piece_of_the_default_size_stays_far_below_the_message_cap() -> None:
    assert CHUNK_BYTES <= MAX_PAYLOAD_BYTES < MAX_MESSAGE_BYTES


@pytest.mark.parametrize("dtype", ["complex64", "uint32", "datetime64[s]", "S3", "object"])
def test_a_dtype_that_the_wire_does_not_know_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(ModelError, match=r"tensor strange has dtype .*; the wire carries bool, float16"):
        manifest_of({"strange": np.zeros(2, dtype=dtype)})


EXPECTED = [("w", "float32", (2, 3)), ("n", "int64", ())]


def manifest(**changes: tuple[str, tuple[int, ...]]) -> pb.Manifest:
    tensors = {name: (dtype, shape) for name, dtype, shape in EXPECTED} | changes
    return manifest_of({name: np.zeros(shape, dtype) for name, (dtype, shape) in tensors.items()})


def test_the_expected_manifest_is_accepted() -> None:
    check_manifest(manifest(), EXPECTED, "client 'a'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("float32", (3, 2)), r"client 'a': tensor w must be float32 \[2, 3\], got float32 \[3, 2\]"),
        (("float32", (6,)), r"tensor w must be float32 \[2, 3\], got float32 \[6\]"),
        (("float64", (2, 3)), r"tensor w must be float32 \[2, 3\], got float64 \[2, 3\]"),
    ],
)
def test_a_wrong_shape_or_dtype_names_tensor_expected_and_got(
    wrong: tuple[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(TensorError, match=message):
        check_manifest(manifest(w=wrong), EXPECTED, "client 'a'")


@pytest.mark.parametrize("code", [0, 99])
def test_an_unknown_dtype_code_is_named(code: int) -> None:
    wrong = pb.Manifest()
    wrong.ParseFromString(manifest().SerializeToString())
    wrong.tensors[0].dtype = code  # type: ignore[assignment]
    with pytest.raises(TensorError, match=f"tensor w must be float32 .*, got dtype code {code}"):
        check_manifest(wrong, EXPECTED, "x")
    with pytest.raises(TensorError, match=f"tensor w must have a known dtype .* got dtype code {code}"):
        announced(wrong, "x")


def test_an_impossible_shape_is_refused_before_memory_is_asked_for() -> None:
    huge = pb.Manifest(tensors=[pb.TensorMeta(name="w", dtype=pb.DTYPE_FLOAT32, shape=[2**40, 2**40])])
    with pytest.raises(TensorError, match=r"tensor w must have .* a possible shape, got .* shape"):
        announced(huge, "x")


def test_missing_and_unknown_tensors_are_named() -> None:
    with pytest.raises(TensorError, match=r"missing \['n'\], unknown \['m'\]; both sides must build the same model"):
        check_manifest(manifest_of({"w": np.zeros((2, 3), "f4"), "m": np.zeros((), "i8")}), EXPECTED, "x")


@pytest.mark.parametrize("names", [["n", "w"], ["w"], [], ["w", "n", "n"]])
def test_order_and_number_of_tensors_must_agree(names: list[str]) -> None:
    kinds = {name: np.zeros(shape, dtype) for name, dtype, shape in EXPECTED}
    wrong = pb.Manifest(tensors=[manifest_of({n: kinds[n]}).tensors[0] for n in names])
    with pytest.raises(TensorError, match=f"expected 2 tensors .*, got {len(names)}"):
        check_manifest(wrong, EXPECTED, "x")


def test_a_hostile_name_does_not_flood_the_message() -> None:
    with pytest.raises(TensorError) as caught:
        check_manifest(manifest_of({"x" * 100_000: np.zeros(1, "f4")}), EXPECTED, "x")
    assert len(str(caught.value)) < 1000


def test_a_hostile_shape_does_not_flood_the_message() -> None:
    manifest = pb.Manifest(tensors=[pb.TensorMeta(name="w", dtype=pb.DTYPE_FLOAT32, shape=[1] * 100_000)])
    with pytest.raises(TensorError, match=r"got float32 \[1, 1, 1, 1, 1, 1, 1, 1, ... \(100000 in all\)\]"):
        check_manifest(manifest, [("w", "float32", (1,))], "x")


def receiver_of(*sizes: int) -> tuple[BundleReceiver, list[Array]]:
    arrays = [np.zeros(n, np.uint8) for n in sizes]
    return BundleReceiver(arrays, "bundle"), arrays


@pytest.mark.parametrize("offset", [0, 1, 5, 2**63])
def test_a_piece_out_of_place_is_refused_and_nothing_is_stored(offset: int) -> None:
    receiver, arrays = receiver_of(4, 4)
    receiver.write(0, b"\1\1")
    with pytest.raises(TensorError, match=f"bundle: expected the chunk at byte 2, got the one at {offset}"):
        receiver.write(offset, b"\2\2")
    receiver.write(2, b"\3\3\3\3\3\3")
    assert receiver.complete
    assert [a.tolist() for a in arrays] == [[1, 1, 3, 3], [3, 3, 3, 3]]


def test_more_bytes_than_announced_are_refused_and_nothing_is_stored() -> None:
    receiver, arrays = receiver_of(4)
    receiver.write(0, b"\1\1\1")
    with pytest.raises(TensorError, match="bundle: 4 bytes were announced, got 5"):
        receiver.write(3, b"\2\2")
    assert arrays[0].tolist() == [1, 1, 1, 0]
    assert not receiver.complete


def test_a_bundle_in_crumbs_is_refused_once_it_has_more_chunks_than_it_can_need() -> None:
    receiver, _ = receiver_of(FEW_CHUNKS + 1)
    for offset in range(FEW_CHUNKS):
        receiver.write(offset, b"\1")
    with pytest.raises(TensorError, match=f"bundle: 257 bytes come in {FEW_CHUNKS} chunks at most, got more"):
        receiver.write(FEW_CHUNKS, b"\1")


def test_a_bundle_that_ends_early_is_not_complete() -> None:
    receiver, _ = receiver_of(4, 0, 2)
    assert not receiver.complete
    receiver.write(0, b"12345")
    assert not receiver.complete
    receiver.write(5, b"6")
    assert receiver.complete


def test_a_bundle_without_bytes_is_complete_from_the_start() -> None:
    assert receiver_of()[0].complete
    assert receiver_of(0, 0)[0].complete


def test_a_destination_that_would_be_copied_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="copy"):
        BundleReceiver([np.zeros((3, 2), np.float32).T], "bundle")


@given(arrays=BUNDLES)
def test_expected_bytes_are_the_bytes_that_travel(arrays: dict[str, Array]) -> None:
    assert expected_bytes(expected_of(arrays)) == sum(a.nbytes for a in arrays.values())


def test_mismatches_name_what_is_missing_unknown_or_of_another_dtype_or_shape_in_any_order() -> None:
    wanted = [("same", "float32", (2,)), ("missing", "bool", ()), ("dtype", "int64", (1,)), ("shape", "bool", (3, 1))]
    found = [("shape", "bool", (1, 3)), ("unknown", "bool", ()), ("dtype", "int32", (1,)), ("same", "float32", (2,))]
    assert mismatches(found, wanted) == ["dtype", "missing", "shape", "unknown"]
    assert mismatches(wanted[::-1], wanted) == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_with_tensor_and_count(dtype: str, bad: float) -> None:
    wrong = np.zeros((2, 3), dtype)
    wrong[1, 2] = wrong[0, 0] = bad
    with pytest.raises(TensorError, match="client 'a': tensor w must be finite, got 2 NaN or Inf of 6"):
        check_finite({"fine": np.zeros(3, dtype), "w": wrong}, "client 'a'")


@pytest.mark.parametrize("dtype", sorted(CODES))
def test_finite_tensors_of_every_dtype_pass(dtype: str) -> None:
    check_finite({"x": np.ones((2, 2), dtype), "empty": np.ones(0, dtype), "scalar": np.ones((), dtype)}, "x")


def test_a_bool_that_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(TensorError, match="tensor mask must hold bools of 0 or 1, got 7"):
        check_finite({"mask": np.array([0, 1, 7], np.uint8).view(np.bool_)}, "x")
