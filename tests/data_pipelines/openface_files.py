"""CSV files as OpenFace writes them, of made-up measurements."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from reenax.geometry.head.action_units import ACTION_UNITS


def intensities_of(count: int, seed: int = 0) -> np.ndarray:
    """Intensities [count 17] in [0, 5]."""
    return np.random.default_rng(seed).uniform(0, 5, (count, 17)).astype(np.float32)


def write_video_rows(
    path: Path,
    intensities: np.ndarray,
    fps: float,
    lost: Collection[int] = (),
    order: Sequence[str] = ACTION_UNITS,
    separator: str = ", ",
) -> Path:
    """What FeatureExtraction writes; frames in `lost` have no face; fps 0: of a sequence of pictures."""
    names = ["frame", "face_id", "timestamp", "confidence", "success", "pose_Rx", *(f"{unit}_r" for unit in order)]
    lines = [separator.join([*names, "AU28_c"])]
    for at, row in enumerate(intensities):
        gone = at in lost
        units = [0.0 if gone else row[ACTION_UNITS.index(unit)] for unit in order]
        time = at / fps if fps else 0.0
        start = [str(at + 1), "0", f"{time:.3f}", "0.00" if gone else "0.98", str(int(not gone)), "0.1"]
        lines.append(separator.join([*start, *(f"{value:.2f}" for value in units), "0.00"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_picture(path: Path, faces: Sequence[tuple[float, np.ndarray]]) -> Path:
    """What FaceLandmarkImg writes of a picture: the confidence and the intensities [17] of every face."""
    names = ["face", "confidence", *(f"{unit}_r" for unit in ACTION_UNITS), "AU28_c"]
    lines = [", ".join(names)]
    for number, (confidence, row) in enumerate(faces):
        lines.append(", ".join([str(number), f"{confidence:.3f}", *(f"{value:.2f}" for value in row), "0.00"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
