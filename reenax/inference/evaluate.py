"""Self-reenactment on held-out clips: the first frame animated by all frames of the same clip."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from data_pipelines.loader import Clips, decode_clip
from reenax import __version__
from reenax.core.errors import UserError
from reenax.core.pictures import as_float
from reenax.core.types import Source, VideoDrive
from reenax.inference.progress import tracked
from reenax.metrics.pixel import l1, psnr, ssim
from reenax.train.runs import Trained

METRICS = {"l1": l1, "psnr": psnr, "ssim": ssim}
HEADS = {"l1": "L1", "psnr": "PSNR", "ssim": "SSIM"}

Scores = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class ClipScore:
    """The mean over a clip's frames, for the method and for copying the source frame."""

    clip_id: str
    identity: str
    frames: int
    method: Scores
    copy: Scores


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of all clips, and what they were measured on."""

    clips: tuple[ClipScore, ...]
    about: Mapping[str, Any]

    def overall(self) -> tuple[Scores, Scores]:
        """The mean over clips, every clip weighing the same: of the method, and of copying the source."""
        return _mean([c.method for c in self.clips]), _mean([c.copy for c in self.clips])

    def table(self) -> str:
        """One line per clip and one for all; the baseline, copying the source, in brackets."""
        width = max(len("all clips"), *(len(c.clip_id) for c in self.clips))
        head = "".join(f"{HEADS[m]:>9} {'(copy)':>8}" for m in METRICS)
        rows = [(c.clip_id, c.frames, c.method, c.copy) for c in self.clips]
        rows.append(("all clips", sum(c.frames for c in self.clips), *self.overall()))
        lines = [f"{'clip':<{width}} {'frames':>7}{head}"]
        for name, frames, method, copy in rows:
            cells = "".join(f"{method[m]:9.4f} {copy[m]:8.4f}" for m in METRICS)
            lines.append(f"{name:<{width}} {frames:7d}{cells}")
        method, copy = self.overall()
        change = 100 * (method["l1"] / max(copy["l1"], 1e-9) - 1)
        lines.append(f"L1 is {abs(change):.1f} % {'above' if change > 0 else 'below'} copying the source")
        lines.append("L1 in [0, 1], PSNR in dB; mean over the frames of a clip, then over clips")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All numbers, in a form for JSON."""
        method, copy = self.overall()
        return {
            **self.about,
            "overall": {"method": dict(method), "copy": dict(copy)},
            "clips": [dataclasses.asdict(c) for c in self.clips],
        }


def evaluate(
    trained: Trained, clips: Clips, *, max_frames: int | None = None, batch_size: int = 8, progress: bool = True
) -> Evaluation:
    """Measures L1 (in [0, 1]), PSNR (dB) and SSIM of self-reenactment, motion taken as it is (absolute).

    The source is a clip's first frame, the driver all of its frames, the first among them. Scores are means over the
    frames of a clip, then over clips. Copying the source frame is the baseline.

    Args:
        trained: a method that video can drive.
        clips: what to measure on.
        max_frames: use only so many frames of each clip.
        batch_size: frames worked on together.
        progress: whether to show it.

    Raises:
        UserError: the method is not driven by video, or the clips have another size.
    """
    if "video" not in trained.method.drives:
        raise UserError(f"{trained.name} is not driven by video, so it has no self-reenactment to measure")
    if clips.size != trained.config.data.size:
        raise UserError(
            f"{clips.directory} holds frames of {clips.size}x{clips.size}, {trained.name} was trained on "
            f"{trained.config.data.size}; prepare with --size {trained.config.data.size}"
        )
    indices = tracked(range(len(clips)), len(clips), "evaluating", "clips") if progress else range(len(clips))
    scores = [_score(trained, clips[index], max_frames, batch_size) for index in indices]
    about = {
        "method": trained.name,
        "step": trained.step,
        "split": clips.split,
        "data_digest": clips.digest,
        "size": clips.size,
        "protocol": "source: first frame; driving: all frames, absolute; mean over frames, then over clips",
        "ssim": "7x7 uniform window, sample covariance",
        "reenax": __version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    return Evaluation(tuple(scores), about)


def _score(trained: Trained, record: Mapping[str, Any], max_frames: int | None, batch_size: int) -> ClipScore:
    """One clip, a batch of frames at a time: clips may be longer than memory holds as floats."""
    count = len(record["frames"]) if max_frames is None else min(max_frames, len(record["frames"]))
    first = as_float(decode_clip(record, [0]))
    run = trained.method.reenactor(trained.variables, Source(first), anchor=VideoDrive(first), mode="absolute")
    method, copy = np.zeros(len(METRICS)), np.zeros(len(METRICS))
    for begin in range(0, count, batch_size):
        chosen = list(range(begin, min(begin + batch_size, count)))
        padded = chosen + [chosen[-1]] * (batch_size - len(chosen))  # one compiled program serves all
        real = as_float(decode_clip(record, padded))
        method += _measured(run(VideoDrive(real)), real)[:, : len(chosen)].sum(axis=1)
        copy += _measured(jnp.broadcast_to(first, real.shape), real)[:, : len(chosen)].sum(axis=1)
    means = (dict(zip(METRICS, (total / count).tolist(), strict=True)) for total in (method, copy))
    return ClipScore(record["clip_id"], record["identity"], count, *means)


def _measured(made: Float[Array, "b h w 3"], real: Float[Array, "b h w 3"]) -> Float64[np.ndarray, "metrics b"]:
    return np.asarray(_on_device(made, real), np.float64)


@jax.jit
def _on_device(made: Float[Array, "b h w 3"], real: Float[Array, "b h w 3"]) -> Float[Array, "metrics b"]:
    made = made.astype(jnp.promote_types(made.dtype, jnp.float32))
    return jnp.stack([metric(made, real) for metric in METRICS.values()])


def _mean(scores: list[Scores]) -> Scores:
    return {m: float(np.mean([s[m] for s in scores])) for m in METRICS}
