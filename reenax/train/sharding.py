"""Where arrays live on the mesh: batches over both axes, large leaves over "fsdp", the rest everywhere."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from reenax.core.errors import UserError

AXES = ("data", "fsdp")
FSDP_MIN_BYTES = 1 << 20  # below this a leaf costs more to gather than to keep whole

Rules = Sequence[tuple[str, tuple[str | None, ...]]]


def make_mesh(data: int = -1, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of ``data`` x ``fsdp`` devices; ``data=-1`` takes all that are there.

    Raises:
        UserError: the numbers do not fit the devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or (data != -1 and data < 1):
        raise UserError(f"config.mesh needs fsdp >= 1 and data >= 1 (or -1 for all), got data={data}, fsdp={fsdp}")
    if data == -1:
        if len(devices) % fsdp:
            raise UserError(f"config.mesh.fsdp={fsdp} does not divide the {len(devices)} devices of this run")
        data = len(devices) // fsdp
    if data * fsdp > len(devices):
        raise UserError(
            f"config.mesh asks for data={data} x fsdp={fsdp} devices, this run has {len(devices)}; lower one of them"
        )
    if jax.process_count() > 1 and data * fsdp < len(devices):
        raise UserError(
            f"config.mesh asks for data={data} x fsdp={fsdp} devices; several processes need all {len(devices)}"
        )
    # make_mesh defaults to explicit axes, which would put sharding into types
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices[: data * fsdp])


def leaf_path(path: Any) -> str:
    """A leaf's place in a tree, as ``params/generator/final/kernel``."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def leaf_spec(path: str, leaf: Any, mesh: Mesh, rules: Rules = (), min_bytes: int = FSDP_MIN_BYTES) -> P:
    """The partition of one leaf: the first rule whose pattern is found in its path, else the size rule.

    The size rule cuts the largest axis that the number of fsdp shards divides, of leaves of at least
    ``min_bytes``. A rule also holds for the optimiser's copies of a leaf, whose paths end alike.

    Raises:
        UserError: a rule has more axes than the leaf, or an axis is not divisible.
    """
    for pattern, axes in rules:
        if re.search(pattern, path) and leaf.ndim:
            sizes = [mesh.shape[a] if a else 1 for a in axes]
            if len(axes) > leaf.ndim or any(n % s for n, s in zip(leaf.shape, sizes, strict=False)):
                raise UserError(f"the shard rule {pattern!r} -> {axes} does not fit {path} of shape {leaf.shape}")
            return P(*axes)
    shards = mesh.shape["fsdp"]
    if shards == 1 or leaf.size * leaf.dtype.itemsize < min_bytes:
        return P()
    for axis in np.argsort(leaf.shape)[::-1]:
        if leaf.shape[axis] % shards == 0:
            return P(*["fsdp" if i == axis else None for i in range(leaf.ndim)])
    return P()


def state_sharding(abstract: PyTree, mesh: Mesh, rules: Rules = (), min_bytes: int = FSDP_MIN_BYTES) -> PyTree:
    """The sharding of every leaf of a training state, or of any tree of variables."""

    def place(path: Any, leaf: Any) -> NamedSharding:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return NamedSharding(mesh, P())
        return NamedSharding(mesh, leaf_spec(leaf_path(path), leaf, mesh, rules, min_bytes))

    return jax.tree_util.tree_map_with_path(place, abstract)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are cut along their first axis over all devices."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())


def own_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """The rows of a global batch that live on this process's devices, ascending.

    Raises:
        UserError: the batch cannot be cut over the devices.
    """
    if batch_size % mesh.size:
        raise UserError(
            f"config.batch_size={batch_size} cannot be cut over {mesh.size} devices; "
            f"take a multiple of {mesh.size} or fewer devices (config.mesh.data)"
        )
    cuts: Any = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for (cut,) in cuts for row in range(*cut.indices(batch_size))})


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays of this process's part of a batch, see `own_rows`."""
    sharding, placed = batch_sharding(mesh), {}
    for name, local in batch.items():
        size = len(local) * jax.process_count()
        rows = own_rows(size, mesh)

        def part(index: Any, local: np.ndarray = local, rows: list[int] = rows, size: int = size) -> np.ndarray:
            start, stop, _ = index[0].indices(size)
            first = rows.index(start)  # the rows of a device are neighbours in the batch, and so they are here
            return local[first : first + stop - start]

        placed[name] = jax.make_array_from_callback((size, *local.shape[1:]), sharding, part)
    return placed


def to_host(tree: PyTree) -> PyTree:
    """The arrays of a tree on a mesh in this process's memory, wherever their parts live; all processes must ask."""
    return jax.tree.map(np.asarray, _gather_on(jax.tree.leaves(tree)[0].sharding.mesh)(tree))


@functools.cache
def _gather_on(mesh: Mesh) -> Any:
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))
