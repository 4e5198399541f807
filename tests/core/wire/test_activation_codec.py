"""What every activation codec must keep: what is promised travels, errors stay within the bound, and bits repeat."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.streams import generator
from heron_core.wire.activation_codec import CODECS, ActivationCodec, floating
from heron_core.wire.codec import CODES, expected_of
from heron_core.wire.codecs.grouped import GROUP, Grouped

SPECS = (
    TensorSpec("hidden", (7, 3), variable=True), TensorSpec("mask", (7,), "bool", variable=True),
    TensorSpec("ids", (), "int64", count=9), TensorSpec("image", (2, 4, 4)), TensorSpec("one", ()),
)  # fmt: skip
ROWS, LENGTH = 6, 5
Floats = NDArray[np.float32]


def batch(rows: int = ROWS) -> list[Array]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((rows, LENGTH, 3)).astype(np.float32), rng.random((rows, LENGTH)) < 0.5,
        rng.integers(0, 9, rows), np.zeros((rows, 2, 4, 4), np.float32), rng.random(rows, np.float32),
    ]  # fmt: skip


def made(shape: tuple[int, ...], dtype: str) -> Array:
    """Uninitialised memory may hold anything."""
    out: Array = np.empty(shape, dtype)
    out.reshape(-1).view(np.uint8)[...] = 0xFF
    return out


def allowed(name: str, values: Floats) -> Floats:
    """The largest error of each value [n], as the codec's documentation has it."""
    if name == "raw":
        return np.zeros_like(values)
    if name == "bf16":
        return np.maximum(np.abs(values) / 256, 2.0**-134).astype(np.float32)
    if name == "topk":
        return np.abs(values)
    padded = np.concatenate([values, np.zeros(-len(values) % GROUP, np.float32)]).astype(np.float64).reshape(-1, GROUP)
    low, high = np.minimum(padded.min(1), 0), np.maximum(padded.max(1), 0)
    factor = np.where((low < 0) & (high > 0), 1.22, 1.07)
    bound = np.maximum(factor * (high - low) / (2 ** int(name.removeprefix("int")) - 1), 2.0**-108)
    return np.repeat(bound, GROUP)[: len(values)].astype(np.float32)


@pytest.fixture(params=CODECS)
def named(request: pytest.FixtureRequest) -> tuple[str, ActivationCodec]:
    return request.param, CODECS[request.param]


Named = tuple[str, ActivationCodec]


@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_what_travels_is_what_was_promised_and_the_wire_carries_it(named: Named, rows: int) -> None:
    _, codec = named
    given_, promised = batch(rows), codec.travels(SPECS, rows, LENGTH)
    encoded = codec.encode(given_, SPECS, 0, "step", 0)
    assert expected_of(dict(zip([spec.name for spec in SPECS], encoded, strict=True))) == promised
    assert {dtype for _, dtype, _ in promised} <= set(CODES)
    decoded = codec.decode(encoded, SPECS, rows, made, length=LENGTH)
    assert all(spec.fits(array) for spec, array in zip(SPECS, decoded, strict=True))
    for spec, before, after in zip(SPECS, batch(rows), decoded, strict=True):
        assert spec.is_floating or np.array_equal(before, after)
    assert all(np.array_equal(now, before) for now, before in zip(given_, batch(rows), strict=True)), "it wrote there"
    assert codec.travels((), rows) == [] and codec.encode([], (), 0) == []


def test_micro_batches_one_behind_the_other_are_decoded_as_each_by_itself(named: Named) -> None:
    _, codec = named
    halves = [[array[rows] for array in batch()] for rows in (slice(0, 3), slice(3, 6))]
    encoded = [codec.encode(half, SPECS, 0, "upload", i) for i, half in enumerate(halves)]
    alone = [codec.decode(each, SPECS, 3, made, length=LENGTH) for each in encoded]
    together = [np.concatenate(parts) for parts in zip(*encoded, strict=True)]
    whole = codec.decode(together, SPECS, ROWS, made, length=LENGTH, parts=2)
    assert all(np.array_equal(w, np.concatenate(p)) for w, *p in zip(whole, *alone, strict=True))


def test_bits_repeat_and_depend_on_the_stream_alone(named: Named) -> None:
    name, codec = named
    encoded = [codec.encode(batch(), SPECS, seed, "step", 1) for seed in (0, 0, 1)]
    same, other = (all(np.array_equal(a, b) for a, b in zip(encoded[0], encoded[i], strict=True)) for i in (1, 2))
    assert same and other is (name in ("raw", "bf16"))


