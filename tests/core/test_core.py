"""The small pieces that everything rests on."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.core.pictures import as_bytes, as_float, float_pictures
from reenax.core.reenact import parts, reenact, stream
from reenax.core.rng import step_stream
from reenax.core.rng import stream as named
from reenax.core.types import Every, Source, VideoDrive
from tests.inference.toys import Tint


def test_every():
    assert [s for s in range(12) if Every()(s)] == list(range(12))
    assert [s for s in range(12) if Every(5, offset=4)(s)] == [4, 9]
    assert [s for s in range(12) if Every(3, start=4, stop=11)(s)] == [4, 7, 10]


def test_streams_depend_on_name_and_step_alone():
    key = jax.random.key(7)
    draws = {(n, s): int(jax.random.bits(step_stream(key, jnp.int32(s), n))) for n in ("a", "b") for s in (0, 1)}
    assert len(set(draws.values())) == 4
    by_hand = jax.random.fold_in(key, zlib.crc32(b"a") & 0x7FFFFFFF)
    assert jax.random.key_data(named(key, "a")).tolist() == jax.random.key_data(by_hand).tolist()


def test_every_byte_survives_the_way_to_floats_and_back():
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = as_float(bytes_)
    assert (float(floats.min()), float(floats.max())) == (-1.0, 1.0)
    np.testing.assert_array_equal(as_bytes(floats), bytes_)
    np.testing.assert_array_equal(as_bytes(floats.astype(jnp.bfloat16).astype(jnp.float32) * 2)[0, 0, 0], 0)


def test_only_uint8_leaves_are_pictures():
    made = float_pictures({"x": jnp.zeros((1, 2, 2, 3), jnp.uint8), "clip": jnp.ones(3, jnp.int32)})
    assert made["x"].dtype == jnp.float32
    assert made["clip"].dtype == jnp.int32


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 1
    scales: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    name: str = ""


def test_nested_mappings_fill_nested_dataclasses():
    made = from_mapping(Outer, {"inner": {"width": 3, "scales": [1, 0.5]}, "name": "x"})
    assert made == Outer(Inner(3, (1, 0.5)), "x")
    hash(made)
    with pytest.raises(UserError, match="config.model.inner.with.* width, scales"):
        from_mapping(Outer, {"inner": {"with": 3}})


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_reenacting_in_batches_and_in_a_stream_is_the_same(batch_size):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    source, drive = Source(as_float(frames[:1])), VideoDrive(as_float(frames))
    whole = reenact(Tint(), {}, source, drive, batch_size=batch_size)
    assert whole.shape == (7, 8, 8, 3)
    run = Tint().reenactor({}, source, anchor=VideoDrive(drive.frames[:1]))
    np.testing.assert_allclose(whole, run(drive), atol=1e-6)
    streamed = np.stack(list(stream(run, parts(VideoDrive(as_float(frames)), batch_size))))
    np.testing.assert_array_equal(streamed, as_bytes(whole))
