"""A small dataset, written once without any video."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from data_pipelines import building, schema

SIZE = 16
CLIPS = {"train": {"anna": (5, 9), "ben": (4,), "cleo": (12, 3, 7)}, "test": {"dora": (6, 5)}}


def small_records(split: str) -> Iterator[dict[str, Any]]:
    """Records whose frames tell (by their colour) which clip and frame they are."""
    number = 0
    for identity, lengths in CLIPS[split].items():
        for part, length in enumerate(lengths):
            pictures = np.full((length, SIZE, SIZE, 3), 20 * number + 10, np.uint8)
            pictures[..., 2] = (np.arange(length) * 12)[:, None, None]
            pictures[:, :, : SIZE // 2, 1] = 240  # left is not right
            yield {
                "clip_id": f"{identity}.mp4/{part:04d}",
                "identity": identity,
                "frames": [simplejpeg.encode_jpeg(picture, 95, "RGB", "444") for picture in pictures],
                "fps": np.float32(25),
                "timestamps": np.arange(length) / 25 + 1e4,
                "bbox": np.array([1, 2, 17, 18], np.float32),
                "landmarks": np.full((length, 68, 2), 0.1 * part, np.float32)
                + 0.01 * np.arange(length, dtype=np.float32)[:, None, None],  # which tell the same
                "audio": np.arange(0 if identity == "ben" else 640 * length).astype(np.int16),
            }
            number += 1


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    building.build(
        out,
        {split: lambda split=split: small_records(split) for split in CLIPS},
        {},
        SIZE,
        schema.REQUIRED | {"landmarks", "audio"},
    )
    return out