VALUES = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), max_size=70)


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None, max_examples=60)
@given(values=VALUES, scale=st.sampled_from([1.0, 1e-30, 1e-42]), positive=st.booleans(), seed=st.integers(0, 9))
def test_no_error_is_above_the_bound(
    name: str, values: list[float], scale: float, positive: bool, seed: int
) -> None:
    given_ = np.array(values, np.float32) * np.float32(scale)
    given_ = np.abs(given_) if positive else given_
    assert_near(name, given_, seed)


def assert_near(name: str, values: Floats, seed: int = 0) -> Floats:
    spec = TensorSpec("z", (len(values),))
    encoded = CODECS[name].encode([values[None]], [spec], seed, "z")
    (decoded,) = CODECS[name].decode(encoded, [spec], 1, made)
    assert (np.abs(decoded[0].astype(np.float64) - values) <= allowed(name, values)).all()
    return np.asarray(decoded[0])


@pytest.mark.parametrize("name", CODECS)
def test_many_values_are_coded_chunk_by_chunk(name: str) -> None:
    values = generator(0, "values").standard_normal((1 << 17) + 37, np.float32)
    values[70_000:] = np.maximum(values[70_000:], 0)
    assert_near(name, values)


@pytest.mark.parametrize("name", [name for name in CODECS if name.startswith("int")])
def test_values_are_kept_on_average_and_zeros_after_a_relu_exactly(name: str) -> None:
    values = np.tile(generator(1, "values").standard_normal(GROUP, np.float32), 4000)
    decoded = assert_near(name, values).reshape(-1, GROUP)
    step = allowed(name, values).max()
    assert np.abs(decoded.mean(0, np.float64) - values[:GROUP]).max() <= step / 512 + 5 * step / 2 / 4000**0.5
    relu = np.maximum(values, 0)
    assert (assert_near(name, relu)[relu == 0] == 0).all()


@pytest.mark.parametrize("name", [name for name in CODECS if name != "raw"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, np.float32(3.4028235e38)])
def test_what_is_not_finite_is_not_encoded(name: str, bad: float) -> None:
    values = np.ones((1, 40), np.float32)
    values[0, 35] = bad
    if name != "bf16" and np.isfinite(bad):
        values[0, 36] = -bad
    for _ in range(2):
        with pytest.raises(TensorError, match=r"^z must be finite|^z must have steps of at most"):
            CODECS[name].encode([values], [TensorSpec("z", (40,))], 0)
        values[0, 37] = -bad


def test_a_step_that_is_not_finite_is_refused_and_the_largest_one_gives_numbers() -> None:
    codec, specs = CODECS["int8"], [TensorSpec("z", (GROUP,))]
    block = np.full(2 + GROUP, 255, np.uint8)
    for upper in (0x7F80, 0x7FC0, 0xFF80, 0x7F7F):  # of a float32: Inf, NaN, no sign bit that is kept, near the largest
        block[:2] = np.array([upper << 1 & 0xFFFF], np.uint16).view(np.uint8)
        with pytest.raises(TensorError, match=r"^z must have steps of at most 1\.33e\+36 in each group of 32"):
            codec.decode([block], specs, 1, made)
    block[:2] = np.array([0x7B00 << 1], np.uint16).view(np.uint8)
    assert np.isfinite(codec.decode([block], specs, 1, made)[0]).all()


def test_a_bfloat16_that_is_not_finite_is_refused() -> None:
    block = np.array([0x3F80, 0x7F80], np.uint16).view(np.uint8)
    with pytest.raises(TensorError, match=r"^z must be finite and at most 3\.39e38, got 1 NaN or Inf"):
        CODECS["bf16"].decode([block], [TensorSpec("z", (2,))], 1, made)


def test_topk_keeps_an_eighth_the_largest_but_for_a_tenth_and_of_equals_the_first() -> None:
    values = generator(0, "values").standard_normal((1 << 16) + 801, np.float32)
    decoded = assert_near("topk", values)
    kept = decoded != 0
    assert [kept[: 1 << 16].sum(), kept[1 << 16 :].sum()] == [1 << 13, 101]
    assert (np.abs(decoded - values)[kept] <= np.abs(values[kept]) / 256).all()
    largest = np.abs(values[: 1 << 16]) >= np.sort(np.abs(values[: 1 << 16]))[-(1 << 13)]
    assert 0.88 < (kept[: 1 << 16] & largest).sum() / (1 << 13) < 0.92
    assert (assert_near("topk", np.ones(8 * 800, np.float32)) != 0)[:800].mean() > 0.8
    assert assert_near("topk", np.array([-3.0], np.float32)).tolist() == [-3]


