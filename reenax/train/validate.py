"""What a training shows of itself: the error on fixed held-out pictures, a sheet of them, and a reenacted clip."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from reenax.core.pictures import as_bytes, as_float, float_pictures
from reenax.core.reenact import reenact
from reenax.core.types import Batch, Source, TrainState, Variables, VideoDrive
from reenax.train.engine import Engine
from reenax.train.sharding import put_batch, replicated, to_host
from reenax.train.writers import NoWriters, Writers


class Validator:
    """Measures and draws with the averaged variables, in evaluation mode.

    Args:
        engine: gives the method and the mesh.
        batches: a few fixed batches of held-out examples, of the training's batch size.
        clip: frames of one held-out clip to reenact from its first frame; empty for none.
        fps: the clip's frame rate.
        landmarks: of the clip's frames, where the method reads them and they are known.
    """

    def __init__(
        self,
        engine: Engine,
        batches: Sequence[Mapping[str, np.ndarray]],
        clip: UInt8[np.ndarray, "t h w 3"],
        fps: float,
        landmarks: Float[np.ndarray, "t p 2"] | None = None,
    ):
        self._engine, self._clip, self._fps, self._landmarks = engine, clip, fps, landmarks
        self._batches = [put_batch(b, engine.mesh) for b in batches]
        self._names: tuple[str, ...] = ()
        self._pictures = jax.jit(self._trace, out_shardings=replicated(engine.mesh))

    def _trace(self, variables: Variables, batch: Batch) -> tuple[Array, ...]:
        columns = self._engine.method.preview(variables, float_pictures(batch))
        self._names = tuple(columns)  # jit would sort them
        return tuple(columns.values())

    def _preview(self, variables: Variables, batch: Batch) -> dict[str, Array]:
        pictures = self._pictures(variables, batch)
        return dict(zip(self._names, pictures, strict=True))

    def measure(self, state: TrainState) -> dict[str, float]:
        """``eval/l1``: mean absolute error, in [0, 1], of the column "prediction" against the column "target"."""
        errors = []
        for batch in self._batches:
            columns = self._preview(state.averaged(), batch)
            difference = jnp.abs(columns["prediction"] - columns["target"])
            errors.append(float(difference.astype(jnp.float32).mean()) / 2)
        return {"eval/l1": float(np.mean(errors))}

    def draw(self, state: TrainState, step: int, writers: Writers | NoWriters, rows: int = 6) -> None:
        """Writes the sheet of the first batch, and the clip: source, driving, result side by side."""
        columns = self._preview(state.averaged(), self._batches[0])
        method = self._engine.method
        clip = len(self._clip) and "video" in method.drives and (not method.reads or self._landmarks is not None)
        variables = to_host(state.averaged()) if clip else None  # the one process that writes makes the clip
        if isinstance(writers, NoWriters):
            return
        writers.sheet(step, {name: np.asarray(pictures)[:rows] for name, pictures in columns.items()})
        if variables is None:
            return
        points = None if self._landmarks is None else jnp.asarray(self._landmarks)
        drive = VideoDrive(as_float(self._clip), points)
        source = Source(drive.frames[:1], None if points is None else points[:1])
        made = reenact(method, variables, source, drive)
        source = np.broadcast_to(self._clip[:1], self._clip.shape)
        writers.clip(step, np.concatenate([source, self._clip, as_bytes(made)], axis=2), self._fps)
