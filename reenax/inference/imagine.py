"""`reenax animate --frames N`: a video from one picture, without a driver, by a method that can go on by itself."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from data_pipelines.faces import FaceDetector
from data_pipelines.video_writer import whole, write_video
from reenax.core.errors import UserError
from reenax.core.pictures import as_bytes, as_float
from reenax.core.types import DRIVES, Source
from reenax.inference import provenance
from reenax.inference.animate import AnimateReport
from reenax.inference.portrait import open_portrait
from reenax.train.runs import Trained

FPS = 25.0


def check_imagines(trained: Trained) -> None:
    """Refuses a method that cannot go on by itself.

    Raises:
        UserError: naming the options of the drivers that it takes.
    """
    if hasattr(trained.method, "imagine"):
        return
    kinds = [kind for kind in DRIVES if kind in trained.method.drives]
    flags = ["--driving" if kind == "video" else f"--{kind.replace('_', '-')}" for kind in kinds]
    cure = f"give {' or '.join(flags)}" if flags else "it reenacts nothing"
    raise UserError(f"{trained.name} does not go on by itself, it needs a driver: {cure}")


def imagine(
    trained: Trained,
    source: Path,
    out: Path,
    frames: int,
    *,
    options: Mapping[str, str] = MappingProxyType({}),
    faces: str = "dlib",
    credentials: bool = True,
    batch_size: int = 8,
) -> AnimateReport:
    """Writes a silent video of 25 frames/s that begins with the source picture.

    Args:
        trained: a method with ``imagine``.
        source: picture, or video whose first frame is taken.
        out: an .mp4.
        frames: length of the video.
        options: "mode" alone, see the method's ``imagine``.
        faces: "dlib" finds the face, "none" takes the centre square.
        credentials: sign the output as made by AI.
        batch_size: frames worked on together.

    Raises:
        UserError: a method that needs a driver, and anything else that the user can mend.
    """
    check_imagines(trained)
    method: Any = trained.method
    if unknown := set(options) - {"mode"}:
        raise UserError(f"{min(unknown)} is about a driver; without one there is only mode")
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: a video is made; give --out a name ending in .mp4")
    with whole(out) as part:
        signer = provenance.open_signer() if credentials else None
        detector = FaceDetector() if faces == "dlib" else None
        portrait = open_portrait(source, int(trained.config.data.size), detector)
        began = time.perf_counter()
        picture = Source(as_float(portrait.crop[None]))
        made = method.imagine(trained.variables, picture, frames, batch_size=batch_size, **options)
        pictures = as_bytes(jax.block_until_ready(made))
        with provenance.signed(signer, part, out.name, trained.name, {"source": portrait.kind}) as unsigned:
            write_video(unsigned, pictures, FPS)
    return AnimateReport(out, frames, time.perf_counter() - began, 0, False, credentials)