def test_marks_of_another_number_than_are_kept_are_refused() -> None:
    block = CODECS["topk"].encode([np.ones((1, 20), np.float32)], [TensorSpec("z", (20,))], 0)[0]
    block[:3] = 0xFF
    with pytest.raises(TensorError, match=r"^z must mark 3 of 20 values, got 20 marks"):
        CODECS["topk"].decode([block], [TensorSpec("z", (20,))], 1, made)


def test_raw_hands_on_the_arrays_themselves_in_new_lists() -> None:
    given_, raw = batch(), CODECS["raw"]
    encoded = raw.encode(given_, SPECS, 0)
    decoded = raw.decode(encoded, SPECS, ROWS, made, length=LENGTH)
    assert all(a is b is c for a, b, c in zip(given_, encoded, decoded, strict=True))
    assert encoded is not given_ and decoded is not encoded, "whoever empties one list keeps the other"


@pytest.mark.parametrize(("bits", "size"), [(8, 1.0625), (4, 0.5625), (2, 0.3125)])
def test_a_block_of_1024_values_has_the_bytes_that_are_promised(bits: int, size: float) -> None:
    assert Grouped(bits).size(1024) == 1024 * size


def slowly(values: Floats, noise: list[int], bits: int) -> list[float]:
    """A group by the documented arithmetic, one value at a time."""
    last, out = 2**bits - 1, []
    below, above = (np.float32(max(0.0, end)) for end in (-float(values.min()), float(values.max())))
    larger = max(below, above)
    parts = np.floor(np.float32(15) / (min(below, above) / larger + np.float32(1)))
    step = larger / parts * np.float32(15 / last)
    step = np.uint32((int(step.view(np.uint32)) + 0x7FFFF) >> 19 << 19).view(np.float32)
    zero = np.float32(round((15 - parts if below <= above else parts) * last * 256 / 15))
    for value, more in zip(values, noise, strict=True):
        in_256ths = round(float(np.float32(256) / step * value + np.float32(1.5 * 2**23) + zero) - 1.5 * 2**23)
        out.append(float((np.float32((in_256ths + more) // 256) - zero / np.float32(256)) * step))
    return out


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_numbers_are_those_of_the_documented_arithmetic(bits: int) -> None:
    values = generator(2, "values").standard_normal(GROUP, np.float32)
    out = np.empty_like(values)
    Grouped(bits).decode(Grouped(bits).encode(values, generator(3, "noise")), out)
    drawn = generator(3, "noise").bit_generator
    words: Array = np.asarray(drawn.random_raw(GROUP // 8))
    flips = np.tile(np.array([drawn.random_raw()]).view(np.uint8)[[0, 2]], GROUP // 2)
    assert out.tolist() == slowly(values, (words.view(np.uint8) ^ flips).tolist(), bits)


DIGESTS = """
import hashlib, numpy as np
from heron_core.streams import generator
from heron_core.wire.activation_codec import CODECS
values = generator(0, "values").standard_normal(100_003, np.float32)
values[:70_000] = np.maximum(values[:70_000], 0)
for codec in (codec.block for codec in CODECS.values() if codec.block):
    block, out = codec.encode(values, generator(1, "noise")), np.empty_like(values)
    codec.decode(block, out)
    print(hashlib.sha256(block.tobytes() + out.tobytes()).hexdigest())
"""


def test_bits_are_the_same_without_the_processor_s_wide_instructions() -> None:
    wide = " ".join(np._core._multiarray_umath.__cpu_dispatch__)  # type: ignore[attr-defined]
    found = [
        subprocess.run([sys.executable, "-c", DIGESTS], env={**os.environ, **more}, capture_output=True, check=True)
        for more in ({}, {"NPY_DISABLE_CPU_FEATURES": wide})
    ]
    assert found[0].stdout == found[1].stdout and len(found[0].stdout.split()) == len(CODECS) - 1


def test_gradients_come_back_for_floats_alone() -> None:
    assert [spec.name for spec in floating(SPECS)] == ["hidden", "image", "one"]
