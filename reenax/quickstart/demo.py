"""Two made-up people: one talks and moves, the other is made to; beside it, what that would truly look like."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8
from PIL import Image
from scipy.io import wavfile

from data_pipelines.clips import decode_clip
from data_pipelines.media import AUDIO_RATE, iterate_frames
from data_pipelines.synthetic.clips import Settings, Take, clip_record
from data_pipelines.video_writer import VideoWriter, whole
from reenax.inference import provenance
from reenax.inference.animate import animate
from reenax.train.runs import Trained, write_json

NEW_TAKE = 1000  # one that is in no dataset
ENLARGED = 4  # pixels of the comparison per pixel

Frames = UInt8[np.ndarray, "t h w 3"]


def make_demo(trained: Trained, folder: Path, cross: Take, settings: Settings) -> None:
    """Writes source.png, driving.mp4, animated.mp4, truth.mp4 and compare.mp4; does nothing when they are there.

    Args:
        trained: a method that video can drive.
        folder: where to; made when missing.
        cross: who is animated and by whom, as planned by `data_pipelines.builders.synthetic_heads.plan`.
        settings: length, rate and size of the videos.

    Raises:
        UserError: the files cannot be written.
    """
    about = folder / "about.json"  # written last
    if about.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    still = dataclasses.replace(settings, seconds=2 / settings.fps)
    source = clip_record(dataclasses.replace(cross, moves=cross.looks, number=NEW_TAKE), still)
    driving = clip_record(dataclasses.replace(cross, looks=cross.moves, number=NEW_TAKE), settings)
    truth = clip_record(dataclasses.replace(cross, number=NEW_TAKE), settings)
    sound, picture = driving["audio"], decode_clip(source, [0])
    Image.fromarray(picture[0]).save(folder / "source.png")
    for name, record in (("driving", driving), ("truth", truth)):
        write_with_sound(folder / f"{name}.mp4", decode_clip(record), settings.fps, sound)
    made = folder / "animated.mp4"
    animate(
        trained,
        folder / "source.png",
        folder / "driving.mp4",
        made,
        options={"mode": "absolute"},
        faces="none",
        batch_size=16,
    )
    seen = np.stack([frame.pixels for frame in iterate_frames(made)])
    columns = [np.broadcast_to(picture, seen.shape), decode_clip(driving), seen, decode_clip(truth)]
    beside = np.stack([_enlarged(row) for row in np.concatenate(columns, axis=2)])
    unsigned = folder / "unsigned.mp4"
    write_with_sound(unsigned, beside, settings.fps, sound)
    inputs = {"source": "picture", "driving": "video"}
    provenance.sign(provenance.open_signer(), unsigned, folder / "compare.mp4", "compare.mp4", trained.name, inputs)
    unsigned.unlink()
    write_json(about, {"caption": f"{source['identity']} does what {driving['identity']} does"})


def _enlarged(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width * ENLARGED, height * ENLARGED), Image.Resampling.BICUBIC))


def write_with_sound(path: Path, frames: Frames, fps: float, sound: Int16[np.ndarray, " n"]) -> None:
    """Writes frames at a constant rate with mono sound at 16 kHz.

    Raises:
        UserError: the file cannot be written.
    """
    wave = path.with_suffix(".wav")
    wavfile.write(wave, AUDIO_RATE, sound)
    try:
        with whole(path) as part, VideoWriter(part, frames.shape[1:3], fps, wave) as writer:
            for index, frame in enumerate(frames):
                writer.write(frame, index / fps)
    finally:
        wave.unlink()
